"""What idle keep-alive clients cost in resident memory."""

import resource
import time
from contextlib import ExitStack
from http.client import HTTPConnection

from bench.errors import BenchError
from bench.lab import Lab
from bench.measure import Round, Series
from bench.peers import Contender, running
from bench.requests import HOST

CLIENTS = 10_000
# Open files beside those of the clients. A proxy may count two for each client, so that it always
# has one for the upstream.
SPARE_FILES = 400
# Below the number of ports that Linux gives to one address by default (ip_local_port_range).
CLIENTS_PER_ADDRESS = 5_000
SETTLE_SECONDS = 1.0


def clients_for(open_files: int) -> int:
    """How many clients can be opened where a process may have so many open files."""
    return min(CLIENTS, (open_files - SPARE_FILES) // 2)


def _open_client(port: int, number: int) -> HTTPConnection:
    address = f"127.0.0.{2 + number // CLIENTS_PER_ADDRESS}"
    client = HTTPConnection("127.0.0.1", port, timeout=10, source_address=(address, 0))
    client.request("GET", "/small", headers={"Host": HOST})
    answer = client.getresponse()
    answer.read()
    if answer.status != 200 or client.sock is None:
        client.close()
        raise BenchError(f"idle client {number} got {answer.status} and no kept connection")
    return client


def _measure(lab: Lab, contender: Contender) -> Round:
    count = clients_for(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    with running(lab, contender) as process, ExitStack() as clients:
        time.sleep(SETTLE_SECONDS)
        empty = process.resident_bytes()
        for number in range(count):
            try:
                client = _open_client(process.port, number)
            except OSError as error:
                raise BenchError(f"idle client {number} could not be opened: {error}") from error
            clients.callback(client.close)
        time.sleep(SETTLE_SECONDS)
        full = process.resident_bytes()
    per_client = (full - empty) / count
    return {
        "clients": count,
        "empty_mb": empty / 1e6,
        "full_mb": full / 1e6,
        "bytes_per_client": per_client,
        "added_mb": per_client * CLIENTS / 1e6,
    }


def idle_memory(lab: Lab, contenders: tuple[Contender, ...]) -> tuple[Series, dict[str, str]]:
    """Resident memory of each proxy with idle clients, each after one request.

    It is given for CLIENTS of them, also where the limit of open files allows only fewer.
    """
    series: Series = {}
    failures: dict[str, str] = {}
    for contender in contenders:
        try:
            series[contender.name] = [_measure(lab, contender)]
        except BenchError as error:
            failures[contender.name] = str(error)
    return series, failures

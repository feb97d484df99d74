"""What requests to a name feel while another name hangs.

The edge keeps no upstream connection here, so that each request has to know its name's addresses.
Latency alone and latency beside the requests to the name that hangs are measured in turn, on the
same edge. The name server runs in this program, on the core of the load.
"""

import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import dns.message
import dns.rrset

from bench.crowd import ALONE, reset
from bench.errors import BenchError
from bench.lab import Lab
from bench.load import WARM_UP_SECONDS, measure_round
from bench.measure import Round, Series
from bench.peers import Contender, running
from bench.process import Process
from bench.requests import HOST, VARIED
from edge.routing.store_writer import RouteWriter

BESIDE_HANGING = "fairlead, beside a name that hangs"

# Few, so that the latency is the edge's and not that of a queue.
CONNECTIONS = 8

GOOD = "shop.internal"
TTL_SECONDS = 1
HANGING_HOST = "hanging.example.test"
HANGING_PER_SECOND = 20
WAITING = 512  # requests to the name that hangs that may be unanswered at one time

_HANGING = f"GET /small HTTP/1.1\r\nHost: {HANGING_HOST}\r\nConnection: close\r\n\r\n".encode()


class _NameServer:
    """Answers for one name, and to no other question."""

    def __init__(self) -> None:
        self._socket = socket.socket(type=socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._run, name="name server")
        self._thread.start()

    def stop(self) -> None:
        # Its thread waits for a datagram; one that is no question ends it.
        self._socket.sendto(b"", ("127.0.0.1", self.port))
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        while True:
            raw, sender = self._socket.recvfrom(4096)
            if not raw:
                return
            answer = dns.message.make_response(dns.message.from_wire(raw))
            (question,) = answer.question
            if question.name.to_text(omit_final_dot=True) != GOOD:
                continue
            if question.rdtype.name == "A":
                answer.answer.append(
                    dns.rrset.from_text(question.name, TTL_SECONDS, "IN", "A", "127.0.0.1")
                )
            self._socket.sendto(answer.to_wire(), sender)


@contextmanager
def _name_server() -> Iterator[int]:
    server = _NameServer()
    try:
        yield server.port
    finally:
        server.stop()


@contextmanager
def _hanging_requests(port: int) -> Iterator[None]:
    """HANGING_PER_SECOND requests to the name that hangs, each on a connection of its own."""
    over = threading.Event()
    failures: list[OSError] = []

    def run() -> None:
        waiting: list[socket.socket] = []
        try:
            while not over.wait(1 / HANGING_PER_SECOND):
                waiting.append(socket.create_connection(("127.0.0.1", port), timeout=10))
                waiting[-1].sendall(_HANGING)
                for connection in waiting[:-WAITING]:
                    reset(connection)
                del waiting[:-WAITING]
        except OSError as error:
            failures.append(error)
        finally:
            for connection in waiting:
                reset(connection)

    thread = threading.Thread(target=run, name="hanging requests")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if failures:
        raise BenchError(f"the requests to the name that hangs broke off: {failures[0]}")


def _round(lab: Lab, process: Process) -> Round:
    return measure_round(lab, process, VARIED, CONNECTIONS, lab.effort.seconds)


def beside_hanging(lab: Lab, contenders: tuple[Contender, ...]) -> tuple[Series, dict[str, str]]:
    """Latency of a route with a good name, with and without requests to one that hangs."""
    (contender,) = contenders
    series: Series = {ALONE: [], BESIDE_HANGING: []}
    with _name_server() as port:
        settings = (
            ("FAIRLEAD_RESOLVER", f"127.0.0.1:{port}"),
            ("FAIRLEAD_POOL_SIZE", "0"),
        )
        with running(lab, replace(contender, settings=settings)) as process:
            writer = RouteWriter(process.folder / "routes.db")
            writer.set(HANGING_HOST, f"hanging.internal:{lab.origin.port}")
            writer.set(HOST, f"{GOOD}:{lab.origin.port}")
            process.signal(signal.SIGHUP)
            time.sleep(WARM_UP_SECONDS)  # the change is served, and the first lookup done
            measure_round(lab, process, VARIED, CONNECTIONS, WARM_UP_SECONDS)
            for number in range(lab.effort.rounds):
                # As often first as second, because machines grow slower and faster.
                for who in (ALONE, BESIDE_HANGING)[:: 1 if number % 2 else -1]:
                    if who == ALONE:
                        series[who].append(_round(lab, process))
                        continue
                    with _hanging_requests(process.port):
                        series[who].append(_round(lab, process))
    return series, {}

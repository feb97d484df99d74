"""Load by wrk: one run, and rounds in turn over several contenders."""

import hashlib
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench.errors import BenchError
from bench.lab import Lab
from bench.measure import Round, Series, WrkResult, parse_wrk
from bench.peers import Contender, running
from bench.process import Process
from bench.requests import Request

WARM_UP_SECONDS = 1
LONG_SECONDS = 600  # of a load that is ended from outside
# wrk closes its connections in the middle of requests when its time is over; beyond that, an error
# is the proxy's, and what was measured is not what was meant.
TOLERATED_ERRORS = 0.001


def wrk_command(script: str, port: int, connections: int, seconds: int) -> list[str]:
    return [
        "wrk",
        "--threads=1",
        f"--connections={connections}",
        f"--duration={seconds}s",
        "--timeout=10s",
        f"--script={script}",
        f"http://127.0.0.1:{port}/",
    ]


def written(lab: Lab, request: Request) -> str:
    """The file with a request's script, for `wrk_command`."""
    # A script for each request: several loads may be under way.
    script = lab.folder / f"{hashlib.sha256(request.script.encode()).hexdigest()}.lua"
    script.write_text(request.script)
    return str(script)


@contextmanager
def background_load(lab: Lab, request: Request, port: int, connections: int) -> Iterator[None]:
    """Load a port for as long as the block lasts; BenchError if wrk ended before."""
    command = wrk_command(written(lab, request), port, connections, LONG_SECONDS)
    load = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603  a list of ours
    try:
        yield
        if load.poll() is not None:
            raise BenchError(f"wrk ended with {load.returncode} while its load was needed")
    finally:
        load.terminate()
        load.wait()


def run_wrk(lab: Lab, request: Request, port: int, connections: int, seconds: int) -> WrkResult:
    """Load a port; raises BenchError if answers were wrong or requests failed."""
    command = wrk_command(written(lab, request), port, connections, seconds)
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30)  # noqa: S603  a list of ours
    if done.returncode != 0:
        raise BenchError(
            f"wrk ended with {done.returncode}: {(done.stderr or done.stdout).strip()}"
        )
    result = parse_wrk(done.stdout)
    if result.requests == 0:
        raise BenchError(f"no request of {connections} connections was answered in {seconds} s")
    if result.bad_statuses:
        raise BenchError(f"{result.bad_statuses} of {result.requests} answers were errors")
    if result.socket_errors > TOLERATED_ERRORS * result.requests + 1:
        raise BenchError(f"{result.socket_errors} connections failed ({result.requests} answers)")
    return result


def measure_round(
    lab: Lab, process: Process, request: Request, connections: int, seconds: int
) -> Round:
    """What one run of wrk costs a proxy, times per request in us."""
    before = process.cpu_seconds()
    result = run_wrk(lab, request, process.port, connections, seconds)
    spent = process.cpu_seconds() - before
    return {
        "requests": result.requests,
        "answer_bytes": result.bytes / result.requests,
        "requests_per_second": result.requests / result.seconds,
        "cpu_us": spent / result.requests * 1e6,
        "p50_us": result.p50_us,
        "p99_us": result.p99_us,
        "socket_errors": result.socket_errors,
    }


def rounds_in_turn(
    lab: Lab,
    contenders: tuple[Contender, ...],
    requests: dict[str, Request],
    connections: int,
) -> tuple[Series, dict[str, str]]:
    """Measure contenders in rounds, each round in another order; `requests` is by contender.

    Returns the series, and for each contender that failed the reason: it is left out, because
    rounds that are missing could not be compared.
    """
    series: Series = {}
    failures: dict[str, str] = {}
    with ExitStack() as stack:
        processes: dict[str, Process] = {}

        def attempt(name: str, seconds: int) -> Round | None:
            try:
                return measure_round(lab, processes[name], requests[name], connections, seconds)
            except BenchError as error:
                failures[name] = str(error)
                del processes[name]
                return None

        for contender in contenders:
            try:
                processes[contender.name] = (
                    lab.origin
                    if contender.program == "direct"
                    else stack.enter_context(running(lab, contender))
                )
            except BenchError as error:
                failures[contender.name] = str(error)
        for name in list(processes):
            attempt(name, WARM_UP_SECONDS)
        for number in range(lab.effort.rounds):
            order = list(processes)
            turn = number % max(len(order), 1)
            for name in order[turn:] + order[:turn]:
                taken = attempt(name, lab.effort.seconds)
                if taken is not None:
                    series.setdefault(name, []).append(taken)
    kept = {c.name: series[c.name] for c in contenders if c.name not in failures}
    return kept, failures

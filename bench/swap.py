"""A route changes while the edge is under load: when it is served, and what the others feel."""

import signal
import time
from http.client import HTTPConnection, HTTPException

from bench.errors import BenchError
from bench.lab import Lab
from bench.load import background_load
from bench.measure import Series
from bench.peers import Contender, running
from bench.requests import VARIED
from edge.routing.store_writer import RouteWriter

CHANGED = "app50000.example.test"
CONNECTIONS = 64
PROBE_SECONDS = 0.001
WATCH_SECONDS = 0.5
GIVE_UP_SECONDS = 5.0

SERVED = "new target served"
PAUSE_SWAP = "longest wait, route changed"
PAUSE_QUIET = "longest wait, nothing changed"


class _Probe:
    """One client that asks for the changed host once every PROBE_SECONDS."""

    def __init__(self, port: int) -> None:
        self._connection = HTTPConnection("127.0.0.1", port, timeout=GIVE_UP_SECONDS)
        self._connection.connect()
        self._connection.auto_open = 0  # a connection that the edge cuts is a failure

    def _ask(self) -> int:
        try:
            self._connection.request("GET", "/which", headers={"Host": CHANGED})
            answer = self._connection.getresponse()
            body = answer.read()
        except (OSError, HTTPException) as error:
            raise BenchError(f"the probe failed under load: {error!r}") from error
        if answer.status != 200:
            raise BenchError(f"the probe was answered with {answer.status} under load")
        return int(body)

    def watch(self, seconds: float, target: int) -> tuple[float, float | None]:
        """Probe for some seconds, and on until `target` answers.

        Returns the longest time that one probe waited for its answer, and how long after the
        start the first answer of `target` came.
        """
        begin = asked = time.monotonic()
        longest, served = 0.0, None
        while asked - begin < seconds or (served is None and asked - begin < GIVE_UP_SECONDS):
            answer = self._ask()
            answered = time.monotonic()
            longest = max(longest, answered - asked)
            if served is None and answer == target:
                served = answered - begin
            time.sleep(max(0.0, asked + PROBE_SECONDS - answered))
            asked = time.monotonic()
        return longest, served

    def close(self) -> None:
        self._connection.close()


def swap_under_load(lab: Lab, contenders: tuple[Contender, ...]) -> tuple[Series, dict[str, str]]:
    """Change one route of many, again and again, while wrk asks for another host.

    The edge is told by SIGHUP after the writer's commit; the time counts from the signal.
    """
    (contender,) = contenders
    series: Series = {SERVED: [], PAUSE_SWAP: [], PAUSE_QUIET: []}
    targets = [lab.origin.port, lab.other_origin]
    with (
        running(lab, contender) as process,
        background_load(lab, VARIED, process.port, CONNECTIONS),
    ):
        writer = RouteWriter(process.folder / "routes.db")
        probe = _Probe(process.port)
        try:
            probe.watch(2 * WATCH_SECONDS, targets[0])  # the load has begun, all is warm
            for number in range(lab.effort.swaps):
                quiet, _ = probe.watch(WATCH_SECONDS, targets[number % 2])
                target = targets[(number + 1) % 2]
                writer.set(CHANGED, f"127.0.0.1:{target}")
                process.signal(signal.SIGHUP)
                pause, served = probe.watch(WATCH_SECONDS, target)
                if served is None:
                    raise BenchError(f"the change was not served within {GIVE_UP_SECONDS:.0f} s")
                series[SERVED].append({"ms": served * 1e3})
                series[PAUSE_SWAP].append({"ms": pause * 1e3})
                series[PAUSE_QUIET].append({"ms": quiet * 1e3})
        except BenchError as error:
            return {}, {contender.name: str(error)}
        finally:
            probe.close()
    return series, {}

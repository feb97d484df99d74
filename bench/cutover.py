"""How long a change takes that is told over the control socket, as `fairlead route set` tells it.

The time counts from before the write; it ends with the first answer after the acknowledgement.
Every answer after that must be of the new target, whichever worker gives it.
"""

import time
from http.client import HTTPConnection, HTTPException

from bench.errors import BenchError
from bench.lab import Lab
from bench.measure import Series
from bench.peers import Contender, running
from bench.requests import HOST
from edge.control.client import request
from edge.errors import EdgeError
from edge.routing.store_writer import RouteWriter

SERVED = "from the write to the new target's answer"
WRITTEN = "of it the write"
ACKNOWLEDGED = "of it the reload, as the client sees it"
RELOADED = "of it the reload, as the edge says"

GIVE_UP_SECONDS = 5.0
# Connections are dealt to the workers by the kernel: with two, one of these is as good as certain
# to be with each.
LOOKS = 8


def _target_of(port: int) -> int:
    """The origin's port that answers a new client."""
    connection = HTTPConnection("127.0.0.1", port, timeout=GIVE_UP_SECONDS)
    try:
        connection.request("GET", "/which", headers={"Host": HOST})
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, HTTPException) as error:
        raise BenchError(f"a request after a change failed: {error!r}") from error
    finally:
        connection.close()
    if answer.status != 200:
        raise BenchError(f"a request after a change was answered with {answer.status}")
    return int(body)


def acknowledged_changes(
    lab: Lab, contenders: tuple[Contender, ...]
) -> tuple[Series, dict[str, str]]:
    """Change the route to and fro, with nobody else there."""
    (contender,) = contenders
    series: Series = {SERVED: [], WRITTEN: [], ACKNOWLEDGED: [], RELOADED: []}
    targets = [lab.origin.port, lab.other_origin]
    with running(lab, contender) as process:
        database = process.folder / "routes.db"
        control = database.with_suffix(".sock")
        writer = RouteWriter(database)
        for number in range(lab.effort.changes):
            target = targets[(number + 1) % 2]
            begun = time.monotonic()
            version = writer.set(HOST, f"127.0.0.1:{target}")
            written = time.monotonic()
            try:
                said = request(control, "POST", "/reload", {"version": version})
            except EdgeError as error:
                raise BenchError(f"the change was not acknowledged: {error}") from error
            if said is None:
                raise BenchError(f"no edge listens at {control}")
            acknowledged = time.monotonic()
            answers = [_target_of(process.port)]
            served = time.monotonic()
            answers += [_target_of(process.port) for _ in range(LOOKS)]
            if set(answers) != {target}:
                raise BenchError("a change was acknowledged, but the old target still answers")
            series[SERVED].append({"ms": (served - begun) * 1e3})
            series[WRITTEN].append({"ms": (written - begun) * 1e3})
            series[ACKNOWLEDGED].append({"ms": (acknowledged - written) * 1e3})
            series[RELOADED].append({"ms": said["milliseconds"]})
    return series, {}

"""Proves that whatever is killed, stopped or told to end at whatever moment, a new edge starts, no
process is left behind, and no socket that nobody accepts from.
"""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.control.client import request as ask_control
from edge.errors import EdgeError
from edge.routing.store_writer import RouteWriter
from tests.edge.supervisor.faults import until_none_is_left
from tests.harness import Conversation, connect
from tests.messages import request
from tests.process import LOOK_SECONDS, PATIENCE, Origin, is_alive, is_worker, processes_of
from tests.programs import free_port

SIGNALS = (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM)
MAX_PAUSE = 0.7
"""Seconds between two signals, at most: a start and an upgrade take about as long."""


class Chaos:
    """Edges of one database on one port, one after the other; `random` decides what happens."""

    def __init__(self, db: Path, origin: Origin, random: random.Random) -> None:
        self.db = db
        self.control = db.with_suffix(".sock")
        self.port = free_port()
        self.random = random
        self.started: list[subprocess.Popen[bytes]] = []
        self._origin = origin
        self._log = (db.parent / "log").open("ab")

    def starts(self) -> None:
        """Start an edge."""
        environment = {
            "FAIRLEAD_DB": str(self.db),
            "FAIRLEAD_HTTP_ADDR": f"127.0.0.1:{self.port}",
            "FAIRLEAD_ADMIN_ADDR": "127.0.0.1:0",
            "FAIRLEAD_WORKERS": "2",
            "FAIRLEAD_DRAIN_TIMEOUT": "1",
        }
        command = [sys.executable, "-m", "edge"]
        self.started.append(
            subprocess.Popen(command, env={**os.environ, **environment}, stderr=self._log)
        )

    def alive(self) -> list[int]:
        """The processes of all edges."""
        for popen in self.started:
            popen.poll()
        return sorted(pid for pid in processes_of(self.db) if is_alive(pid))

    def supervisors(self) -> list[int]:
        """Those that are no workers."""
        return [pid for pid in self.alive() if not is_worker(pid)]

    def step(self) -> str:
        """One thing more goes wrong; which."""
        time.sleep(self.random.uniform(0, MAX_PAUSE))
        supervisors = self.supervisors()
        if not supervisors:
            self.starts()
            return "start"
        if self.random.random() < 0.3:
            number = self.random.choice((signal.SIGUSR2, signal.SIGHUP, signal.SIGUSR1))
            pid = self.random.choice(supervisors)
        else:
            number = self.random.choice(SIGNALS)
            pid = self.random.choice(self.alive())
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        return f"{number.name} to {'supervisor' if pid in supervisors else 'worker'} {pid}"

    def ends(self) -> None:
        """Kill what an operator would: every supervisor that is left, stopped ones too."""
        while supervisors := self.supervisors():
            for pid in supervisors:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(LOOK_SECONDS)

    def serves_again(self, conversation: Conversation) -> None:
        """A new edge serves, and nothing is left but that."""
        self.starts()
        new = self.started[-1]
        deadline = time.monotonic() + PATIENCE
        while (family := self._family()) is None:
            assert new.poll() is None, (self.db.parent / "log").read_text()[-2000:]
            assert time.monotonic() < deadline, "no new edge serves"
            time.sleep(LOOK_SECONDS)
        assert new.pid in family
        until_none_is_left(self.db, *family)
        for _ in range(20):
            client = connect(conversation, ("127.0.0.1", self.port))
            client.sends(request("GET /", "Connection: close", host="origin.test"))
            assert client.receives_response().text == self._origin.port
        new.terminate()
        assert new.wait(PATIENCE) == 0
        assert self.alive() == []
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", self.port))

    def closes(self) -> None:
        """Leave nothing of the test behind, either."""
        for pid in self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for popen in self.started:
            popen.wait(PATIENCE)
        self._log.close()

    def _family(self) -> set[int] | None:
        """The processes of the edge that serves."""
        with contextlib.suppress(EdgeError):
            said = ask_control(self.control, "GET", "/workers")
            if said is not None:
                return {said["pid"], *(worker["pid"] for worker in said["workers"])}
        return None


@pytest.fixture
def chaos(
    conversation: Conversation, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Chaos]:
    """A database with one route; the parameter is the seed, None: another one each time."""
    seed = request.param if request.param is not None else random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")  # pytest shows it when the test fails
    origin = Origin(conversation)
    db = tmp_path / "fairlead.db"
    RouteWriter(db).set("origin.test", origin.target)
    chaos = Chaos(db, origin, random.Random(seed))
    yield chaos
    chaos.closes()


@pytest.mark.parametrize("chaos", [1, 2], indirect=True)
def test_a_few_signals_at_any_moment(chaos: Chaos, conversation: Conversation) -> None:
    for _ in range(8):
        print(chaos.step())
    chaos.ends()
    chaos.serves_again(conversation)


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize("chaos", [None] * 4, indirect=True)
def test_fifty_signals_at_any_moment(chaos: Chaos, conversation: Conversation) -> None:
    for _ in range(50):
        print(chaos.step())
    chaos.ends()
    chaos.serves_again(conversation)

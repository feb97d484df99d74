"""Owns one world of the model: a machine with an edge, an orchestrator, a Docker Engine and a
database, everything that is done to it, and what must hold at every moment.
"""

import asyncio
import contextvars
import os
import random
import signal
import sqlite3
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

from edge.errors import FairleadError, RouteError, StoreError
from edge.routing.snapshot_file import SnapshotFile
from edge.routing.store_writer import RouteWriter
from edge.routing.table import Normalized
from edge.supervisor.supervisor import Supervisor
from edge.worker.last_good_table import SAVE_INTERVAL
from edge.worker.worker import Worker
from orchestrator.deploys.queue import DeployQueue
from orchestrator.edge_client import EdgeClient
from orchestrator.engine.container import LABEL_APP
from orchestrator.model import DeployRequest
from tests.model import boundary
from tests.model.disk import Disk
from tests.model.docker import Box, Docker
from tests.model.kernel import Kernel, PairEnd, Process
from tests.model.names import APPS, HOSTS, UPSTREAMS, WIDER, host_of
from tests.model.programs import (
    ReportingClient,
    edge_program,
    orchestrator_program,
)
from tests.model.rest import (
    Violation,
    check_answers,
    check_containers,
    check_processes,
    target_of,
)
from tests.model.routes import Routes
from tests.model.rules import Rules

# Seconds after which the init of the machine starts again what has ended.
RESPAWN: Final = 1.0
# Seconds that everything may take to come to rest, and between two looks whether it has.
REST: Final = 180.0
LOOK: Final = 2.0


class World:
    """`folder` is empty; `seed` decides how long everything takes."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.db = folder / "fairlead.db"
        self.state = folder / "fairlead.state.db"
        self.control = folder / "fairlead.sock"
        self.kernel = Kernel(random.Random(seed), self._observe)
        self.docker = Docker(self.kernel)
        self.routes = Routes()
        self.disk = Disk(self.db, self.kernel.chance)
        self.code = "good"  # of the edge, on disk
        self.respawns = True
        self.adopting = False  # what an operator has asked for, and not got yet
        self.queue: DeployQueue | None = None
        self.instance = ""
        self.settled: set[str] = set()  # apps that must answer
        self.stopped_by_hand: set[str] = set()  # containers
        self.rules = Rules()
        self.given_up = 0  # the last deploy whose route may be in a database that was given up
        self._descriptors: list[int] = []
        self._violation = ""
        self._numbers = 0
        boundary.enter(self)
        try:
            self.start_edge()
            self.start_orchestrator()
            self.run(1.0)
            self.change_route(HOSTS[0], UPSTREAMS[0], "set")
            self.change_route(WIDER, UPSTREAMS[0], "set")
            # The table is on the disk a second after it is served: before, nothing tells the
            # database that it came from, and one that is lost may be begun anew.
            self.run(0.5 + SAVE_INTERVAL)
        except BaseException:
            self.close()  # nobody else could
            raise

    def close(self) -> None:
        """Nothing is left of it, also of one that is broken."""
        try:
            self.kernel.take_apart()
        finally:
            for descriptor in self._descriptors:
                with suppress(OSError):
                    os.close(descriptor)

    def keep(self, descriptors: Sequence[int]) -> Sequence[int]:
        """They are closed with the world."""
        self._descriptors += descriptors
        return descriptors

    def blame(self, fault: str) -> None:
        """A program says of itself that it is broken."""
        if not self.kernel.loop.is_over:
            self.kernel.faults.append(fault)

    @property
    def is_broken(self) -> bool:
        """Whether something was found that must not be."""
        return bool(self._violation or self.kernel.faults)

    def run(self, seconds: float) -> None:
        """Let time pass. Raises Violation."""
        self.kernel.loop.run_for(seconds)
        self._observe()
        if self.kernel.faults:
            raise Violation(f"a program is broken: {self.kernel.faults}")
        if self._violation:
            raise Violation(self._violation)

    # The programs

    def start_edge(self) -> None:
        """By the init of the machine, which starts it again whenever it ends."""
        if self.kernel.living("edge"):
            return
        process = self.kernel.spawn("edge")
        process.begin(edge_program(self, process))
        self._starts_cold()

    def _starts_cold(self) -> None:
        """An edge that has nothing in memory has the table of the disk, up to a second old."""
        if self.disk.fault and not self.serving():
            header = SnapshotFile(self.db).header()
            self.routes.starts_from_disk(0 if header is None else header.version)

    def start_orchestrator(self) -> None:
        """As `start_edge`."""
        if self.kernel.living("orchestrator"):
            return
        process = self.kernel.spawn("orchestrator")
        process.at_end.append(lambda: setattr(self, "queue", None))
        process.begin(orchestrator_program(self, process))

    def respawn(self) -> None:
        """What the init of the machine does."""
        if self.respawns and not self.kernel.loop.is_over:
            self.start_edge()
            self.start_orchestrator()

    def respawn_soon(self) -> None:
        """A program has ended."""
        self.kernel.loop.call_later(RESPAWN, self.respawn, context=contextvars.Context())

    # What is done to it

    def _command(self, program: Callable[[], Coroutine[Any, Any, int]]) -> Process:
        process = self.kernel.spawn("command")
        process.begin(program)
        return process

    def change_route(self, host: str, target: str | None, way: str) -> None:
        """`fairlead route set` or `rm`, or a retarget: written, and then asked to be served."""

        async def run() -> int:
            writer = RouteWriter(self.db)
            try:
                version = await asyncio.get_running_loop().run_in_executor(
                    None, self._write, writer, host, target, way
                )
            except (StoreError, RouteError):
                return 1
            with suppress(FairleadError):
                await ReportingClient(self.control).reload(version)
            return 0

        self._command(run)

    def _write(self, writer: RouteWriter, host: str, target: str | None, way: str) -> int:
        if target is None:
            version = writer.remove(host)
        elif way == "retarget":
            version = writer.retarget({host: target})
        else:
            version = writer.set(host, target)
        self.routes.written(version, host, target)
        return version

    def protect(self, app: str, rules: Mapping[str, object]) -> None:
        """`fairlead route update`, of an app's route, if there is one."""

        def write(writer: RouteWriter) -> int:
            version = writer.change(host_of(app), rules)
            self.rules.changed(host_of(app), version, rules)
            return version

        async def run() -> int:
            try:
                version = await asyncio.get_running_loop().run_in_executor(
                    None, write, RouteWriter(self.db)
                )
            except (StoreError, RouteError):
                return 1
            with suppress(FairleadError):
                await ReportingClient(self.control).reload(version)
            return 0

        self._command(run)

    def deploy(self, app: str) -> None:
        """A push."""
        self._numbers += 1
        commit = f"{self._numbers:040x}"
        request = DeployRequest(app, "cli", app, f"https://git.test/{app}", commit=commit)
        self._ask_orchestrator(lambda queue: queue.submit(request))

    def remove_app(self, app: str) -> None:
        """`fairlead apps rm`."""
        self.settled.discard(app)
        self._ask_orchestrator(lambda queue: queue.remove_app(app))

    def _ask_orchestrator(self, ask: Callable[[DeployQueue], Coroutine[Any, Any, object]]) -> None:
        queue = self.queue
        if queue is None:
            return

        async def run() -> None:
            with suppress(FairleadError):
                await ask(queue)

        (process,) = self.kernel.living("orchestrator")
        self.kernel.loop.create_task(run(), context=process.context)

    def ask_edge(self, path: str, **fields: object) -> None:
        """`fairlead edge upgrade`, `fairlead route adopt`."""

        async def run() -> int:
            with suppress(FairleadError):
                answer = await EdgeClient(self.control)._post(path, fields)
                if path == "/adopt" and answer is not None:
                    self.adopting = False
            return 0

        self._command(run)

    def lose_database(self, fault: str) -> None:
        """It is missing, or something else is in its place."""
        self.disk.lose(fault)
        self._starts_cold()

    def return_database(self) -> None:
        """The operator brings it back, and restarts what may have opened something else."""
        if self.disk.fault:
            self.disk.give_back()
            self.restart_orchestrator()

    def adopt_database(self) -> None:
        """`fairlead route adopt`: what is there counts from now on."""
        if self.disk.fault == "other":
            self.disk.keep_other()
            self.rules = Rules()
            self.routes.replaced(self.disk.other)
            ((last,),) = self.read("SELECT coalesce(max(id), 0) FROM deploys")
            self.given_up = last
            self.settled.clear()
            self.restart_orchestrator()
            self.adopting = True
            self.ask_edge("/adopt", timeout=10.0)

    def restart_orchestrator(self) -> None:
        """Killed in the middle of what it does; init starts it again."""
        for process in self.kernel.living("orchestrator"):
            process.signal(signal.SIGKILL)

    def disturb(self) -> None:
        """Apps may be away for a moment."""
        self.settled.clear()

    def stop_container(self, box: Box) -> None:
        """`docker stop`."""
        self.disturb()
        self.stopped_by_hand.add(box.id)
        self.docker.stop(box)

    def start_container(self, number: str) -> None:
        """`docker start`, which may be refused."""
        box = self.docker.boxes.get(number)
        if box is not None and self.docker.is_up:
            self.disturb()
            with suppress(OSError):
                self.docker.run(box)
                box.was_stopped = False
                self.stopped_by_hand.discard(number)

    def run_stranger(self, app: str) -> None:
        """A container that is nobody's, in the network of an app; the engine chooses where."""
        docker = self.docker
        for network in docker.networks.values():
            if docker.is_up and network.labels.get(LABEL_APP) == app:
                self._numbers += 1
                body = {
                    "Image": "stranger",
                    "ExposedPorts": {"8080/tcp": {}},
                    "Labels": {},
                    "HostConfig": {"NetworkMode": network.name, "PortBindings": {}},
                    "NetworkingConfig": {"EndpointsConfig": {}},
                }
                box = docker.make(body, f"stranger-{self._numbers}")
                box.policy = "unless-stopped"
                docker.run(box)
                return

    def reboot(self) -> None:
        """Power off, and on again."""
        self.kernel.power_off()
        self.docker.power_off()
        self.kernel.boot += 1
        self.settled.clear()
        self.kernel.locks.clear()

    # What must hold

    def accepting(self) -> list[tuple[Process, Worker]]:
        """The workers that can answer a new client: a stopped one answers nobody."""
        found = []
        for listener in self.kernel.listeners.get(boundary.HTTP, []):
            for process in listener.acceptors:
                assert isinstance(process.serves, Worker)
                if not process.is_stopped:
                    found.append((process, process.serves))
        return found

    def serving(self) -> list[tuple[Process, Worker]]:
        """Those of an edge that serves.

        One that was stopped while its edge ended or handed over drains as soon as it has read that
        it shall: nobody waits for it where a change is acknowledged.
        """
        return [each for each in self.accepting() if _is_in_charge(each[0].parent)]

    def _observe(self) -> None:
        if self._violation or self.kernel.loop.is_over:
            return
        for process, worker in self.accepting():
            reason = self._wrong_answer(worker)
            if not reason and _is_in_charge(process.parent):
                reason = self._fault_of(worker)
            if reason:
                at = self.kernel.loop.time()
                self._violation = f"at {at:.3f} s, {process}: {reason}"
                return

    def _wrong_answer(self, worker: Worker) -> str:
        if worker.state.table is not None:
            for app in APPS:
                answer = self.answer(worker, app)
                if answer not in (app, "404", "502", "503", WIDER):
                    return f"a request to {app} is answered by {answer}"
            if not self.routes.are_doubtful:
                return self.rules.fault_of(worker.state.table, map(host_of, APPS))
        return ""

    def _fault_of(self, worker: Worker) -> str:
        table = worker.state.table
        if table is None:
            if self.routes.acknowledged and self._has_table(worker):
                return "it answers 503 without a table"
            return ""
        if table.version < self.routes.acknowledged:
            return (
                f"version {self.routes.acknowledged} was acknowledged, and it serves"
                f" {table.version}"
            )
        for host in HOSTS:
            target = target_of(table, host)
            allowed = self.routes.allowed(host, table.version)
            if target not in allowed:
                return f"{host} leads to {target} in version {table.version}, not to {allowed}"
        for app in self.settled:
            answer = self.answer(worker, app)
            if answer != app:
                return f"a request to {app}, which runs undisturbed, is answered {answer}"
        return ""

    def answer(self, worker: Worker, app: str) -> str:
        """Which app answers a request to this one, or the status."""
        state = worker.state
        assert state.table is not None
        route = state.table.match(host_of(app), b"/")
        assert not isinstance(route, Normalized)  # the path is clean
        if route is None:
            return "404"
        if route.key == WIDER:
            return WIDER
        if route.why_unavailable(state.boot):
            return "503"
        (address,) = route.targets
        if any(target.address == address for target in state.draining_targets):
            return "503"
        box = self.docker.answers(address)
        return "502" if box is None else box.app

    def _has_table(self, worker: Worker) -> bool:
        """Whether there is one anywhere that a worker could serve."""
        return (
            (self.routes.are_written and not self.disk.fault)
            or SnapshotFile(self.db).header() is not None
            or worker.last_good._memory.header() is not None
        )

    # At rest

    def come_to_rest(self) -> None:
        """Everything that was taken away comes back, and time passes. Raises Violation."""
        self.code = "good"
        self.respawns = True
        for process in self.kernel.living():
            if process.program != "worker":
                process.signal(signal.SIGCONT)
        for end in self.kernel.ends:
            if isinstance(end, PairEnd):
                end.delay = 0.0
        self.return_database()
        self.docker.policies_work = True
        self.docker.starts()
        self.respawn()
        deadline = self.kernel.loop.time() + REST
        while True:
            if self.adopting:
                self.ask_edge("/adopt", timeout=10.0)
            self.run(LOOK)
            try:
                check_processes(self)
                check_containers(self)
                check_answers(self)
            except Violation:
                if self.kernel.loop.time() > deadline:
                    raise
            else:
                return

    def live(self) -> dict[str, str]:
        """The container of each app that has a live deploy."""
        return dict(
            self.read("SELECT apps.name, container_id FROM apps JOIN deploys ON live_deploy = id")
        )

    def apps(self) -> set[str]:
        return {name for (name,) in self.read("SELECT name FROM apps")}

    def read(self, sql: str) -> list[Any]:
        with closing(sqlite3.connect(self.state)) as connection:
            return connection.execute(sql).fetchall()


def _is_in_charge(edge: Process | None) -> bool:
    return (
        edge is not None
        and isinstance(edge.serves, Supervisor)
        and not edge.serves._succession.handed_over
    )

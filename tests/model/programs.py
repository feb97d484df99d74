"""Owns the programs that run on the simulated machine: the real ones, with what they are given."""

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import edge.control.lifeline
from edge.errors import ConfigError, StoreError
from edge.routing.store_writer import RouteWriter
from edge.supervisor.supervisor import Supervisor
from edge.worker.process import WorkerProcess
from orchestrator.deploys.app_links import AppLinks
from orchestrator.deploys.app_networks import AppNetworks
from orchestrator.deploys.context import DeployServices
from orchestrator.deploys.log import DeployLogs
from orchestrator.deploys.queue import DeployQueue
from orchestrator.edge_client import EdgeClient
from orchestrator.metrics import Metrics
from orchestrator.security.redact import Redactor
from orchestrator.settings import load
from orchestrator.source.git import Git
from orchestrator.store.store import Store
from tests.model import boundary
from tests.model.engine import SimulatedEngine
from tests.model.kernel import PairEnd, Process, Program

if TYPE_CHECKING:
    from tests.model.world import World

WORKERS = 2


def edge_program(world: "World", process: Process) -> Program:
    """`fairlead edge`, of the code that is on disk now."""
    code = world.code
    process.at_end.append(world.respawn_soon)
    texts = {
        "db": str(world.db),
        "control_socket": str(world.control),
        "workers": str(WORKERS),
        "access_log": "off",
        "drain_timeout": "5",
    }

    async def run() -> int:
        if code == "broken":
            return 1
        process.serves = supervisor = Supervisor(texts)
        try:
            supervisor.open()
            return await supervisor.run()
        except ConfigError:
            return 2

    return run


def worker_program(world: "World", process: Process, channel: int) -> Program:
    """`python -m edge.worker`, of the code that is on disk now."""
    hangs = world.code == "hangs"

    async def run() -> int:
        edge.control.lifeline.resume_with_parent()
        if hangs:
            process.hang()
            await asyncio.sleep(0)
        end = world.kernel.adopt(channel)
        assert isinstance(end, PairEnd)
        return await WorkerProcess().run(end)  # type: ignore[arg-type]

    return run


def orchestrator_program(world: "World", process: Process) -> Program:
    """`fairlead orchestrator`, without its HTTP."""
    process.at_end.append(world.respawn_soon)

    async def run() -> int:
        try:
            store = await Store.open(world.state, world.db)
        except StoreError:
            return 1
        flags = {
            "db": str(world.db),
            "control_socket": str(world.control),
            "drain_timeout": "2",
            "health_timeout": "5",
        }
        settings = load(flags, {})
        redactor = Redactor()
        engine = SimulatedEngine(store.instance, world.docker)
        networks = AppNetworks(settings, engine, store.leases)
        services = DeployServices(
            settings=settings,
            instance=store.instance,
            engine=engine,
            apps=store.apps,
            networks=networks,
            links=AppLinks(engine, networks, store),
            git=SimulatedGit(timeout=10, max_bytes=2**20, submodules=False, redactor=redactor),
            edge=ReportingClient(world.control),
            routes=RouteWriter(world.db),
            routes_lock=asyncio.Lock(),
        )
        logs = DeployLogs(settings.logs_folder, redactor)
        queue = DeployQueue(services, store, logs, redactor, Metrics())
        await queue.start()
        world.queue, world.instance = queue, store.instance
        stop = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
        await stop.wait()
        await queue.stop()
        await store.close()
        return 0

    return run


class ReportingClient(EdgeClient):
    """What an edge acknowledges is held against it from then on."""

    async def reload(self, version: int) -> Any:
        world = boundary.here()
        lineage = world.routes.lineage
        answer = await super().reload(version)
        if answer is not None and lineage == world.routes.lineage:
            world.routes.acknowledge(version)
            world.kernel.changed = True
        return answer


class SimulatedGit(Git):
    """A repository with nothing but a Dockerfile."""

    async def clone(self, source: Any, folder: Path, on_line: Any) -> str:
        await asyncio.sleep(0.2)
        _write_source(folder)
        return source.commit or "a" * 40

    async def dirty_files(self, url: str) -> int:
        return 0


def _write_source(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "Dockerfile").write_text("FROM scratch\n")

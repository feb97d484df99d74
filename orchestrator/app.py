"""Owns the life of the daemon: from the lock on its database to the last step of a deploy."""

import asyncio
import fcntl
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Final

from edge.errors import FairleadError
from edge.route_store import RouteWriter
from orchestrator import logs
from orchestrator.access import Access, api_token
from orchestrator.config import Settings
from orchestrator.config_syntax import Address
from orchestrator.deploy_log import DeployLogs
from orchestrator.deployer import Deployer
from orchestrator.docker_engine import Engine
from orchestrator.edge_client import EdgeClient
from orchestrator.errors import OrchestratorError
from orchestrator.git import Git
from orchestrator.inbox import Inbox
from orchestrator.masker import Masker
from orchestrator.metrics import Metrics
from orchestrator.parts import ApiServices
from orchestrator.server import Server, listen
from orchestrator.steps.work import DeployServices
from orchestrator.store import Store
from orchestrator.surface import create_app

logger = logging.getLogger(__name__)

FAILED: Final = 1  # the exit code of a daemon that could not start


async def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; the exit code. The log goes to stderr."""
    masker = Masker()
    logs.configure(settings.log_format, masker, sys.stderr)
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    try:
        with locked(settings.lock_path), listen(settings.addr) as listening:
            await _serve(settings, masker, listening, ending)
    except FairleadError as error:
        logger.error(str(error))
        return FAILED
    return 0


async def _serve(
    settings: Settings, masker: Masker, listening: socket.socket, ending: asyncio.Event
) -> None:
    async with AsyncExitStack() as stack:
        api_services, deployer = await _make(settings, masker, stack)
        inbox = Inbox(api_services)
        server = Server(create_app(api_services, inbox), listening)
        await deployer.start()
        await inbox.resume()
        await server.start()
        address = listening.getsockname()
        logger.info(
            "orchestrator listening",
            extra={"fields": {"addr": str(Address(address[0], address[1]))}},
        )
        await ending.wait()
        logger.info("stopping: the running steps are finished, the rest waits for the next start")
        server.accept_nobody()
        await inbox.finish()
        await deployer.stop()
        await server.stop()
        logger.info("stopped")


async def _make(
    settings: Settings, masker: Masker, stack: AsyncExitStack
) -> tuple[ApiServices, Deployer]:
    """What requests and deploys need; `stack` closes it."""
    token, token_was_set = api_token(settings)
    masker.add(token)
    masker.add(settings.webhook_secret)
    if not settings.webhook_secret:
        logger.warning("no FAIRLEAD_WEBHOOK_SECRET is set: only clients on this machine may deploy")
    store = await Store.open(settings.db)
    stack.push_async_callback(store.close)
    engine = Engine(store.instance)
    stack.push_async_callback(engine.close)
    edge = EdgeClient(settings.control_path)
    stack.push_async_callback(edge.close)
    git = Git(
        timeout=settings.git_timeout,
        most_bytes=settings.git_max_bytes,
        submodules=settings.git_submodules,
    )
    deploy_services = DeployServices(
        settings=settings,
        instance=store.instance,
        engine=engine,
        git=git,
        edge=edge,
        routes=RouteWriter(settings.db),
        routes_lock=asyncio.Lock(),
    )
    metrics = Metrics()
    deployer = Deployer(
        deploy_services, store, DeployLogs(settings.logs_folder, masker), masker, metrics
    )
    metrics.watch(deployer.depth, deployer.running, lambda: deployer.problem() is None)
    access = Access(
        token,
        token_was_set=token_was_set,
        hosts=(settings.addr.host,),
        origins=settings.ws_allowed_origins,
        trusted_proxies=settings.trusted_proxies,
    )
    return ApiServices(settings, store, engine, deployer, access, masker, metrics), deployer


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Be the only orchestrator of this database. Raises OrchestratorError if another one is."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OrchestratorError(f"cannot open {path}: {error.strerror}") from None
    try:
        try:
            # The kernel gives it up when the process ends, however it ends.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise OrchestratorError(
                f"another orchestrator works with this database (it holds {path}): stop it, or"
                " give this one a database of its own with FAIRLEAD_DB"
            ) from None
        yield
    finally:
        os.close(descriptor)

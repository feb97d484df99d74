"""Owns the life of the daemon: from the lock on its database to the last step of a deploy.

It ends by a signal, or with the supervisor that started it.
"""

import asyncio
import fcntl
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, MutableMapping
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from edge.errors import FairleadError
from edge.routing.store_writer import RouteWriter
from edge.settings.syntax import Address
from edge.telemetry import standard_error
from orchestrator.api.app import create_access, create_app
from orchestrator.api.server import create_server, listen, listen_here
from orchestrator.deploys.app_links import AppLinks
from orchestrator.deploys.app_networks import AppNetworks
from orchestrator.deploys.context import DeployServices
from orchestrator.deploys.log import DeployLogs
from orchestrator.deploys.queue import DeployQueue
from orchestrator.edge_client import EdgeClient
from orchestrator.edge_tokens import EdgeTokens
from orchestrator.engine.engine import Engine
from orchestrator.errors import OrchestratorError
from orchestrator.logging import configure as configure_logging
from orchestrator.loop_watch import LoopWatch
from orchestrator.metrics import Metrics
from orchestrator.security.clients import Clients
from orchestrator.security.redact import Redactor
from orchestrator.services import ApiServices
from orchestrator.settings import Settings
from orchestrator.source.git import Git
from orchestrator.source.git_commands import PROXIES
from orchestrator.store.store import Store
from orchestrator.webhooks.inbox import Inbox

logger = logging.getLogger(__name__)

EXIT_FAILURE: Final = 1  # the exit code of a daemon that could not start

_SUPERVISED: Final = "FAIRLEAD_SUPERVISED"  # set by a supervisor that holds our standard input
_STDIN: Final = 0

# Seconds to end in order when the supervisor is gone, and with it who would end one that hangs; a
# supervisor gives a minute beyond what its workers take.
_STOP_LIMIT: Final = 120


async def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; the exit code. The log goes to stderr."""
    standard_error.install()
    redactor = Redactor()
    configure_logging(settings.log_format, redactor, sys.stderr)
    stop_requested = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop_requested.set)
    try:
        with (
            database_lock(settings.lock_path),
            listen(settings.addr) as listening,
            listen_here(settings.api_path) as here,
        ):
            await _serve(settings, redactor, listening, here, stop_requested)
    except FairleadError as error:
        logger.error(str(error))
        return EXIT_FAILURE
    return 0


async def _serve(
    settings: Settings,
    redactor: Redactor,
    listening: socket.socket,
    here: socket.socket,
    stop_requested: asyncio.Event,
) -> None:
    async with AsyncExitStack() as stack:
        api_services, deployer = await _create_services(settings, redactor, stack)
        inbox = Inbox(api_services)
        app = create_app(api_services, inbox)
        # Two, so that commands on this machine find a place however many come by TCP.
        servers = [create_server(app, each) for each in (here, listening)]
        await deployer.start()
        await inbox.resume()
        for server in servers:
            await server.start()
        address = listening.getsockname()
        logger.info(
            "orchestrator listening",
            extra={
                "fields": {
                    "addr": str(Address(address[0], address[1])),
                    "socket": str(settings.api_path),
                }
            },
        )
        await stop_requested.wait()
        logger.info("shutting down: running steps are finished, the rest resumes at the next start")
        for server in servers:
            server.stop_accepting()
        await inbox.finish()
        await deployer.stop()
        await asyncio.gather(*(server.stop() for server in servers))
        logger.info("stopped")


async def _create_services(
    settings: Settings, redactor: Redactor, stack: AsyncExitStack
) -> tuple[ApiServices, DeployQueue]:
    """What requests and deploys need; `stack` closes it."""
    redactor.keep(settings.api_token)
    redactor.keep(settings.webhook_secret)
    for variable in PROXIES:  # which git shows in its errors
        userinfo, at, _ = urlsplit(os.environ.get(variable, "")).netloc.rpartition("@")
        if at:
            redactor.keep_credentials(unquote(userinfo))
    if not settings.webhook_secret:
        logger.warning(
            "FAIRLEAD_WEBHOOK_SECRET is not set: unsigned webhooks from this machine are accepted"
            if settings.webhook_unsigned
            else "FAIRLEAD_WEBHOOK_SECRET is not set: webhooks need a token"
        )
    if settings.trusts_containers:
        logger.warning(
            "FAIRLEAD_TRUSTED_PROXIES covers addresses of FAIRLEAD_APP_SUBNETS: an app can pass for"
            " any client; make one of them narrower"
        )
    store = await Store.open(settings.state_path, settings.db)
    stack.push_async_callback(store.close)
    engine = Engine(store.instance, redactor)
    stack.push_async_callback(engine.close)
    git = Git(
        timeout=settings.git_timeout,
        max_bytes=settings.git_max_bytes,
        submodules=settings.git_submodules,
        redactor=redactor,
    )
    networks = AppNetworks(settings, engine, store.leases)
    deploy_services = DeployServices(
        settings=settings,
        instance=store.instance,
        engine=engine,
        apps=store.apps,
        networks=networks,
        links=AppLinks(engine, networks, store),
        git=git,
        edge=EdgeClient(settings.control_path),
        routes=RouteWriter(settings.db),
        routes_lock=asyncio.Lock(),
    )
    metrics = Metrics()
    deployer = DeployQueue(
        deploy_services, store, DeployLogs(settings.logs_folder, redactor), redactor, metrics
    )
    watch = LoopWatch()
    watch.start()
    stack.callback(watch.stop)
    metrics.watch(
        deployer.queued,
        deployer.running,
        lambda: deployer.unready_reason() is None,
        watch.longest_pause,
        standard_error.dropped,
    )
    edge_tokens = EdgeTokens(store.tokens, deploy_services.routes)
    edge_tokens.start()
    stack.push_async_callback(edge_tokens.stop)
    services = ApiServices(
        settings=settings,
        store=store,
        engine=engine,
        deployer=deployer,
        access=create_access(settings, store),
        edge_tokens=edge_tokens,
        clients=Clients(settings.trusted_proxies),
        redactor=redactor,
        metrics=metrics,
    )
    return services, deployer


@contextmanager
def database_lock(path: Path) -> Iterator[None]:
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
                f"another orchestrator is using this database (it holds a lock on {path}): stop"
                " it, or set FAIRLEAD_STATE_DB to another file"
            ) from None
        yield
    finally:
        os.close(descriptor)


def stop_with_supervisor(environ: MutableMapping[str, str]) -> None:
    """Once the supervisor is gone, this process gets SIGTERM; nothing where it has none."""
    if environ.pop(_SUPERVISED, ""):
        threading.Thread(target=_watch_supervisor, name="supervisor", daemon=True).start()


def _watch_supervisor() -> None:
    while os.read(_STDIN, 4096):
        pass  # nobody writes
    signal.alarm(_STOP_LIMIT)  # the kernel ends it, whatever it does then
    os.kill(os.getpid(), signal.SIGTERM)

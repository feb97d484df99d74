"""Owns a running edge: the loop, the listeners, the route table in use, and the sweep.

Everything that the connections share is here, so that a test can run a worker with a clock of its
own, and a process can run several.
"""

import asyncio
import gc
import logging
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from secrets import token_hex
from typing import Final

import uvloop

from edge.access_log import AccessLog
from edge.admin import Admin
from edge.client import ClientConnection
from edge.config import Settings
from edge.errors import StoreError
from edge.health import HealthMonitor, TargetState
from edge.health_check import HealthCheck, checks_by_target
from edge.listener import BACKLOG, connection_limit, listen
from edge.live_route import LiveRoute
from edge.metrics import Metrics
from edge.route_store import Loaded, RouteReader
from edge.routes import Route, RouteTable
from edge.target import Target
from edge.tunnel import Tunnel

logger = logging.getLogger(__name__)

# Seconds between two looks at the deadlines: how late a timeout can be. At 10,000 connections one
# look takes 1 ms.
SWEEP_INTERVAL: Final = 0.5

# Clients beyond the limit that are told so (503) at one time; more are closed without a word.
MAX_REFUSALS: Final = 64

# Seconds that a drained worker leaves to clients to take the last bytes and the FIN.
LAST_BYTES: Final = 1.0

# Seconds for which another thread may keep the interpreter from the loop (the default is 5 ms):
# loading a large route table must not be felt.
SWITCH_INTERVAL: Final = 0.0005


class Worker:
    """Serves clients from one event loop.

    `clock` gives seconds that only go forward; every deadline is on it.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self.settings = settings
        self.clock = clock
        self.metrics = Metrics()
        self.access_log: AccessLog | None = None
        self.draining = False
        # What is served
        self.table: RouteTable | None = None
        self.live_routes: dict[str, LiveRoute] = {}
        self._targets: dict[str, Target] = {}
        self._retired: set[Target] = set()  # no route names them, but exchanges go on
        self.health = HealthMonitor(self)
        # Who is served
        self._clients: set[ClientConnection] = set()
        self.tunnels: set[Tunnel] = set()
        self._max_connections = connection_limit(settings.max_connections)
        # Where
        self.addresses: list[tuple[str, int]] = []
        self._servers: list[asyncio.AbstractServer] = []
        self._admin = Admin(settings.admin_addr, self.metrics, self._why_not_ready)
        # The store is read in a thread, always the same one.
        self._reader = RouteReader(settings.db)
        self._reader_thread = ThreadPoolExecutor(1, thread_name_prefix="route-store")
        self._looking = asyncio.Lock()
        self._store_error: str | None = None
        self._problems: tuple[str, ...] = ()
        self._tasks: list[asyncio.Task[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        # What is made once per second or per process
        self._date = (0, b"")
        self._request_id_prefix = token_hex(6)
        self._request_ids = 0

    def __repr__(self) -> str:
        return f"<Worker clients={len(self._clients)} table={self.table!r}>"

    @property
    def admin_addresses(self) -> list[tuple[str, int]]:
        """Where the admin server is bound."""
        return self._admin.addresses

    async def start(self) -> None:
        """Bind, load the routes and serve. Raises `ConfigError`."""
        self.loop = asyncio.get_running_loop()
        if self.settings.access_log != "off":
            self.access_log = AccessLog(self.settings.access_log, self.metrics)
        await self._look(force=False)
        sockets = listen(self.settings.http_addr, "FAIRLEAD_HTTP_ADDR")
        self.addresses = [sock.getsockname()[:2] for sock in sockets]
        await self._admin.start()
        for sock in sockets:
            server = await self.loop.create_server(
                lambda: ClientConnection(self), sock=sock, backlog=BACKLOG
            )
            self._servers.append(server)
        self._tasks.append(self.loop.create_task(self._watch()))
        self._tick()

    async def stop(self) -> None:
        """Close everything at once."""
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for server in self._servers:
            server.close()
        for client in list(self._clients):
            client.transport.abort()
        for tunnel in list(self.tunnels):
            tunnel.cut()
        for target in [*self._targets.values(), *self._retired]:
            target.close()
        self.health.close()
        # Closed transports tell their protocols in the loop's next round.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await self._admin.stop()
        self._reader_thread.shutdown()
        if self.access_log is not None:
            self.access_log.close()

    async def drain(self) -> bool:
        """Accept nobody, finish what is in flight; whether that was done within the drain timeout.

        Every response that begins from now on says `Connection: close`.
        """
        self.draining = True
        for server in self._servers:
            server.close()
        logger.info("draining: nobody is accepted any more")
        for client in list(self._clients):
            client.drain()
        done = await self._wait_until(lambda: not self._busy(), self.settings.drain_timeout)
        if done:
            await self._wait_until(lambda: not self._clients, LAST_BYTES)
        return done

    async def _wait_until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait for `condition`; whether it came true in time."""
        deadline = self.clock() + seconds
        while not condition():
            if self.clock() >= deadline:
                return False
            await asyncio.sleep(0.02)
        return True

    def _busy(self) -> bool:
        return bool(self.tunnels) or any(client.busy for client in self._clients)

    # Clients

    def admit(self, client: ClientConnection) -> bool:
        """Count a new connection; whether it may be served."""
        metrics = self.metrics
        metrics.connections_accepted += 1
        self._clients.add(client)
        metrics.connections_open = len(self._clients)
        if len(self._clients) <= self._max_connections:
            return True
        metrics.connections_refused += 1
        if len(self._clients) > self._max_connections + MAX_REFUSALS:
            client.transport.abort()
        return False

    def dismiss(self, client: ClientConnection) -> None:
        """Forget a closed connection."""
        self._clients.discard(client)
        self.metrics.connections_open = len(self._clients)

    def date_line(self) -> bytes:
        """The Date field (RFC 9110 section 6.6.1), with its CRLF."""
        now = int(time.time())
        if self._date[0] != now:
            self._date = (now, f"Date: {formatdate(now, usegmt=True)}\r\n".encode("ascii"))
        return self._date[1]

    def next_request_id(self) -> str:
        """An id that no other request has."""
        self._request_ids += 1
        return f"{self._request_id_prefix}-{self._request_ids:x}"

    # Routes

    def live_route(self, route: Route) -> LiveRoute:
        """The counterpart of `route`, made anew: it is new, or its definition has changed."""
        live = LiveRoute(
            route, self.target, self.metrics.route(route.domain), self.settings.max_body
        )
        self.live_routes[route.domain] = live
        return live

    def target(self, address: str) -> Target:
        """The target at an address that the table names."""
        target = self._targets.get(address)
        if target is None:
            target = self._targets[address] = Target(address, self)
            self.health.attach(target)
        return target

    def target_states(self) -> list[TargetState]:
        """What is known of the targets; one that was neither used nor checked is not named."""
        return self.health.states()

    async def reload(self) -> int:
        """Look at the store now; the version that is served afterwards, 0 without a table."""
        await self._look(force=True)
        return self.table.version if self.table is not None else 0

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self.settings.poll_interval)
            await self._look(force=False)

    async def _look(self, force: bool) -> None:
        """See whether the store has changed, and serve what it says."""
        async with self._looking:
            try:
                loaded = await self.loop.run_in_executor(
                    self._reader_thread, self._reader.poll, force
                )
                if loaded is not None:
                    gone, checks = await self.loop.run_in_executor(
                        self._reader_thread, self._compare, loaded.table
                    )
            except StoreError as error:
                self._store_unreadable(str(error))
                return
            self._store_readable()
            if loaded is not None:
                self._swap(loaded, gone, checks)

    def _compare(
        self, table: RouteTable
    ) -> tuple[tuple[str, ...], dict[str, frozenset[HealthCheck]]]:
        """The live routes that are not in `table`, and what it wants of each target checked."""
        gone = tuple(domain for domain in list(self.live_routes) if domain not in table)
        return gone, checks_by_target(table.checked)

    def _swap(
        self,
        loaded: Loaded,
        gone: tuple[str, ...],
        checks: dict[str, frozenset[HealthCheck]],
    ) -> None:
        table = loaded.table
        self.table = table
        metrics = self.metrics
        metrics.drop(gone)
        for domain in gone:
            del self.live_routes[domain]
        counts = table.target_counts
        for address in [address for address in self._targets if address not in counts]:
            target = self._targets.pop(address)
            target.retire()
            self._retired.add(target)
        self.health.follow(checks, counts)
        metrics.table_version = table.version
        metrics.table_routes = len(table)
        metrics.routes_refused = len(loaded.problems)
        metrics.reloads["ok"] += 1
        for problem in sorted(set(loaded.problems) - set(self._problems)):
            logger.warning("%s", problem)
        self._problems = loaded.problems
        logger.info("serving %d routes, version %d", len(table), table.version)

    def _store_unreadable(self, error: str) -> None:
        self.metrics.reload_ok = False
        self.metrics.reloads["failed"] += 1
        if error != self._store_error:
            self._store_error = error
            goes_on = "no route is served" if self.table is None else "the last table is served"
            logger.error("%s; %s", error, goes_on)

    def _store_readable(self) -> None:
        self.metrics.reload_ok = True
        if self._store_error is not None:
            self._store_error = None
            logger.warning("the route database can be read again")

    def _why_not_ready(self) -> str | None:
        if self.draining:
            return "draining"
        if self.table is None:
            return self._store_error or "the route database was not read yet"
        return None

    # Time

    def _tick(self) -> None:
        self._timer = self.loop.call_later(SWEEP_INTERVAL, self._tick)
        self.sweep()
        if self.access_log is not None:
            self.access_log.flush()

    def sweep(self) -> None:
        """Look at every deadline now."""
        now = self.clock()
        for client in [client for client in self._clients if client.deadline <= now]:
            client.on_deadline(now)
        for tunnel in [tunnel for tunnel in self.tunnels if tunnel.deadline <= now]:
            tunnel.cut()
        for target in [*self._targets.values(), *self._retired]:
            target.sweep(now)
        self.health.sweep(now)
        if self._retired:
            self._retired = {target for target in self._retired if target.in_use}


def run(settings: Settings) -> int:
    """Run an edge until it is told to stop; the exit code. Raises `ConfigError`."""
    logging.basicConfig(
        format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO, stream=sys.stderr
    )
    sys.setswitchinterval(SWITCH_INTERVAL)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings))


async def _serve(settings: Settings) -> int:
    worker = Worker(settings)
    await worker.start()
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    reloads: set[asyncio.Task[int]] = set()

    def reload() -> None:
        task = loop.create_task(worker.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    def reopen() -> None:
        if worker.access_log is not None:
            worker.access_log.reopen()

    loop.add_signal_handler(signal.SIGHUP, reload)
    loop.add_signal_handler(signal.SIGUSR1, reopen)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    for host, port in worker.addresses:
        logger.info("serving on %s port %d", host, port)
    for host, port in worker.admin_addresses:
        logger.info("admin on %s port %d", host, port)
    # What exists now exists for good; the collector need not look at it again and again.
    gc.freeze()
    await stop.wait()
    if not await worker.drain():
        logger.warning("the drain timeout has passed: what is still in flight is cut")
    await worker.stop()
    return 0

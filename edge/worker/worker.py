"""Owns a running edge: the loop, the listeners, the route table in use, and the sweep.

Everything that the connections share is here, so that a test can run a worker with a clock of its
own, and a process can run several.
"""

import asyncio
import logging
import math
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from mmap import mmap
from typing import Final

from edge.errors import StoreError
from edge.net.listener import BACKLOG, connection_limit
from edge.proxy.admission import make_admission
from edge.proxy.basic_auth import BasicAuthenticator
from edge.proxy.client import ClientConnection
from edge.proxy.drain import (
    TUNNEL_DRAIN_TIMEOUT,
    DrainResult,
    TargetDrain,
    close_staggered,
    tunnel_close_schedule,
)
from edge.proxy.pause import PauseQueue
from edge.proxy.route_state import RouteState
from edge.proxy.tunnel import Tunnel
from edge.routing.routes import Route, RouteTable, parse_target
from edge.routing.store import Loaded, RouteReader
from edge.rules.health_check import HealthCheck, checks_by_target
from edge.rules.rate_limit import RateTable, make_buffer
from edge.settings.settings import Settings
from edge.telemetry.access_log import AccessLog
from edge.telemetry.metrics import Metrics
from edge.upstream.health import HealthMonitor, TargetState
from edge.upstream.target import Target
from edge.wire.request_id import new_lines

logger = logging.getLogger(__name__)

# Seconds between two looks at the deadlines: how late a timeout can be. At 10,000 connections one
# look takes 1 ms.
SWEEP_INTERVAL: Final = 0.5

# Clients whose time is over that are told so in one turn of the loop: below a millisecond. Hundreds
# at once, as attackers with slow heads make them, would be a pause for everyone else.
EXPIRY_BATCH: Final = 16

# Clients beyond the limit that are told so (503) at one time; more are closed without a word.
MAX_REJECTIONS: Final = 64

# Seconds that a drained worker leaves to clients to take the last bytes and the FIN.
FLUSH_TIMEOUT: Final = 1.0

# Seconds between two lines in the log on PROXY headers that are missing or malformed: a proxy that
# is set up wrongly sends one with every connection.
PROXY_HEADER_LOG_INTERVAL: Final = 60.0


class Worker:
    """Serves clients from one event loop.

    `clock` gives seconds that only go forward; every deadline is on it. `shared` is prepared memory
    (`rate_table.prepare`) in which all workers count requests per client: their clocks must be one.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        shared: mmap | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.metrics = Metrics()
        self.access_log: AccessLog | None = None
        self.draining = False
        self.leader = True  # of several workers, one speaks of what is the same for all
        # What is served
        self.table: RouteTable | None = None
        self.route_states: dict[str, RouteState] = {}
        self._targets: dict[str, Target] = {}
        self._retired: set[Target] = set()  # no route names them, but exchanges go on
        self.draining_targets: tuple[Target, ...] = ()  # they get no new exchange
        self._drains: set[TargetDrain] = set()
        # What is decided before a request is forwarded
        self.rates = RateTable(make_buffer() if shared is None else shared)
        self.authenticator = BasicAuthenticator(self)
        self._pause_queues: dict[str, PauseQueue] = {}
        self.health = HealthMonitor(self)
        # Who is served
        self._clients: set[ClientConnection] = set()
        self.tunnels: set[Tunnel] = set()
        self._tunnels_close_at = math.inf
        self._max_connections = 0
        self._proxy_header_logged = -math.inf
        # Where
        self.addresses: list[tuple[str, int]] = []
        self._servers: list[asyncio.AbstractServer] = []
        # The store is read in a thread, always the same one.
        self._reader = RouteReader(settings.db)
        self._reader_thread = ThreadPoolExecutor(1, thread_name_prefix="route-store")
        self._poll_lock = asyncio.Lock()
        self.store_error: str | None = None
        self._problems: tuple[str, ...] = ()
        self._tasks: list[asyncio.Task[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        # What is made once per second or per process
        self._date = (0, b"")
        self.request_id_lines = new_lines()

    def __repr__(self) -> str:
        return f"<Worker clients={len(self._clients)} table={self.table!r}>"

    @property
    def version(self) -> int:
        """Of the table that is served; 0 without one."""
        return self.table.version if self.table is not None else 0

    async def start(self, listeners: Sequence[socket.socket]) -> None:
        """Load the routes and serve. Raises `ConfigError`."""
        self._max_connections = connection_limit(self.settings.max_connections, self.leader)
        self.loop = asyncio.get_running_loop()
        if self.settings.access_log != "off":
            self.access_log = AccessLog(self.settings.access_log, self.metrics)
        await self._poll_store(force=False)
        self.addresses = [sock.getsockname()[:2] for sock in listeners]
        for sock in listeners:
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
            tunnel.abort()
        for target in [*self._targets.values(), *self._retired]:
            target.close()
        self.authenticator.close()
        self.health.close()
        # Closed transports tell their protocols in the loop's next round.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self._reader_thread.shutdown()
        if self.access_log is not None:
            self.access_log.close()

    async def drain(self) -> bool:
        """Accept nobody, finish what is in flight; whether that was done within the drain timeout.

        Every response that begins from now on says `Connection: close`. Tunnels are closed gently
        before the time is over.
        """
        self.draining = True
        delay, spread = tunnel_close_schedule(self.settings.drain_timeout)
        self._tunnels_close_at = self.clock() + delay
        close_staggered(self.tunnels, self._tunnels_close_at, spread)
        for server in self._servers:
            server.close()
        logger.info("draining: no new connections are accepted")
        for client in list(self._clients):
            client.drain()
        done = await self._wait_until(lambda: not self._busy(), self.settings.drain_timeout)
        if not done:
            for queue in self._pause_queues.values():
                queue.reject_all()
        if done or self._pause_queues:
            await self._wait_until(lambda: not self._clients, FLUSH_TIMEOUT)
        return done

    async def drain_target(
        self,
        address: str,
        timeout: float,  # noqa: ASYNC109  # on the worker's clock
        tunnel_timeout: float = TUNNEL_DRAIN_TIMEOUT,
    ) -> DrainResult:
        """Send nothing new to `address`, and return when nothing is in flight on it any more.

        Exchanges that take longer than `timeout` are cut, tunnels are closed gently after
        `tunnel_timeout`. Nothing new comes until `undrain_target`, or until the target has left the
        route table. Raises `RouteError` for what is no address.
        """
        address = parse_target(address)
        if self.table is not None and address in self.table.target_counts:
            # It may not have had a request yet; the mark needs something to be on.
            self.target(address)
        targets = self._targets_at(address)
        for target in targets:
            target.retire()
        drain = TargetDrain(targets, self._clients, self.tunnels, self.clock)
        self._drains.add(drain)
        self.draining_targets = tuple(dict.fromkeys((*self.draining_targets, *targets)))
        try:
            result = await drain.run(timeout, tunnel_timeout)
        finally:
            self._drains.remove(drain)
            self._prune_draining_targets()
        return result

    def undrain_target(self, address: str) -> bool:
        """Let exchanges come to `address` again; whether it was drained.

        A drain that is under way ends here. Raises `RouteError` for what is no address.
        """
        address = parse_target(address)
        drained = [target for target in self.draining_targets if target.address == address]
        for drain in self._drains:
            if not drain.targets.isdisjoint(drained):
                drain.cancel()
        for target in drained:
            if self._targets.get(address) is target:
                target.reinstate()
        self.draining_targets = tuple(
            target for target in self.draining_targets if target not in drained
        )
        if drained and self.leader:
            logger.info("target %s takes requests again", address)
        return bool(drained)

    def drained_addresses(self) -> list[str]:
        """The targets that the table names and that get nothing new."""
        return [
            target.address
            for target in self.draining_targets
            if self._targets.get(target.address) is target
        ]

    def in_flight(self, address: str) -> int:
        """Exchanges in flight on `address`; tunnels are not counted."""
        return sum(target.in_flight - target.tunnels for target in self._targets_at(address))

    def tunnels_to(self, address: str) -> int:
        """Open tunnels to `address`."""
        return sum(target.tunnels for target in self._targets_at(address))

    def _targets_at(self, address: str) -> list[Target]:
        """The target that the table names, and those that it named before."""
        targets = (*self._targets.values(), *self._retired)
        return [target for target in targets if target.address == address]

    def _prune_draining_targets(self) -> None:
        """Forget that targets were drained that have left the table since, and are empty."""
        active = {target for drain in self._drains for target in drain.targets}
        self.draining_targets = tuple(
            target
            for target in self.draining_targets
            if target in active or self._targets.get(target.address) is target
        )

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

    def accept_client(self, client: ClientConnection) -> bool:
        """Count a new connection; whether it may be served."""
        metrics = self.metrics
        metrics.connections_accepted += 1
        self._clients.add(client)
        metrics.connections_open = len(self._clients)
        if len(self._clients) <= self._max_connections:
            return True
        metrics.connections_rejected += 1
        if len(self._clients) > self._max_connections + MAX_REJECTIONS:
            client.transport.abort()
        return False

    def forget_client(self, client: ClientConnection) -> None:
        """Forget a closed connection."""
        self._clients.discard(client)
        self.metrics.connections_open = len(self._clients)

    def tunnel_opened(self, tunnel: Tunnel) -> None:
        """Count a new tunnel; where it leads to may be draining."""
        self.tunnels.add(tunnel)
        self.metrics.tunnels_open += 1
        tunnel.target.tunnels += 1
        for drain in self._drains:
            drain.tunnel_opened(tunnel)
        tunnel.close_at(self._tunnels_close_at)

    def tunnel_closed(self, tunnel: Tunnel) -> None:
        """Forget a tunnel that is over."""
        self.tunnels.remove(tunnel)
        self.metrics.tunnels_open -= 1
        tunnel.target.tunnels -= 1

    def count_proxy_header_error(self, address: str, reason: str) -> None:
        """Count a connection of a trusted proxy that began with no sound PROXY header."""
        self.metrics.proxy_protocol_errors += 1
        now = self.clock()
        if now >= self._proxy_header_logged + PROXY_HEADER_LOG_INTERVAL:
            self._proxy_header_logged = now
            logger.warning(
                "closed a connection from the trusted proxy %s, no valid PROXY header: %s;"
                " have the proxy send one, or set FAIRLEAD_PROXY_PROTOCOL to false",
                address,
                reason,
            )

    def date_line(self) -> bytes:
        """The Date field (RFC 9110 section 6.6.1), with its CRLF."""
        now = int(time.time())
        if self._date[0] != now:
            self._date = (now, f"Date: {formatdate(now, usegmt=True)}\r\n".encode("ascii"))
        return self._date[1]

    # Routes

    def make_route_state(self, route: Route) -> RouteState:
        """The state of `route`, made anew: the route is new, or has changed."""
        state = RouteState(
            route,
            self.target,
            self.metrics.route(route.key),
            self.settings,
            make_admission(route, self),
        )
        self.route_states[route.key] = state
        return state

    def pause_queue(self, key: str) -> PauseQueue:
        """Where requests wait while the route `key` is paused."""
        queue = self._pause_queues.get(key)
        if queue is None:
            queue = self._pause_queues[key] = PauseQueue(self.metrics.route(key), self.loop)
        return queue

    def _resume_routes(self, table: RouteTable) -> None:
        """Let go on what waits for routes that are not paused in `table`."""
        for key, queue in list(self._pause_queues.items()):
            route = table.get(key)
            if route is None or route.options.pause is None:
                del self._pause_queues[key]
                queue.release()

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

    async def reload(self, force: bool = True) -> int:
        """Look at the store now; the version that is served afterwards, 0 without a table.

        By `force` the rows are read even if the version is the one that is served.
        """
        await self._poll_store(force)
        return self.version

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self.settings.poll_interval)
            await self._poll_store(force=False)

    async def _poll_store(self, force: bool) -> None:
        """See whether the store has changed, and serve what it says."""
        async with self._poll_lock:
            try:
                loaded = await self.loop.run_in_executor(
                    self._reader_thread, self._reader.poll, force
                )
                if loaded is not None:
                    gone, checks = await self.loop.run_in_executor(
                        self._reader_thread, self._diff, loaded.table
                    )
            except StoreError as error:
                self._store_unreadable(str(error))
                return
            self._store_readable()
            if loaded is not None:
                self._swap(loaded, gone, checks)

    def _diff(self, table: RouteTable) -> tuple[tuple[str, ...], dict[str, frozenset[HealthCheck]]]:
        """The routes in use that are not in `table`, by key, and the checks of each target."""
        gone = tuple(key for key in list(self.route_states) if key not in table)
        return gone, checks_by_target(table.checked)

    def _swap(
        self,
        loaded: Loaded,
        gone: tuple[str, ...],
        checks: dict[str, frozenset[HealthCheck]],
    ) -> None:
        table = loaded.table
        is_news = self.table is None or self.table.version != table.version
        self.table = table
        metrics = self.metrics
        metrics.drop(gone)
        for key in gone:
            del self.route_states[key]
        counts = table.target_counts
        for address in [address for address in self._targets if address not in counts]:
            target = self._targets.pop(address)
            target.retire()
            self._retired.add(target)
        self._prune_draining_targets()
        self.health.update_targets(checks, counts)
        metrics.table_version = table.version
        metrics.table_routes = len(table)
        metrics.routes_invalid = len(loaded.problems)
        metrics.reloads["ok"] += 1
        if self.leader:
            for problem in sorted(set(loaded.problems) - set(self._problems)):
                logger.warning("%s", problem)
            if is_news:
                logger.info("serving %d routes, version %d", len(table), table.version)
        self._problems = loaded.problems
        self._resume_routes(table)

    def _store_unreadable(self, error: str) -> None:
        self.metrics.reload_ok = False
        self.metrics.reloads["failed"] += 1
        if error != self.store_error:
            self.store_error = error
            if self.leader:
                goes_on = (
                    "no routes are served" if self.table is None else "the last routes stay in use"
                )
                logger.error("%s; %s", error, goes_on)

    def _store_readable(self) -> None:
        self.metrics.reload_ok = True
        if self.store_error is not None:
            self.store_error = None
            if self.leader:
                logger.warning("the route database is readable again")

    def why_not_ready(self) -> str | None:
        """None while a table is served, else the reason."""
        if self.draining:
            return "draining"
        if self.table is None:
            return self.store_error or "the route database has not been read yet"
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
        self._expire([client for client in self._clients if client.deadline <= now])
        for tunnel in [tunnel for tunnel in self.tunnels if tunnel.deadline <= now]:
            tunnel.on_deadline(now)
        for target in [*self._targets.values(), *self._retired]:
            target.sweep(now)
        self.health.sweep(now)
        if self._retired:
            self._retired = {target for target in self._retired if target.in_use}

    def _expire(self, clients: list[ClientConnection]) -> None:
        """Tell clients that their time is over; between a few and a few the others are served."""
        now = self.clock()
        for client in clients[-EXPIRY_BATCH:]:
            # In an earlier turn of the loop its time was over.
            if client.deadline <= now and client in self._clients:
                client.on_deadline(now)
        del clients[-EXPIRY_BATCH:]
        if clients:
            self.loop.call_soon(self._expire, clients)

"""Owns what all connections of one worker share: the routes in use, their targets, what is decided
for all of them, and who is connected.
"""

import gc
import logging
import math
import time
from collections.abc import Callable, Collection, Mapping
from mmap import mmap
from typing import Final

from edge.proxy.admission import make_admission
from edge.proxy.basic_auth import BasicAuthenticator
from edge.proxy.pause import PauseQueue
from edge.proxy.ports import Client, OngoingDrain, Tunnel
from edge.proxy.route_state import RouteState
from edge.routing.route import Route
from edge.routing.table import RouteTable
from edge.rules.health_check import HealthCheck
from edge.rules.rate_limit import RateTable, make_buffer
from edge.runtime import Runtime
from edge.settings.settings import Settings
from edge.telemetry.access_log import AccessLog
from edge.upstream.health import HealthMonitor
from edge.upstream.resolver import Resolver
from edge.upstream.target import Target
from edge.wire.date import http_date
from edge.wire.request_id import new_lines

logger = logging.getLogger(__name__)

# Routes in use, some 13 objects each, beyond which the garbage collector is told that they stay: it
# looks at that many in 10 ms.
FREEZE_STEP: Final = 1000

# Clients beyond the limit that are told so (503) at one time; more are closed without a word.
MAX_REJECTIONS: Final = 64

# Seconds that a client may take from its connection, or from its last answer, to a request without
# being taken for idle: closed any earlier, the close would meet requests half way.
IDLE_GRACE: Final = 1.0

# Seconds between two vain searches for idle clients: while all are busy, each new one would have
# all of them looked at.
SEEK_INTERVAL: Final = 0.25

# Seconds between two lines in the log on what every new connection may do again: one that finds no
# place, or that a proxy which is set up wrongly begins without a sound PROXY header.
LOG_INTERVAL: Final = 60.0


class ServingState(Runtime):
    """What a connection needs beside itself. A worker has one.

    `shared` is prepared memory (`rate_limit.prepare`) in which all workers count requests per
    client: their clocks must be one.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        shared: mmap | None = None,
    ) -> None:
        super().__init__(settings, clock)
        self.access_log: AccessLog | None = None
        self.draining = False
        # What is served
        self.table: RouteTable | None = None
        self.route_states: dict[str, RouteState] = {}
        self._freeze_at = FREEZE_STEP  # so many of them
        self.targets: dict[str, Target] = {}
        self.retired: set[Target] = set()  # no route names them, but exchanges go on
        self.draining_targets: tuple[Target, ...] = ()  # they get no new exchange
        self.drains: set[OngoingDrain] = set()
        self.resolver = Resolver(self)
        self.health = HealthMonitor(self, self.target)
        # What is decided before a request is forwarded
        self.rates = RateTable(make_buffer() if shared is None else shared)
        self.authenticator = BasicAuthenticator(self, self.rates)
        self.pause_queues: dict[str, PauseQueue] = {}
        # Who is served
        self.clients: set[Client] = set()
        self.tunnels: set[Tunnel] = set()
        self.tunnels_close_at = math.inf
        self.budget.close_idle_client = self.close_idle_clients
        self._idle_clients_sought = -math.inf
        self._full_logged = -math.inf
        self._proxy_header_logged = -math.inf
        # What is made once per second or per process
        self._date = (0, b"")
        self.request_id_lines = new_lines()

    def __repr__(self) -> str:
        return f"<ServingState clients={len(self.clients)} table={self.table!r}>"

    # Routes

    def make_route_state(self, route: Route) -> RouteState:
        """The state of `route`, made anew: the route is new, or has changed."""
        state = RouteState(
            route,
            self.target,
            self.metrics.route(route.key),
            self.settings,
            make_admission(route, self, self.rates, self.authenticator, self.pause_queue),
        )
        self.route_states[route.key] = state
        if len(self.route_states) >= self._freeze_at:
            # Looked at again and again, 100,000 of them would be pauses of a second. What is frozen
            # is freed as ever, but for targets that go, which are in a cycle with their pools: no
            # more than there were routes at one time.
            self._freeze_at += FREEZE_STEP
            gc.freeze()
        return state

    def pause_queue(self, key: str) -> PauseQueue:
        """Where requests wait while the route `key` is paused."""
        queue = self.pause_queues.get(key)
        if queue is None:
            queue = self.pause_queues[key] = PauseQueue(self.metrics.route(key), self.loop)
        return queue

    def target(self, address: str) -> Target:
        """The target at an address that the table names."""
        target = self.targets.get(address)
        if target is None:
            target = self.targets[address] = Target(address, self, self.resolver)
            self.health.attach(target)
        return target

    def swap(
        self,
        table: RouteTable,
        gone: Collection[str],
        checks: Mapping[str, frozenset[HealthCheck]],
    ) -> None:
        """Serve `table` from now on.

        `gone` are the keys of `route_states` that are not in it, `checks` what it wants of each
        target checked: both were worked out beside the loop.
        """
        self.table = table
        self.metrics.drop(gone)
        for key in gone:
            del self.route_states[key]
        counts = table.target_counts
        for address in [address for address in self.targets if address not in counts]:
            target = self.targets.pop(address)
            target.leave_table()
            self.retired.add(target)
        self.health.update_targets(checks, counts)
        for key, queue in list(self.pause_queues.items()):
            route = table.get(key)
            if route is None or route.options.pause is None:
                del self.pause_queues[key]
                queue.release()

    # Clients

    def accept_client(self, client: Client) -> bool:
        """Count a new connection; whether it may be served."""
        metrics = self.metrics
        budget = self.budget
        budget.make_room()
        metrics.connections_accepted += 1
        self.clients.add(client)
        self._count_clients()
        if len(self.clients) <= budget.max_clients or self.close_idle_clients():
            return True
        metrics.connections_rejected += 1
        now = self.clock()
        if now >= self._full_logged + LOG_INTERVAL:
            self._full_logged = now
            logger.warning(
                "refusing clients: %d are connected and none of them is idle; raise"
                " FAIRLEAD_MAX_CONNECTIONS, or the limit of open files (%d), or add workers",
                budget.max_clients,
                budget.limit,
            )
        if len(self.clients) > budget.max_clients + MAX_REJECTIONS:
            client.transport.abort()
        return False

    def forget_client(self, client: Client) -> None:
        """Forget a closed connection."""
        self.clients.discard(client)
        self._count_clients()

    def _count_clients(self) -> None:
        count = self.metrics.connections_open = len(self.clients)
        # There are descriptors in reserve for those that are one too many.
        self.budget.clients = min(count, self.budget.max_clients)

    def close_idle_clients(self) -> bool:
        """Close some of the clients that wait for nothing for longest; whether there was one.

        Several at once: a look at 10,000 takes 3 ms, and the next ones come at once.
        """
        now = self.clock()
        if now < self._idle_clients_sought + SEEK_INTERVAL:
            return False
        idle = sorted(
            (since, number, client)
            for number, client in enumerate(self.clients)
            if (since := client.idle_since) <= now - IDLE_GRACE
        )
        wanted = max(1, len(idle) // 8)
        closed = sum(client.close_idle() for _, _, client in idle[:wanted])
        if not closed:
            self._idle_clients_sought = now
        self.metrics.idle_clients_closed += closed
        return bool(closed)

    def tunnel_opened(self, tunnel: Tunnel) -> None:
        """Count a new tunnel; where it leads to may be draining."""
        self.tunnels.add(tunnel)
        self.metrics.tunnels_open += 1
        tunnel.target.tunnels += 1
        for drain in self.drains:
            drain.tunnel_opened(tunnel)
        tunnel.close_at(self.tunnels_close_at)

    def tunnel_closed(self, tunnel: Tunnel) -> None:
        """Forget a tunnel that is over."""
        self.tunnels.remove(tunnel)
        self.metrics.tunnels_open -= 1
        tunnel.target.tunnels -= 1

    def count_proxy_header_error(self, address: str, reason: str) -> None:
        """Count a connection of a trusted proxy that began with no sound PROXY header."""
        self.metrics.proxy_protocol_errors += 1
        now = self.clock()
        if now >= self._proxy_header_logged + LOG_INTERVAL:
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
            self._date = (now, b"Date: %b\r\n" % http_date(now))
        return self._date[1]

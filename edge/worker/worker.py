"""Owns the life of what serves: from its listeners and the first table to the end of its drain, and
the look at every deadline in between.

It can run in a process of its own or, with a clock of its own, in a test.
"""

import asyncio
import logging
import math
import socket
import time
from collections.abc import Callable, Sequence
from itertools import chain
from mmap import mmap
from typing import Final, cast

from edge.errors import FairleadError
from edge.net.budget import count_open, raise_limit
from edge.net.listener import BACKLOG
from edge.net.memory import share
from edge.proxy.client import ClientConnection
from edge.proxy.drain import TargetDrains, close_staggered, tunnel_close_schedule
from edge.proxy.ports import Client
from edge.proxy.state import ServingState
from edge.routing.snapshot_memory import SnapshotMemory, make_descriptors
from edge.settings.settings import Settings
from edge.telemetry.access_log import AccessLog
from edge.worker.last_good_table import LastGoodTable
from edge.worker.route_watch import RouteWatch

logger = logging.getLogger(__name__)


class WorseTableError(FairleadError):
    """The edge that this one would take over from serves better; the text says why."""


# Seconds between two looks at the deadlines: how late a timeout can be. At 10,000 connections one
# look takes 1 ms.
SWEEP_INTERVAL: Final = 0.5

# Clients whose time is over that are told so in one turn of the loop: below a millisecond. Hundreds
# at once, as attackers with slow heads make them, would be a pause for everyone else.
EXPIRY_BATCH: Final = 16

# Seconds that a drained worker leaves to clients to take the last bytes and the FIN.
FLUSH_TIMEOUT: Final = 1.0


class Worker:
    """Serves clients from one event loop.

    `clock` and `shared` are those of `ServingState`, `memory` is that of `LastGoodTable`.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Callable[[], float] = time.monotonic,
        shared: mmap | None = None,
        memory: SnapshotMemory | None = None,
    ) -> None:
        self.state = ServingState(settings, clock, shared)
        self.drains = TargetDrains(self.state)
        memory = memory or SnapshotMemory(make_descriptors())
        self.last_good = LastGoodTable(settings.db, memory)
        self.routes = RouteWatch(self.state, self.drains, self.last_good)
        self.addresses: list[tuple[str, int]] = []  # where it listens
        self._servers: list[asyncio.AbstractServer] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Worker {self.state!r}>"

    async def start(
        self, listeners: Sequence[socket.socket], predecessor: int | None = None
    ) -> None:
        """Load the routes and serve. Raises `ConfigError`.

        With the version that a `predecessor` serves, raises `WorseTableError` instead of serving
        what is less than that.
        """
        state = self.state
        settings = state.settings
        wanted = settings.max_connections
        state.budget.allot(raise_limit(wanted), wanted, state.leader)
        state.buffer_limit.limit = settings.max_buffered or share(settings.worker_count)
        state.loop = asyncio.get_running_loop()
        if settings.access_log != "off":
            state.access_log = AccessLog(settings.access_log, state.metrics)
        await self.routes.reload(force=False)
        if predecessor is not None:
            self._check_succeeds(predecessor)
        self.addresses = [sock.getsockname()[:2] for sock in listeners]
        for sock in listeners:
            server = await state.loop.create_server(
                lambda: cast(asyncio.Protocol, ClientConnection(state)), sock=sock, backlog=BACKLOG
            )
            self._servers.append(server)
        self._tasks.append(state.loop.create_task(self.routes.run()))
        if state.leader:
            self._tasks.append(state.loop.create_task(self.last_good.run()))
        state.budget.base = count_open()
        self._tick()

    async def stop(self) -> None:
        """Close everything at once."""
        state = self.state
        if self._timer is not None:
            self._timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for server in self._servers:
            server.close()
        for client in list(state.clients):
            client.transport.abort()
        for tunnel in list(state.tunnels):
            tunnel.abort()
        for target in [*state.targets.values(), *state.retired]:
            target.pool.close()
        state.resolver.close()
        state.authenticator.close()
        state.health.close()
        # Closed transports tell their protocols in the loop's next round.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.routes.close()
        self.last_good.close()
        if state.access_log is not None:
            state.access_log.close()

    async def drain(self) -> bool:
        """Accept nobody, finish what is in flight; whether that was done within the drain timeout.

        Every response that begins from now on says `Connection: close`. Tunnels are closed gently
        before the time is over.
        """
        state = self.state
        state.draining = True
        self.last_good.drain()
        delay, spread = tunnel_close_schedule(state.settings.drain_timeout)
        state.tunnels_close_at = state.clock() + delay
        close_staggered(state.tunnels, state.tunnels_close_at, spread)
        for server in self._servers:
            server.close()
        # Who was accepted in this turn of the loop is announced in the next one, and may ask.
        await asyncio.sleep(0)
        logger.info("draining: no new connections are accepted")
        for client in list(state.clients):
            client.drain()
        done = await self._wait_until(lambda: not self._busy(), state.settings.drain_timeout)
        if not done:
            for queue in state.pause_queues.values():
                queue.reject_all()
        if done or state.pause_queues:
            await self._wait_until(lambda: not state.clients, FLUSH_TIMEOUT)
        return done

    def why_not_ready(self) -> str | None:
        """None while a table is served, to all who come, else the reason."""
        if self.state.draining:
            return "draining"
        if self.state.table is None:
            return self.routes.error or "the route database has not been read yet"
        return self.state.shortage.reason

    def count_resources(self) -> None:
        """Have the metrics say who has which descriptors and how much memory now."""
        budget, metrics = self.state.budget, self.state.metrics
        buffers = self.state.buffer_limit
        metrics.buffered, metrics.buffered_limit = buffers.used, buffers.limit
        metrics.slow_peers_cut = buffers.cut
        metrics.upstream_connections_open = budget.upstreams
        metrics.upstream_connections_idle = len(budget.idle)
        metrics.descriptors_used = budget.used
        metrics.descriptors_limit = budget.limit
        metrics.idle_upstreams_closed = budget.reclaimed

    def _check_succeeds(self, predecessor: int) -> None:
        """What the database says now is never less, also where its version is lower: a backup."""
        routes = self.routes
        if self.state.table is None:
            raise WorseTableError(
                f"it would serve no routes, and the old edge serves version {predecessor}:"
                f" {self.why_not_ready()}"
            )
        if routes.error is not None and routes.version < predecessor:
            raise WorseTableError(
                f"it would serve version {routes.version} of the routes, and the old edge serves"
                f" version {predecessor}: {routes.error}"
            )

    async def _wait_until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait for `condition`; whether it came true in time."""
        deadline = self.state.clock() + seconds
        while not condition():
            if self.state.clock() >= deadline:
                return False
            await asyncio.sleep(0.02)
        return True

    def _busy(self) -> bool:
        return bool(self.state.tunnels) or any(client.busy for client in self.state.clients)

    # Time

    def _tick(self) -> None:
        self._timer = self.state.loop.call_later(SWEEP_INTERVAL, self._tick)
        self.sweep()
        if self.state.access_log is not None:
            self.state.access_log.flush()

    def sweep(self) -> None:
        """Look at every deadline now."""
        state = self.state
        now = state.clock()
        self._expire([client for client in state.clients if client.deadline <= now])
        for tunnel in [tunnel for tunnel in state.tunnels if tunnel.deadline <= now]:
            tunnel.on_deadline(now)
        # Not all targets: 100,000 may have been used, and those few have connections.
        for holder in list(state.budget.holders):
            holder.sweep(now)
        state.resolver.sweep(now)
        state.health.sweep(now)
        # A client without a deadline has a tunnel, which speaks for it.
        peers = [client for client in state.clients if client.deadline < math.inf]
        state.buffer_limit.look(chain(peers, state.tunnels), now)
        if not state.shortage.look(now):
            state.budget.relieve()
        if state.retired:
            state.retired = {target for target in state.retired if target.in_use}

    def _expire(self, clients: list[Client]) -> None:
        """Tell clients that their time is over; between a few and a few the others are served."""
        now = self.state.clock()
        for client in clients[-EXPIRY_BATCH:]:
            # In an earlier turn of the loop its time was over.
            if client.deadline <= now and client in self.state.clients:
                client.on_deadline(now)
        del clients[-EXPIRY_BATCH:]
        if clients:
            self.state.loop.call_soon(self._expire, clients)

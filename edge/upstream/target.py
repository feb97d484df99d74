"""Owns one address that requests are forwarded to: its idle connections, those who wait for one,
and until when balancers pass it over.

Everything a request costs here is O(1): idle connections are a stack, so that the most recently
used one (the least likely to be closed by the other side) serves next and the rest can age out;
waiters are a queue, served by whatever connection comes first, a new one or a returned one.
"""

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from edge.errors import UpstreamError
from edge.upstream.connection import UpstreamConnection

if TYPE_CHECKING:
    from edge.proxy.exchange import Exchange
    from edge.worker.worker import Worker

logger = logging.getLogger(__name__)

# Seconds for which a target that cannot be connected to is passed over (back-off): doubled with
# each failure in a row. Short, because a deploy brings it back within seconds; growing, because a
# dead host costs a request the connect timeout each time.
INITIAL_BACKOFF: Final = 1.0
MAX_BACKOFF: Final = 30.0

# Seconds after which an idle connection beyond the pool's size is surely not part of a burst.
EXCESS_IDLE_TIMEOUT: Final = 0.25


class Target:
    """One `host:port`, shared by every route that names it."""

    __slots__ = (
        "_attempts",
        "_backoff_until",
        "_failures",
        "_fresh_waiters",
        "_host",
        "_idle",
        "_keep_idle",
        "_port",
        "_waiters",
        "_worker",
        "address",
        "ejected_until",
        "in_flight",
        "tunnels",
        "unavailable_until",
    )

    def __init__(self, address: str, worker: "Worker") -> None:
        host, _, port = address.rpartition(":")
        self.address = address
        self._host = host.strip("[]")
        self._port = int(port)
        self._worker = worker
        self._keep_idle = True
        self._idle: list[UpstreamConnection] = []
        self._waiters: dict[Exchange, None] = {}
        # When each attempt is given up, and for whom it was begun. As many as wait, at least.
        self._attempts: dict[asyncio.Task[UpstreamConnection], tuple[float, Exchange]] = {}
        self._fresh_waiters: set[Exchange] = set()
        self._failures = 0
        self.in_flight = 0  # exchanges, tunnels among them
        self.tunnels = 0
        self._backoff_until = 0.0
        self.ejected_until = 0.0  # what health.py says; math.inf: until it says otherwise
        # The later of the two, for balancers; 0 while the target is available, or not known.
        self.unavailable_until = 0.0

    def __repr__(self) -> str:
        return (
            f"<Target {self.address} in_flight={self.in_flight} idle={len(self._idle)}"
            f" connecting={len(self._attempts)} waiting={len(self._waiters)}>"
        )

    @property
    def in_use(self) -> bool:
        """Whether an exchange is under way or an attempt to connect."""
        return bool(self.in_flight or self._attempts)

    @property
    def connecting(self) -> bool:
        """Whether an attempt to connect is under way."""
        return bool(self._attempts)

    @property
    def idle(self) -> int:
        """Idle connections in the pool."""
        return len(self._idle)

    def take(self, now: float) -> UpstreamConnection | None:
        """An idle connection that is still good, or None."""
        idle = self._idle
        while idle:
            connection = idle.pop()
            # A reset that the loop has read but not reported yet shows only in is_closing().
            if (
                now - connection.idle_since < connection.idle_limit
                and not connection.transport.is_closing()
            ):
                connection.reused = True
                return connection
            connection.close()
        return None

    def connect_for(self, exchange: "Exchange", timeout: float, fresh: bool = False) -> None:
        """Connect within `timeout` seconds; the first connection to come free is `exchange`'s.

        `fresh`: only the new one will do, because an old one has just proved dead.
        """
        if fresh:
            self._fresh_waiters.add(exchange)
        else:
            self._waiters[exchange] = None
        task = self._worker.loop.create_task(self.connect())
        self._attempts[task] = (self._worker.clock() + timeout, exchange)
        task.add_done_callback(self._connected)

    def cancel_wait(self, exchange: "Exchange") -> None:
        """`exchange` waits no longer."""
        self._waiters.pop(exchange, None)
        self._fresh_waiters.discard(exchange)

    def give_back(self, connection: UpstreamConnection, now: float) -> None:
        """`connection` is free: the longest waiter takes it, or the pool, if it has room."""
        if connection.lost:
            connection.close()
        elif self._waiters:
            exchange = next(iter(self._waiters))
            del self._waiters[exchange]
            exchange.on_pool_ready(connection)
        elif self._keep_idle:
            connection.idle_since = now
            self._idle.append(connection)
        else:
            connection.close()

    def discard(self, connection: UpstreamConnection) -> None:
        """`connection` is closed; it may have been idle."""
        if connection in self._idle:
            self._idle.remove(connection)

    def sweep(self, now: float) -> None:
        """Give up connecting what takes too long; close what has been idle for too long.

        More than the pool's size is idle only until the next sweep: with 1,000 clients in step, a
        bound that held at every moment would close and open 700 connections each time round.
        """
        for task, (deadline, _) in list(self._attempts.items()):
            if deadline <= now:
                task.cancel()
        idle = self._idle
        excess = len(idle) - self._worker.settings.pool_size
        if idle and (excess > 0 or now - idle[0].idle_since >= idle[0].idle_limit):
            # Oldest first: the stack is in the order of its members' last use.
            for index, connection in enumerate(idle[:]):
                rested = now - connection.idle_since
                if rested >= connection.idle_limit or (
                    index < excess and rested >= EXCESS_IDLE_TIMEOUT
                ):
                    connection.close()

    def retire(self) -> None:
        """Nothing new comes, because no route names it any more or because it is drained: what is
        in flight ends, nothing is kept.
        """
        self._keep_idle = False
        for connection in self._idle[:]:
            connection.close()

    def reinstate(self) -> None:
        """It is drained no longer: exchanges come again."""
        self._keep_idle = True

    def close(self) -> None:
        """Close everything at once."""
        self.retire()
        for task in self._attempts:
            task.cancel()

    def eject_until(self, until: float) -> None:
        """Be passed over until then, whatever becomes of connections; 0: no longer."""
        self.ejected_until = until
        self.unavailable_until = max(self._backoff_until, until)

    def reset_backoff(self) -> None:
        """It can be connected to: the back-off is over."""
        self._failures = 0
        self._backoff_until = 0.0
        self.unavailable_until = self.ejected_until

    async def connect(self) -> UpstreamConnection:
        """A new connection, outside the pool. Raises OSError."""
        _, connection = await self._worker.loop.create_connection(
            lambda: UpstreamConnection(self, self._worker), self._host, self._port
        )
        return connection

    def _connected(self, task: asyncio.Task[UpstreamConnection]) -> None:
        _, exchange = self._attempts.pop(task)
        now = self._worker.clock()
        if task.cancelled():
            error = UpstreamError("connect_timeout", 502, "connecting to the upstream timed out")
            self._failed(now, error, exchange)
        elif (cause := task.exception()) is not None:
            if not isinstance(cause, OSError):
                logger.error("connecting to %s failed", self.address, exc_info=cause)
            error = UpstreamError("connect", 502, "the upstream could not be connected to")
            self._failed(now, error, exchange)
        elif task.result().transport.is_closing():
            # Accepted and dropped before we could say a word.
            self._failed(
                now, UpstreamError("reset", 502, "the upstream closed the connection"), exchange
            )
        else:
            self.reset_backoff()
            if exchange in self._fresh_waiters:
                self._fresh_waiters.remove(exchange)
                exchange.on_pool_ready(task.result())
            else:
                self.give_back(task.result(), now)

    def _failed(self, now: float, error: UpstreamError, exchange: "Exchange") -> None:
        self._worker.metrics.upstream_errors[error.kind] += 1
        # A burst of attempts that fail together is one failure.
        if self._backoff_until <= now:
            backoff = min(INITIAL_BACKOFF * 2**self._failures, MAX_BACKOFF)
            self._failures = min(self._failures + 1, 10)
            self._backoff_until = now + backoff
            self.unavailable_until = max(self._backoff_until, self.ejected_until)
        if exchange not in self._waiters and exchange not in self._fresh_waiters:
            # It has a connection that came free, which leaves those behind it this attempt.
            if len(self._attempts) >= len(self._waiters) + len(self._fresh_waiters):
                return
            exchange = next(iter(self._waiters))
        self.cancel_wait(exchange)
        exchange.on_pool_failure(error)

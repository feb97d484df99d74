"""Owns the connections to one address: those that are idle, attempts at new ones, and who waits.

Everything a request costs here is O(1): idle connections are a stack, so that the most recently
used one (the least likely to be closed by the other side) serves next and the rest can age out;
waiters are a queue, served by whatever connection comes first, a new one or a returned one. What is
idle is in the budget's books too, where the oldest of all pools is found at once.
"""

import asyncio
import logging
from collections.abc import Callable, Collection
from typing import Final, NoReturn, Protocol, cast

from edge.errors import ShortageError, UpstreamError
from edge.hosts import is_address
from edge.net.shortage import is_own_fault, no_descriptor
from edge.runtime import Runtime
from edge.upstream.connection import UpstreamConnection
from edge.upstream.dialer import Dialer
from edge.upstream.resolver import Name, Resolver

logger = logging.getLogger(__name__)

# Seconds after which an idle connection beyond the pool's size is surely not part of a burst.
EXCESS_IDLE_TIMEOUT: Final = 0.25


class Waiter(Protocol):
    """Who waits for a connection: an exchange. It is told exactly once, or cancels its wait."""

    def on_pool_ready(self, connection: UpstreamConnection) -> None:
        """`connection` is yours, until it is given back or closed."""

    def on_pool_failure(self, error: UpstreamError) -> None:
        """There is no connection to be had."""


class Pool:
    """The connections to one `host:port`.

    `on_connected` is called when an attempt to connect has succeeded, `on_connect_failed` with the
    time when one has failed.
    """

    __slots__ = (
        "_attempts",
        "_budget",
        "_dialer",
        "_fresh_waiters",
        "_host",
        "_idle",
        "_idle_everywhere",
        "_keep_idle",
        "_on_connect_failed",
        "_on_connected",
        "_open",
        "_port",
        "_runtime",
        "_waiters",
        "address",
    )

    def __init__(
        self,
        address: str,
        runtime: Runtime,
        resolver: Resolver,
        on_connected: Callable[[], None],
        on_connect_failed: Callable[[float], None],
    ) -> None:
        host, _, port = address.rpartition(":")
        self.address = address
        self._host = host.strip("[]")
        self._port = int(port)
        self._dialer = None if is_address(host) else Dialer(host, int(port), runtime, resolver)
        self._runtime = runtime
        self._on_connected = on_connected
        self._on_connect_failed = on_connect_failed
        self._keep_idle = True
        self._budget = runtime.budget
        self._open = 0  # attempts among them
        self._idle: dict[UpstreamConnection, None] = {}
        self._idle_everywhere = runtime.budget.idle
        self._waiters: dict[Waiter, None] = {}
        # As many as wait, at least.
        self._attempts: dict[asyncio.Task[UpstreamConnection], _Attempt] = {}
        self._fresh_waiters: set[Waiter] = set()

    def __repr__(self) -> str:
        return (
            f"<Pool {self.address} idle={len(self._idle)} connecting={len(self._attempts)}"
            f" waiting={len(self._waiters)}>"
        )

    @property
    def connecting(self) -> bool:
        """Whether an attempt to connect is under way."""
        return bool(self._attempts)

    @property
    def idle(self) -> int:
        """How many connections are idle."""
        return len(self._idle)

    @property
    def name(self) -> Name | None:
        """What it is known by, if that is not an address."""
        return None if self._dialer is None else self._dialer.name

    def take(self, now: float) -> UpstreamConnection | None:
        """An idle connection that is still good, or None."""
        idle = self._idle
        while idle:
            connection, _ = idle.popitem()
            del self._idle_everywhere[connection]
            # A reset that the loop has read but not reported yet shows only in is_closing().
            if (
                now - connection.idle_since < connection.idle_limit
                and not connection.transport.is_closing()
            ):
                connection.reused = True
                return connection
            connection.close()
        return None

    def connect_for(self, waiter: Waiter, timeout: float, fresh: bool = False) -> None:
        """Connect within `timeout` seconds; the first connection to come free is `waiter`'s.

        `fresh`: only the new one will do, because an old one has just proved dead.
        """
        if fresh:
            self._fresh_waiters.add(waiter)
        else:
            self._waiters[waiter] = None
        self._begin(_Attempt(waiter, self._runtime.clock() + timeout))

    def cancel_wait(self, waiter: Waiter) -> None:
        """`waiter` waits no longer."""
        self._waiters.pop(waiter, None)
        self._fresh_waiters.discard(waiter)
        if self._has_spare_attempt:
            self._budget.spare_attempts[self] = None

    def abandon_attempt(self) -> bool:
        """Give up the youngest attempt that nobody waits for; whether there was one."""
        if not self._has_spare_attempt:
            return False
        for task, attempt in reversed(self._attempts.items()):
            if (
                attempt.waiter not in self._waiters
                and attempt.waiter not in self._fresh_waiters
                and not task.done()  # else its connection is as good as idle
            ):
                del self._attempts[task]
                task.remove_done_callback(self._connected)
                task.cancel()
                for connection in attempt.booked:
                    connection.give_up()
                if self._has_spare_attempt:
                    self._budget.spare_attempts[self] = None
                return True
        return False

    def give_back(self, connection: UpstreamConnection, now: float) -> None:
        """`connection` is free: the longest waiter takes it, or the stack, if it is to be kept."""
        if connection.spent:
            connection.close()
        elif self._waiters:
            waiter = next(iter(self._waiters))
            del self._waiters[waiter]
            waiter.on_pool_ready(connection)
        elif self._keep_idle:
            connection.idle_since = now
            self._idle[connection] = None
            self._idle_everywhere[connection] = None
        else:
            connection.close()

    def discard(self, connection: UpstreamConnection) -> None:
        """`connection` is being closed; it may have been idle."""
        if connection in self._idle:
            del self._idle[connection]
            del self._idle_everywhere[connection]
        if self._dialer is not None:
            self._dialer.discard(connection)

    def forget(self) -> None:
        """A connection is closed for good, or could not be made: its descriptor is free."""
        self._open -= 1
        self._budget.upstreams -= 1
        if not self._open:
            self._budget.holders.discard(self)

    def sweep(self, now: float) -> None:
        """Give up connecting what takes too long; close what has been idle for too long.

        More than the pool's size is idle only until the next sweep: with 1,000 clients in step, a
        bound that held at every moment would close and open 700 connections each time round.
        """
        for task, attempt in list(self._attempts.items()):
            if attempt.deadline <= now:
                task.cancel()
        if self._dialer is not None:
            self._leave_addresses(self._dialer.sweep(now))
        idle = self._idle
        if not idle:
            return
        excess = len(idle) - self._runtime.settings.pool_size
        oldest = next(iter(idle))
        if excess > 0 or now - oldest.idle_since >= oldest.idle_limit:
            # Oldest first: the stack is in the order of its members' last use.
            for index, connection in enumerate(list(idle)):
                rested = now - connection.idle_since
                if rested >= connection.idle_limit or (
                    index < excess and rested >= EXCESS_IDLE_TIMEOUT
                ):
                    connection.close()

    def retire(self) -> None:
        """Keep nothing: what is in flight ends, and its connections are closed then."""
        self._keep_idle = False
        for connection in list(self._idle):
            connection.close()

    def reinstate(self) -> None:
        """Keep idle connections again."""
        self._keep_idle = True

    def close(self) -> None:
        """Close everything at once."""
        self.retire()
        for task in self._attempts:
            task.cancel()

    def connect(self) -> asyncio.Task[UpstreamConnection]:
        """Begin a connection that nobody waits for here.

        The task may raise OSError, and UpstreamError for a name that has no address.
        """
        task, _ = self._connect()
        return task

    def leave_table(self) -> None:
        """No route names it any more: keep nothing, and ask for no addresses."""
        self.retire()
        if self._dialer is not None:
            self._dialer.close()

    def _connect(self) -> tuple[asyncio.Task[UpstreamConnection], list[UpstreamConnection]]:
        """An attempt to connect, and what it has booked: of a name, one for each address tried."""
        connection = self._book()
        booked = [connection]
        opening = _refuse() if self._budget.is_exceeded else self._open_connection(booked)
        task = self._runtime.loop.create_task(opening)
        task.add_done_callback(connection.attempt_done)
        return task, booked

    async def _open_connection(self, booked: list[UpstreamConnection]) -> UpstreamConnection:
        connection = booked[0]
        if self._dialer is not None:
            return await self._dialer.connect(connection, lambda: self._book_another(booked))
        await self._runtime.loop.create_connection(
            lambda: cast(asyncio.Protocol, connection), self._host, self._port
        )
        return connection

    def _book(self) -> UpstreamConnection:
        """A connection to be, in the books from now on: what makes room for it is closed first."""
        budget = self._budget
        budget.make_room()
        budget.upstreams += 1
        budget.holders.add(self)
        self._open += 1
        return UpstreamConnection(self, self._runtime.settings)

    def _book_another(self, booked: list[UpstreamConnection]) -> UpstreamConnection | None:
        """One more for the same attempt, towards another address; None if there is no room."""
        connection = self._book()
        if self._budget.is_exceeded:
            connection.give_up()
            return None
        booked.append(connection)
        return connection

    def _leave_addresses(self, connections: Collection[UpstreamConnection]) -> None:
        """These lead to where the name does not: what is in flight on them ends."""
        for connection in connections:
            if connection in self._idle:
                connection.close()
            else:
                connection.spent = True

    @property
    def _waiting(self) -> int:
        return len(self._waiters) + len(self._fresh_waiters)

    @property
    def _has_spare_attempt(self) -> bool:
        return len(self._attempts) > self._waiting

    def _begin(self, attempt: "_Attempt") -> None:
        task, attempt.booked = self._connect()
        self._attempts[task] = attempt
        task.add_done_callback(self._connected)

    def _connected(self, task: asyncio.Task[UpstreamConnection]) -> None:
        attempt = self._attempts.pop(task)
        now = self._runtime.clock()
        if task.cancelled():
            error = UpstreamError("connect_timeout", 502, "connecting to the upstream timed out")
            self._failed(now, error, attempt.waiter)
        elif isinstance(cause := task.exception(), OSError) and is_own_fault(cause):
            self._ran_short(now, cause, attempt)
        elif isinstance(cause, UpstreamError):
            self._failed(now, cause, attempt.waiter)
        elif cause is not None:
            if not isinstance(cause, OSError):
                logger.error("connecting to %s failed", self.address, exc_info=cause)
            error = UpstreamError("connect", 502, "the upstream could not be connected to")
            self._failed(now, error, attempt.waiter)
        elif task.result().transport.is_closing():
            # Accepted and dropped before we could say a word.
            error = UpstreamError("reset", 502, "the upstream closed the connection")
            self._failed(now, error, attempt.waiter)
        else:
            self._on_connected()
            if attempt.waiter in self._fresh_waiters:
                self._fresh_waiters.remove(attempt.waiter)
                attempt.waiter.on_pool_ready(task.result())
            else:
                self.give_back(task.result(), now)

    def _ran_short(self, now: float, cause: OSError, attempt: "_Attempt") -> None:
        """We have no descriptor left, or no memory: try again if something could be closed."""
        self._runtime.shortage.note(cause, now)
        if self._budget.relieve() and not attempt.is_second:
            attempt.is_second = True
            self._begin(attempt)
        else:
            self._failed(now, ShortageError(), attempt.waiter)

    def _failed(self, now: float, error: UpstreamError, waiter: Waiter) -> None:
        self._runtime.metrics.upstream_errors[error.kind] += 1
        if not isinstance(error, ShortageError):
            self._on_connect_failed(now)
        if waiter not in self._waiters and waiter not in self._fresh_waiters:
            # It has a connection that came free, which leaves those behind it this attempt.
            if len(self._attempts) >= self._waiting:
                return
            waiter = next(iter(self._waiters))
        self.cancel_wait(waiter)
        waiter.on_pool_failure(error)


class _Attempt:
    """An attempt to connect: for whom it was begun, and when it is given up."""

    __slots__ = ("booked", "deadline", "is_second", "waiter")

    booked: list[UpstreamConnection]

    def __init__(self, waiter: Waiter, deadline: float) -> None:
        self.waiter = waiter
        self.deadline = deadline
        self.is_second = False  # the first one met a shortage


async def _refuse() -> NoReturn:
    """The kernel may have descriptors left where we have no room, but those are for clients."""
    raise no_descriptor()

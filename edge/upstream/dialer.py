"""Owns how a name's port is connected to: over all addresses of the name, and away from those that
are no longer its own.

A refusal costs nothing, because the next address is tried at once. Silence costs a quarter of a
second, once in a while: the next address is tried beside it (RFC 8305 section 5), and the silent
one comes last from then on. Where we have no descriptor for an attempt, no address is to blame.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable, Collection
from typing import Final, cast

from edge.net.shortage import concerns_all_targets, is_own_fault, no_descriptor
from edge.runtime import Runtime
from edge.upstream.connection import UpstreamConnection
from edge.upstream.resolver import LOCALHOST, Name, Resolver

# Seconds until the next address is tried beside one that is silent (RFC 8305 section 5).
ATTEMPT_DELAY: Final = 0.25

# Seconds for which an address comes last that refused, was silent or was overtaken.
FAILED_FOR: Final = 30.0

# A connection to be, that has its place in the budget; None while there is none.
Book = Callable[[], UpstreamConnection | None]


class Dialer:
    """Connects to one port of a name."""

    __slots__ = (
        "_failed",
        "_known",
        "_open",
        "_port",
        "_resolver",
        "_runtime",
        "_turn",
        "name",
    )

    def __init__(self, host: str, port: int, runtime: Runtime, resolver: Resolver) -> None:
        self.name: Name = resolver.acquire(host)
        self._port = port
        self._runtime = runtime
        self._resolver = resolver
        self._turn = os.getpid()  # so that the workers do not begin with the same address
        self._failed: dict[str, float] = {}  # addresses, and until when they come last
        self._open: dict[UpstreamConnection, str] = {}  # and where they lead to
        self._known: tuple[str, ...] = ()  # the name's addresses at the last look

    def __repr__(self) -> str:
        return f"<Dialer {self.name!r} port={self._port} open={len(self._open)}>"

    async def connect(self, connection: UpstreamConnection, book: Book) -> UpstreamConnection:
        """Connect to one address of the name: `connection`, or one that was booked for another try.

        Whatever is booked gives its place up if it is not what is returned; `connection` does
        where the caller's task fails. Raises OSError, or UpstreamError if the name has no address.
        """
        addresses = self._in_turn(await self._resolver.addresses(self.name))
        try:
            if len(addresses) == 1:
                address = addresses[0]
                await self._attempt(address, connection)
            else:
                connection, address = await self._race(deque(addresses), connection, book)
        except OSError as error:
            if not is_own_fault(error):
                self._resolver.doubt(self.name)
            raise
        if not connection.lost:
            self._open[connection] = address
        return connection

    def discard(self, connection: UpstreamConnection) -> None:
        """`connection` is closed."""
        self._open.pop(connection, None)

    def sweep(self, now: float) -> Collection[UpstreamConnection]:
        """Keep the name in use while connections are open; those that lead elsewhere by now."""
        if not self._open:
            return ()
        self.name.asked = now
        addresses = self.name.addresses
        if addresses is self._known:
            return ()
        self._known = addresses
        return [each for each, address in self._open.items() if address not in addresses]

    def close(self) -> None:
        """No route names the target any more."""
        self._resolver.release(self.name)

    def _in_turn(self, addresses: tuple[str, ...]) -> list[str]:
        """Each address first in its turn, those that have failed last.

        Those of localhost are one machine, and as a rule only one of them is listened on.
        """
        if self._failed:
            now = self._runtime.clock()
            self._failed = {each: until for each, until in self._failed.items() if until > now}
        failed = [each for each in addresses if each in self._failed]
        good = [each for each in addresses if each not in failed]
        if good and self.name.host != LOCALHOST:
            self._turn += 1
            start = self._turn % len(good)
            good = good[start:] + good[:start]
        return good + failed

    async def _attempt(self, address: str, connection: UpstreamConnection) -> UpstreamConnection:
        try:
            await self._runtime.loop.create_connection(
                lambda: cast(asyncio.Protocol, connection), address, self._port
            )
        except OSError as error:
            if not concerns_all_targets(error):
                self._mark_failed(address)
            raise
        self._failed.pop(address, None)
        return connection

    async def _race(
        self, addresses: deque[str], first: UpstreamConnection, book: Book
    ) -> tuple[UpstreamConnection, str]:
        """The first connection to any of them, and to which.

        Raises OSError: what keeps us from trying any, else the last refusal, else what we have run
        out of for each of them.
        """
        attempts: dict[asyncio.Task[UpstreamConnection], tuple[str, UpstreamConnection]] = {}
        booked: UpstreamConnection | None = first
        error: OSError | None = None
        try:
            while True:
                if addresses and (connection := booked or book()) is not None:
                    booked = None
                    address = addresses.popleft()
                    task = self._runtime.loop.create_task(self._attempt(address, connection))
                    task.add_done_callback(connection.attempt_done)
                    attempts[task] = address, connection
                elif not attempts:
                    raise no_descriptor()
                done, _ = await asyncio.wait(
                    attempts,
                    timeout=ATTEMPT_DELAY if addresses else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in done:
                    address, connection = attempts.pop(task)
                    cause = task.exception()
                    if cause is None:
                        return connection, address
                    if not isinstance(cause, OSError):
                        raise cause
                    # Before the next one is booked; the task's own callback may be later.
                    connection.give_up()
                    if error is None or _weight(cause) >= _weight(error):
                        error = cause
                    if concerns_all_targets(cause):
                        addresses.clear()
                    if not addresses and not attempts:
                        raise error
        finally:
            for task, (address, connection) in attempts.items():
                # Overtaken, or still silent when the time was over: not if we gave it up early.
                if not connection.lost:
                    self._mark_failed(address)
                task.add_done_callback(_close)
                task.cancel()

    def _mark_failed(self, address: str) -> None:
        self._failed[address] = self._runtime.clock() + FAILED_FOR


def _weight(error: OSError) -> int:
    """How much `error` says of why no address could be connected to.

    None was tried in earnest if we cannot connect at all. No local port or address for one of them
    (::1, where IPv6 is turned off) is less than the refusal of another.
    """
    if concerns_all_targets(error):
        return 2
    return 0 if is_own_fault(error) else 1


def _close(task: asyncio.Task[UpstreamConnection]) -> None:
    """An attempt that is not wanted any more has ended, perhaps well."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()

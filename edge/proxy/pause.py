"""Owns the requests that wait for a paused route, in order, until it is resumed."""

import asyncio
from typing import Final

from edge.errors import HttpError
from edge.proxy.ports import WaitingExchange
from edge.telemetry.metrics import RouteCounters

# Requests that go on in one turn of the loop: about 2 ms, with a new connection for each.
RELEASE_BATCH: Final = 32

# What a client is told that waited in vain or found no room: a pause is a matter of seconds.
RETRY_AFTER: Final = b"Retry-After: 5"


class PauseQueue:
    """One paused route's waiting requests."""

    __slots__ = ("_counters", "_loop", "_released", "_waiting")

    def __init__(self, counters: RouteCounters, loop: asyncio.AbstractEventLoop) -> None:
        self._counters = counters
        self._loop = loop
        self._waiting: dict[WaitingExchange, None] = {}
        self._released: dict[WaitingExchange, None] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def __repr__(self) -> str:
        return f"<PauseQueue waiting={len(self._waiting)} released={len(self._released)}>"

    def add(self, exchange: WaitingExchange, until: float) -> None:
        """Let `exchange` wait, no longer than `until`."""
        self._waiting[exchange] = None
        self._counters.paused += 1
        exchange.wait_in(self, until)

    def cancel_wait(self, exchange: WaitingExchange) -> None:
        """`exchange` waits no longer: its client has left, or its time is over."""
        self._counters.paused -= 1
        self._waiting.pop(exchange, None)
        self._released.pop(exchange, None)

    def timeout_error(self) -> HttpError:
        """What a request gets whose time is over."""
        return HttpError(
            503, "the route is paused and was not resumed in time", (RETRY_AFTER,), "paused"
        )

    def reject_all(self) -> None:
        """The edge ends before the pause does: all are told to come again."""
        for exchange in [*self._waiting, *self._released]:
            exchange.reject(self.timeout_error())

    def release(self) -> None:
        """Let all go on, a few in each turn of the loop, so that others are served in between."""
        self._released |= self._waiting
        self._waiting = {}
        self._loop.call_soon(self._release_batch)

    def _release_batch(self) -> None:
        some = list(self._released)[:RELEASE_BATCH]
        if len(self._released) > len(some):
            self._loop.call_soon(self._release_batch)
        for exchange in some:
            del self._released[exchange]
            self._counters.paused -= 1
            exchange.resume()

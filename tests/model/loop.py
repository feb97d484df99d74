"""Owns simulated time: an event loop whose clock jumps to the next thing that is to happen.

All processes of the model live in one loop. What each of them has to do is run only while it runs:
it is held back while one is stopped, and for good once it is dead.
"""

import asyncio
import heapq
import itertools
import random
from asyncio import events
from collections import deque
from collections.abc import Callable
from contextvars import Context, ContextVar
from typing import Any, Final, Protocol, TypeVarTuple, Unpack

Ts = TypeVarTuple("Ts")

# Seconds that work beside a loop takes, at least and at most.
QUICK: Final = 0.0002
SLOW: Final = 0.003


class Owner(Protocol):
    """A process, to the loop: `held` is what one that does not run has to do when it does."""

    is_running: bool
    held: "deque[tuple[asyncio.Handle, Owner | None]]"


OWNER: Final[ContextVar[Owner | None]] = ContextVar("OWNER", default=None)
"""The process whose code runs; None is the world outside of all."""


class Loop(asyncio.BaseEventLoop):
    """`on_step` is called after everything that was done."""

    def __init__(self, chance: random.Random, on_step: Callable[[], None]) -> None:
        super().__init__()
        self._now = 1000.0
        self._chance = chance
        self._on_step = on_step
        self._order = itertools.count()
        self._soon: deque[tuple[asyncio.Handle, Owner | None]] = deque()
        self._later: list[tuple[float, int, asyncio.TimerHandle, Owner | None]] = []
        self.is_over = False
        """Whether the machine has been taken apart: no work is done any more."""

    # What asyncio asks of a loop

    def time(self) -> float:
        return self._now

    def call_soon(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._soon.append((handle, _owner(context)))
        return handle

    call_soon_threadsafe = call_soon

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._later, (when, next(self._order), handle, _owner(context)))
        return handle

    def run_in_executor(
        self, executor: Any, func: Callable[[Unpack[Ts]], Any], *args: *Ts
    ) -> "asyncio.Future[Any]":
        """What a thread does is done in one moment, some time later."""
        future = self.create_future()

        def work() -> None:
            if future.cancelled():
                return
            if self.is_over:
                future.set_exception(OSError("the machine is off"))
                return
            try:
                future.set_result(func(*args))
            except Exception as error:
                future.set_exception(error)

        self.call_later(self.pause(), work)
        return future

    # Time

    def pause(self) -> float:
        """Some time that something takes, in seconds."""
        return self._chance.uniform(QUICK, SLOW)

    def run_for(self, seconds: float) -> None:
        """Let everything happen that happens in this time."""
        running = events._get_running_loop()  # of a process that blocks: the others go on
        task = asyncio.current_task(self) if running is self else None
        if task is not None:
            asyncio.tasks._leave_task(self, task)
        events._set_running_loop(self)
        try:
            self._run_until(self._now + seconds)
        finally:
            events._set_running_loop(running)
            if task is not None:
                asyncio.tasks._enter_task(self, task)

    def _run_until(self, deadline: float) -> None:
        soon, later = self._soon, self._later
        while True:
            while soon:
                handle, owner = soon.popleft()
                if handle.cancelled():
                    continue
                if owner is not None and not owner.is_running:
                    owner.held.append((handle, owner))
                    continue
                handle._run()
                self._on_step()
            if not later or later[0][0] > deadline:
                self._now = deadline
                return
            when, _, timer, owner = heapq.heappop(later)
            if not timer.cancelled():
                self._now = max(self._now, when)
                soon.append((timer, owner))

    def resume(self, owner: Owner) -> None:
        """Do what was to be done while it was stopped."""
        self._soon.extend(owner.held)
        owner.held.clear()


def _owner(context: Context | None) -> Owner | None:
    return OWNER.get() if context is None else context.get(OWNER)

"""Proves `edge.upstream.pool` where attempts to connect end in another order than they began.

A kernel does not let a test say in which order connections succeed and fail; a fake loop does.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest

from edge.errors import UpstreamError
from edge.runtime import Runtime
from edge.upstream.connection import UpstreamConnection
from edge.upstream.resolver import Resolver
from edge.upstream.target import Target
from tests.harness import Clock, settings_for


class Transport:
    """A connection on which nothing happens."""

    def set_write_buffer_limits(self, high: int) -> None: ...

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None: ...


class Loop:
    """Attempts to connect end when the test says so, in its order."""

    def __init__(self) -> None:
        self.attempts: list[asyncio.Future[None]] = []

    def create_task(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return asyncio.get_running_loop().create_task(coroutine)

    async def create_connection(
        self, factory: Callable[[], UpstreamConnection], host: str, port: int
    ) -> tuple[Transport, UpstreamConnection]:
        attempt = asyncio.get_running_loop().create_future()
        self.attempts.append(attempt)
        await attempt
        transport, protocol = Transport(), factory()
        protocol.connection_made(cast(asyncio.BaseTransport, transport))
        return transport, protocol


class Waiter:
    """An exchange that waits for a connection; `got` is what it was given."""

    def __init__(self) -> None:
        self.got: UpstreamConnection | str | None = None

    def on_pool_ready(self, connection: UpstreamConnection) -> None:
        assert self.got is None
        self.got = connection

    def on_pool_failure(self, error: UpstreamError) -> None:
        assert self.got is None
        self.got = error.kind


class Scene:
    """A target, and exchanges that begin to wait for it in their order."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.clock = Clock()
        runtime = Runtime(settings_for(), self.clock)
        runtime.loop = cast(asyncio.AbstractEventLoop, self.loop)
        self.pool = Target("10.0.0.1:80", runtime, Resolver(runtime)).pool

    async def waits(self, connect_timeout: float = 5.0) -> Waiter:
        waiter = Waiter()
        await self.waits_again(waiter, connect_timeout, fresh=False)
        return waiter

    async def waits_again(
        self, waiter: Waiter, connect_timeout: float = 5.0, fresh: bool = True
    ) -> None:
        self.pool.connect_for(waiter, connect_timeout, fresh)
        await self.settle()

    async def succeeds(self, attempt: int) -> None:
        self.loop.attempts[attempt].set_result(None)
        await self.settle()

    async def fails(self, attempt: int) -> None:
        self.loop.attempts[attempt].set_exception(ConnectionRefusedError())
        await self.settle()

    async def passes(self, seconds: float) -> None:
        self.clock.now += seconds
        self.pool.sweep(self.clock.now)
        await self.settle()

    def forgets(self, waiter: Waiter) -> None:
        self.pool.cancel_wait(waiter)

    async def settle(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)


def plays(scenario: Callable[[Scene], Coroutine[Any, Any, None]]) -> None:
    async def play() -> None:
        await scenario(Scene())

    asyncio.run(play())


def test_whoever_waited_longest_gets_the_first_connection() -> None:
    async def scenario(scene: Scene) -> None:
        first, second = await scene.waits(), await scene.waits()
        await scene.succeeds(1)
        assert isinstance(first.got, UpstreamConnection)
        assert second.got is None
        await scene.succeeds(0)
        assert isinstance(second.got, UpstreamConnection)

    plays(scenario)


def test_an_attempt_that_fails_fails_the_one_it_was_begun_for() -> None:
    async def scenario(scene: Scene) -> None:
        first, second = await scene.waits(), await scene.waits()
        await scene.fails(1)
        assert second.got == "connect"
        assert first.got is None

    plays(scenario)


def test_an_attempt_is_given_up_after_the_patience_of_the_one_it_was_begun_for() -> None:
    async def scenario(scene: Scene) -> None:
        patient, hasty = await scene.waits(10.0), await scene.waits(1.0)
        await scene.passes(1.0)
        assert hasty.got == "connect_timeout"
        assert patient.got is None
        await scene.passes(9.0)
        assert patient.got == "connect_timeout"

    plays(scenario)


@pytest.mark.parametrize("fresh", [False, True])
def test_nobody_waits_without_an_attempt(fresh: bool) -> None:
    """The first took the connection of the second, so the attempt of the first is the second's."""

    async def scenario(scene: Scene) -> None:
        first, second = await scene.waits(), await scene.waits()
        await scene.succeeds(1)
        if fresh:
            await scene.waits_again(Waiter())
        await scene.fails(0)
        assert isinstance(first.got, UpstreamConnection)
        assert second.got == "connect"

    plays(scenario)


def test_the_attempt_of_one_that_left_fails_nobody_who_has_another() -> None:
    async def scenario(scene: Scene) -> None:
        gone, waiting = await scene.waits(), await scene.waits()
        scene.forgets(gone)
        await scene.fails(0)
        assert (gone.got, waiting.got) == (None, None)
        await scene.succeeds(1)
        assert isinstance(waiting.got, UpstreamConnection)

    plays(scenario)


def test_one_that_wants_a_fresh_connection_gets_its_own_before_those_who_came_earlier() -> None:
    async def scenario(scene: Scene) -> None:
        first, other = await scene.waits(), Waiter()
        await scene.waits_again(other)
        await scene.succeeds(1)
        assert isinstance(other.got, UpstreamConnection)
        assert first.got is None

    plays(scenario)

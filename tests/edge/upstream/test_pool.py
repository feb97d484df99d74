"""Proves `edge.upstream.pool` where attempts to connect end in another order than they began, and
where descriptors are short.

A kernel does not let a test say in which order connections succeed and fail; a fake loop does.
"""

import asyncio
import errno
import os
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest

from edge.errors import UpstreamError
from edge.net.budget import RELIEF, RESERVED_FOR_CHECKS
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
        self.runtime = Runtime(settings_for(), self.clock)
        self.runtime.loop = cast(asyncio.AbstractEventLoop, self.loop)
        self.budget = self.runtime.budget
        self.resolver = Resolver(self.runtime)
        self.target = Target("10.0.0.1:80", self.runtime, self.resolver)
        self.pool = self.target.pool

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

    async def fails(self, attempt: int, error: OSError | None = None) -> None:
        self.loop.attempts[attempt].set_exception(error or ConnectionRefusedError())
        await self.settle()

    async def has_idle(self) -> UpstreamConnection:
        """A connection that is idle in the pool of another target."""
        other = Target("10.0.0.2:80", self.runtime, self.resolver).pool
        waiter = Waiter()
        other.connect_for(waiter, 5.0)
        await self.settle()
        await self.succeeds(-1)
        assert isinstance(waiter.got, UpstreamConnection)
        other.give_back(waiter.got, self.clock.now)
        return waiter.got

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


def refused(code: int) -> OSError:
    """What the kernel says where something has run out."""
    return OSError(code, os.strerror(code))


class TestShortage:
    """It is no fault of the target."""

    def test_an_attempt_is_made_again_when_something_idle_was_closed(self) -> None:
        async def scenario(scene: Scene) -> None:
            idle = await scene.has_idle()
            waiter = await scene.waits()
            await scene.fails(-1, refused(errno.EMFILE))
            assert idle.lost
            assert waiter.got is None
            await scene.succeeds(-1)
            assert isinstance(waiter.got, UpstreamConnection)
            assert scene.target.unavailable_until == 0

        plays(scenario)

    def test_it_is_told_if_there_is_nothing_to_close(self) -> None:
        async def scenario(scene: Scene) -> None:
            waiter = await scene.waits()
            await scene.fails(-1, refused(errno.EADDRNOTAVAIL))
            assert waiter.got == "shortage"
            assert scene.target.unavailable_until == 0
            assert scene.runtime.metrics.shortages == {"EADDRNOTAVAIL": 1}

        plays(scenario)

    def test_it_is_told_if_the_second_attempt_meets_it_too(self) -> None:
        async def scenario(scene: Scene) -> None:
            for _ in range(2 * RELIEF):
                await scene.has_idle()
            waiter = await scene.waits()
            await scene.fails(-1, refused(errno.EMFILE))
            assert waiter.got is None
            await scene.fails(-1, refused(errno.EMFILE))
            assert waiter.got == "shortage"

        plays(scenario)

    def test_past_the_budget_the_kernel_is_not_asked(self) -> None:
        async def scenario(scene: Scene) -> None:
            scene.budget.room = 10
            scene.budget.clients = 10 + RESERVED_FOR_CHECKS
            waiter = await scene.waits()
            assert scene.loop.attempts == []
            assert waiter.got == "shortage"
            assert scene.budget.upstreams == 0

        plays(scenario)


class TestTheBudget:
    def test_knows_every_connection_and_attempt(self) -> None:
        async def scenario(scene: Scene) -> None:
            first, second = await scene.waits(), await scene.waits()
            assert scene.budget.upstreams == 2
            await scene.fails(1)
            assert second.got == "connect"
            await scene.succeeds(0)
            assert scene.budget.upstreams == 1
            assert isinstance(first.got, UpstreamConnection)
            scene.pool.give_back(first.got, scene.clock.now)
            assert list(scene.budget.idle) == [first.got]
            assert scene.budget.holders == {scene.pool}
            first.got.close()
            assert not scene.budget.idle
            assert not scene.budget.holders
            first.got.connection_lost(None)
            assert scene.budget.upstreams == 0

        plays(scenario)

    def test_takes_back_what_was_idle_for_longest_in_any_pool(self) -> None:
        async def scenario(scene: Scene) -> None:
            oldest, younger = await scene.has_idle(), await scene.has_idle()
            scene.budget.room = scene.budget.comfortable = 2
            await scene.waits()
            assert (oldest.lost, younger.lost) == (True, False)

        plays(scenario)

    def test_takes_back_an_attempt_that_nobody_waits_for(self) -> None:
        async def scenario(scene: Scene) -> None:
            gone, waiting, fresh = await scene.waits(), await scene.waits(), Waiter()
            await scene.waits_again(fresh)
            scene.forgets(gone)
            assert scene.budget.reclaim()
            assert not scene.budget.reclaim()
            await scene.settle()
            assert [attempt.cancelled() for attempt in scene.loop.attempts] == [True, False, False]
            assert scene.budget.upstreams == 2
            await scene.succeeds(2)
            await scene.succeeds(1)
            assert isinstance(fresh.got, UpstreamConnection)
            assert isinstance(waiting.got, UpstreamConnection)
            assert gone.got is None

        plays(scenario)

    def test_takes_back_no_attempt_that_somebody_needs(self) -> None:
        """The attempt of the first, which took the second's connection, is now the second's."""

        async def scenario(scene: Scene) -> None:
            gone, first, second = await scene.waits(), await scene.waits(), await scene.waits()
            scene.forgets(gone)
            await scene.fails(0)
            await scene.succeeds(2)
            assert isinstance(first.got, UpstreamConnection)
            assert not scene.budget.reclaim()
            await scene.succeeds(1)
            assert isinstance(second.got, UpstreamConnection)

        plays(scenario)

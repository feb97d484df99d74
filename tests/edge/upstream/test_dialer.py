"""Proves `edge.upstream.dialer` where attempts to connect end in an order that no kernel can be
made to keep.
"""

import asyncio
import errno
import os
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest

from edge.errors import UpstreamError
from edge.net.budget import RESERVED_FOR_CHECKS
from edge.runtime import Runtime
from edge.upstream import dialer
from edge.upstream.connection import UpstreamConnection
from edge.upstream.dialer import FAILED_FOR
from edge.upstream.name_servers import Answer
from edge.upstream.pool import Pool
from edge.upstream.resolver import Resolver
from edge.upstream.target import Target
from tests.harness import Clock, settings_for

FIRST, SECOND, THIRD = ADDRESSES = ("10.0.0.1", "10.0.0.2", "10.0.0.3")


class Transport:
    """A connection on which nothing happens; `aborted` when it was closed."""

    def __init__(self) -> None:
        self.aborted = False

    def set_write_buffer_limits(self, high: int) -> None: ...

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


class Loop:
    """Attempts to connect end when the test says so, in its order."""

    def __init__(self) -> None:
        self.attempts: dict[str, asyncio.Future[None]] = {}
        self.transports: dict[str, Transport] = {}
        self.tasks: list[asyncio.Task[Any]] = []

    def create_task(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        self.tasks.append(asyncio.get_running_loop().create_task(coroutine))
        return self.tasks[-1]

    async def create_connection(
        self, factory: Callable[[], UpstreamConnection], host: str, port: int
    ) -> tuple[Transport, UpstreamConnection]:
        attempt = self.attempts[host] = asyncio.get_running_loop().create_future()
        try:
            await attempt
        except asyncio.CancelledError:
            # As it may be, the kernel was done before the attempt was cancelled.
            if not attempt.done() or attempt.cancelled():
                raise
        transport, protocol = Transport(), factory()
        self.transports[host] = transport
        protocol.connection_made(cast(asyncio.BaseTransport, transport))
        return transport, protocol


class Scene:
    """A target whose name has three addresses, of which the first is the first one's turn."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.clock = Clock()
        self.runtime = runtime = Runtime(settings_for(), self.clock)
        self.budget = runtime.budget
        runtime.loop = cast(asyncio.AbstractEventLoop, self.loop)
        resolver = Resolver(runtime)
        self.target = Target("app.internal:80", runtime, resolver)
        self.pool: Pool = self.target.pool
        assert self.pool.name is not None
        self.name = self.pool.name
        self.knows(*ADDRESSES)
        self.connecting: asyncio.Task[UpstreamConnection]

    def knows(self, *addresses: str) -> None:
        self.name.learn(Answer({"A": addresses, "AAAA": ()}, 60.0), self.clock())

    async def connects(self) -> None:
        self.loop.attempts.clear()
        self.connecting = self.pool.connect()
        await self.settle()

    async def succeeds(self, address: str) -> None:
        self.loop.attempts[address].set_result(None)
        await self.settle()

    async def fails(self, address: str, code: int = errno.ECONNREFUSED) -> None:
        self.loop.attempts[address].set_exception(OSError(code, address))
        await self.settle()

    def leads_to(self, address: str) -> bool:
        transport = cast(object, self.connecting.result().transport)
        return transport is self.loop.transports[address]

    @property
    def tried(self) -> list[str]:
        return list(self.loop.attempts)

    async def settle(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)


@pytest.fixture
def plays(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Plays a scenario; an address that is silent is overtaken at once, or never if told so."""
    monkeypatch.setattr(os, "getpid", lambda: 2)

    def play(scenario: Callable[[Scene], Coroutine[Any, Any, None]], delay: float | None) -> None:
        monkeypatch.setattr(dialer, "ATTEMPT_DELAY", delay)

        async def run() -> None:
            await scenario(Scene())

        asyncio.run(run())

    return play


def test_the_next_address_is_tried_at_once_after_a_refusal_and_not_before(
    plays: Callable[..., None],
) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.connects()
        assert scene.tried == [FIRST]
        await scene.fails(FIRST)
        assert scene.tried == [FIRST, SECOND]
        await scene.succeeds(SECOND)
        assert scene.leads_to(SECOND)

    plays(scenario, None)


def test_the_last_refusal_is_the_error_when_all_refuse(plays: Callable[..., None]) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.connects()
        for address in ADDRESSES:
            await scene.fails(address)
        with pytest.raises(ConnectionRefusedError, match=THIRD):
            scene.connecting.result()

    plays(scenario, None)


def test_the_others_are_tried_beside_one_that_is_silent(plays: Callable[..., None]) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.connects()
        assert scene.tried == [FIRST, SECOND, THIRD]
        await scene.succeeds(SECOND)
        assert scene.leads_to(SECOND)
        assert scene.loop.attempts[FIRST].cancelled()
        assert scene.loop.attempts[THIRD].cancelled()

    plays(scenario, 0)


def test_a_refusal_beside_it_is_not_the_end(plays: Callable[..., None]) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.connects()
        await scene.fails(THIRD)
        await scene.fails(SECOND)
        assert not scene.connecting.done()
        await scene.succeeds(FIRST)
        assert scene.leads_to(FIRST)

    plays(scenario, 0)


def test_of_two_that_are_there_at_once_one_is_closed(plays: Callable[..., None]) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.connects()
        scene.loop.attempts[FIRST].set_result(None)
        await scene.succeeds(SECOND)
        open_ = [not scene.loop.transports[each].aborted for each in (FIRST, SECOND)]
        assert sorted(open_) == [False, True]
        assert not scene.connecting.result().transport.is_closing()
        assert scene.budget.upstreams == 1

    plays(scenario, 0)


def test_an_attempt_that_succeeds_while_it_is_cancelled_is_closed(
    plays: Callable[..., None],
) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.connects()
        scene.connecting.cancel()
        scene.loop.attempts[FIRST].set_result(None)
        await scene.settle()
        assert scene.connecting.cancelled()
        assert scene.loop.transports[FIRST].aborted

    plays(scenario, 0)


def test_addresses_take_turns_and_what_has_failed_comes_last_for_a_while(
    plays: Callable[..., None],
) -> None:
    async def scenario(scene: Scene) -> None:
        await scene.connects()
        await scene.fails(FIRST)
        await scene.succeeds(SECOND)
        for first in (SECOND, THIRD, SECOND, THIRD):
            await scene.connects()
            assert scene.tried == [first]
            await scene.succeeds(first)
        scene.clock.now += FAILED_FOR
        seen = []
        for _ in ADDRESSES:
            await scene.connects()
            seen += scene.tried
            await scene.succeeds(scene.tried[0])
        assert sorted(seen) == sorted(ADDRESSES)

    plays(scenario, None)


def test_connections_to_an_address_that_is_gone_are_not_used_again(
    plays: Callable[..., None],
) -> None:
    async def scenario(scene: Scene) -> None:
        scene.knows(FIRST)
        await scene.connects()
        await scene.succeeds(FIRST)
        idle = scene.connecting.result()
        scene.pool.give_back(idle, scene.clock())
        await scene.connects()
        await scene.succeeds(FIRST)
        busy = scene.connecting.result()
        scene.pool.sweep(scene.clock())
        assert scene.pool.idle == 1
        scene.knows(SECOND)
        scene.pool.sweep(scene.clock())
        assert idle.transport.is_closing()
        assert not busy.transport.is_closing()
        scene.pool.give_back(busy, scene.clock())
        assert busy.transport.is_closing()
        assert scene.pool.idle == 0

    plays(scenario, None)


def test_a_name_without_addresses_any_more_leaves_its_connections(
    plays: Callable[..., None],
) -> None:
    async def scenario(scene: Scene) -> None:
        scene.knows(FIRST)
        await scene.connects()
        await scene.succeeds(FIRST)
        idle = scene.connecting.result()
        scene.pool.give_back(idle, scene.clock())
        scene.pool.sweep(scene.clock())
        scene.name.forget_addresses()
        scene.pool.sweep(scene.clock())
        assert idle.transport.is_closing()

    plays(scenario, None)


class Waiter:
    """An exchange that waits for a connection; `got` is what it was given."""

    def __init__(self) -> None:
        self.got: UpstreamConnection | str | None = None

    def on_pool_ready(self, connection: UpstreamConnection) -> None:
        self.got = connection

    def on_pool_failure(self, error: UpstreamError) -> None:
        self.got = error.kind


class TestTheBudget:
    def test_has_each_attempt_in_its_books_and_the_connection_alone_in_the_end(
        self, plays: Callable[..., None]
    ) -> None:
        async def scenario(scene: Scene) -> None:
            await scene.connects()
            assert scene.budget.upstreams == 3
            await scene.fails(THIRD)
            assert scene.budget.upstreams == 2
            await scene.succeeds(SECOND)
            assert scene.budget.upstreams == 1
            connection = scene.connecting.result()
            connection.close()
            connection.connection_lost(None)
            assert scene.budget.upstreams == 0
            assert not scene.budget.holders

        plays(scenario, 0)

    @pytest.mark.parametrize("successes", [(), (FIRST,), (FIRST, SECOND, THIRD)])
    def test_has_nothing_of_what_was_cancelled(
        self, plays: Callable[..., None], successes: tuple[str, ...]
    ) -> None:
        async def scenario(scene: Scene) -> None:
            await scene.connects()
            scene.connecting.cancel()
            for address in successes:
                scene.loop.attempts[address].set_result(None)
            await scene.settle()
            assert scene.budget.upstreams == 0
            assert all(transport.aborted for transport in scene.loop.transports.values())
            assert not scene.budget.holders

        plays(scenario, 0)

    def test_has_nothing_of_what_was_cancelled_before_it_began(
        self, plays: Callable[..., None]
    ) -> None:
        async def scenario(scene: Scene) -> None:
            connecting = scene.pool.connect()
            assert scene.budget.upstreams == 1
            connecting.cancel()
            await scene.settle()
            assert scene.budget.upstreams == 0

        plays(scenario, 0)

    def test_keeps_what_is_not_to_be_used_again_until_it_is_closed(
        self, plays: Callable[..., None]
    ) -> None:
        async def scenario(scene: Scene) -> None:
            scene.knows(FIRST)
            await scene.connects()
            await scene.succeeds(FIRST)
            busy = scene.connecting.result()
            scene.knows(SECOND)
            scene.pool.sweep(scene.clock())
            assert (busy.spent, busy.lost) == (True, False)
            assert scene.budget.upstreams == 1
            scene.pool.give_back(busy, scene.clock())
            assert scene.budget.upstreams == 0

        plays(scenario, None)

    def test_gets_back_at_once_all_of_an_attempt_that_nobody_waits_for(
        self, plays: Callable[..., None]
    ) -> None:
        async def scenario(scene: Scene) -> None:
            waiter = Waiter()
            scene.pool.connect_for(waiter, 5.0)
            await scene.settle()
            assert scene.budget.upstreams == 3
            scene.pool.cancel_wait(waiter)
            assert scene.budget.reclaim()
            assert scene.budget.upstreams == 0
            await scene.settle()
            assert all(attempt.cancelled() for attempt in scene.loop.attempts.values())
            assert scene.budget.upstreams == 0
            # None of them was silent for long: the turn goes on.
            await scene.connects()
            assert scene.tried[0] == SECOND

        plays(scenario, 0)

    def test_does_not_take_back_an_attempt_that_has_just_succeeded(
        self, plays: Callable[..., None]
    ) -> None:
        async def scenario(scene: Scene) -> None:
            waiter = Waiter()
            scene.pool.connect_for(waiter, 5.0)
            attempt = scene.loop.tasks[0]
            await scene.settle()
            scene.pool.cancel_wait(waiter)
            seen: list[bool] = []

            def reclaim_when_done() -> None:
                if attempt.done():
                    seen.append(scene.pool.connecting and scene.budget.reclaim())
                else:
                    asyncio.get_running_loop().call_soon(reclaim_when_done)

            # In every turn it comes before the pool, which has yet to learn of the success.
            reclaim_when_done()
            await scene.succeeds(FIRST)
            assert seen == [False]
            assert scene.budget.upstreams == len(scene.budget.idle) == 1

        plays(scenario, None)


class TestShortage:
    """It is no fault of the name, of an address, or of the target."""

    def test_no_other_address_is_tried_and_none_comes_last(
        self, plays: Callable[..., None]
    ) -> None:
        async def scenario(scene: Scene) -> None:
            due = scene.name.due
            waiter = Waiter()
            scene.pool.connect_for(waiter, 5.0)
            await scene.settle()
            await scene.fails(FIRST, errno.EMFILE)
            assert scene.tried == [FIRST]
            assert waiter.got == "shortage"
            assert scene.target.unavailable_until == 0
            assert scene.name.due == due
            assert scene.budget.upstreams == 0
            assert scene.runtime.metrics.shortages == {"EMFILE": 1}
            for address in (SECOND, THIRD, FIRST):
                await scene.connects()
                assert scene.tried == [address]
                await scene.succeeds(address)

        plays(scenario, None)

    def test_it_is_the_error_also_where_another_address_has_refused(
        self, plays: Callable[..., None]
    ) -> None:
        async def scenario(scene: Scene) -> None:
            await scene.connects()
            await scene.fails(FIRST)
            await scene.fails(SECOND, errno.EMFILE)
            assert scene.tried == [FIRST, SECOND]
            with pytest.raises(OSError, match=SECOND) as raised:
                scene.connecting.result()
            assert raised.value.errno == errno.EMFILE

        plays(scenario, None)

    def test_an_attempt_under_way_may_still_succeed(self, plays: Callable[..., None]) -> None:
        async def scenario(scene: Scene) -> None:
            await scene.connects()
            await scene.fails(SECOND, errno.EMFILE)
            await scene.succeeds(FIRST)
            assert scene.leads_to(FIRST)

        plays(scenario, 0)

    @pytest.mark.parametrize("at", [FIRST, SECOND])
    def test_a_refusal_says_more_than_an_address_that_cannot_be_tried_from_here(
        self, plays: Callable[..., None], at: str
    ) -> None:
        """As ::1 cannot where IPv6 is turned off."""

        async def scenario(scene: Scene) -> None:
            scene.knows(FIRST, SECOND)
            await scene.connects()
            first = scene.tried[0]
            for address in (first, SECOND if first == FIRST else FIRST):
                await scene.fails(
                    address, errno.EADDRNOTAVAIL if address == at else errno.ECONNREFUSED
                )
            with pytest.raises(ConnectionRefusedError):
                scene.connecting.result()

        plays(scenario, None)

    def test_past_the_budget_the_next_address_is_not_tried_beside_the_first(
        self, plays: Callable[..., None]
    ) -> None:
        async def scenario(scene: Scene) -> None:
            scene.budget.room = 1
            scene.budget.clients = RESERVED_FOR_CHECKS
            await scene.connects()
            assert scene.tried == [FIRST]
            assert scene.budget.upstreams == 1
            await scene.fails(FIRST)
            assert scene.tried == [FIRST, SECOND]
            await scene.succeeds(SECOND)
            assert scene.leads_to(SECOND)
            assert scene.budget.upstreams == 1

        plays(scenario, 0)

    def test_past_the_budget_there_is_no_next_address(self, plays: Callable[..., None]) -> None:
        async def scenario(scene: Scene) -> None:
            await scene.connects()
            scene.budget.room = 1
            scene.budget.clients = 1 + RESERVED_FOR_CHECKS
            await scene.fails(FIRST)
            assert scene.tried == [FIRST]
            with pytest.raises(OSError, match="open files") as raised:
                scene.connecting.result()
            assert raised.value.errno == errno.EMFILE
            assert scene.budget.upstreams == 0

        plays(scenario, None)

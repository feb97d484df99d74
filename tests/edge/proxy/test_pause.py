"""The order in which held requests go on."""

import asyncio

from edge.errors import HttpError
from edge.proxy.pause import RELEASE_BATCH, PauseQueue
from edge.proxy.ports import Waitlist
from edge.telemetry.metrics import RouteCounters


class Waiter:
    """Stands for an exchange; says in `order` when it goes on."""

    def __init__(self, number: int, order: list[int]) -> None:
        self.number = number
        self.order = order

    def wait_in(self, waitlist: Waitlist, until: float) -> None:
        """What `PauseQueue.add` calls."""

    def resume(self) -> None:
        """What `PauseQueue.release` calls in the end."""
        self.order.append(self.number)

    def reject(self, error: HttpError) -> None:
        """What `PauseQueue.reject_all` calls."""


def test_all_go_on_in_the_order_in_which_they_came_a_few_per_turn_of_the_loop() -> None:
    async def scenario() -> None:
        counters = RouteCounters()
        hold = PauseQueue(counters, asyncio.get_running_loop())
        order: list[int] = []
        count = 2 * RELEASE_BATCH + 5
        waiters = [Waiter(number, order) for number in range(count)]
        for waiter in waiters:
            hold.add(waiter, 1.0)
        assert (len(hold), counters.paused) == (count, count)
        hold.cancel_wait(waiters[3])
        hold.release()
        assert repr(hold) == f"<PauseQueue waiting=0 released={count - 1}>"
        assert order == []
        hold.cancel_wait(waiters[-1])  # its client leaves while others go first
        hold.add(waiters[3], 2.0)  # paused anew: not one of those that go on
        for turn in (1, 2, 3):
            await asyncio.sleep(0)
            assert len(order) == min(turn * RELEASE_BATCH, count - 2)
        assert order == [number for number in range(count - 1) if number != 3]
        assert (len(hold), counters.paused) == (1, 1)

    asyncio.run(scenario())

"""Proves that the longest pause of the loop is known, and forgotten after its time."""

import asyncio
import time

import pytest

from orchestrator.loop_watch import INTERVAL, MEMORY, LoopWatch


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_loop_that_is_held_is_known_to_have_paused() -> None:
    async def work() -> None:
        watch = LoopWatch()
        watch.start()
        time.sleep(INTERVAL + 0.2)  # noqa: ASYNC251 - the pause
        await asyncio.sleep(0)
        assert watch.longest_pause() >= 0.2
        watch.stop()

    asyncio.run(work())


def test_the_longest_one_counts_for_one_to_two_minutes() -> None:
    async def work() -> None:
        clock = Clock()
        watch = LoopWatch(clock)

        def paused(seconds: float) -> None:
            watch.stop()
            watch.start()
            clock.now += INTERVAL + seconds
            watch.longest_pause()

        paused(3)
        paused(1)
        assert watch.longest_pause() == pytest.approx(3)
        clock.now += MEMORY - 5
        paused(0)
        paused(1.5)
        assert watch.longest_pause() == pytest.approx(3)
        clock.now = 2 * MEMORY + 10
        paused(0)
        assert watch.longest_pause() == pytest.approx(1.5)

    asyncio.run(work())

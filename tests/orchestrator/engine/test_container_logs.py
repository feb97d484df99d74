"""The lines of real containers, for readers who are quick, slow, or leave."""

import asyncio
from contextlib import aclosing

import pytest

from orchestrator.engine.container_logs import (
    MAX_LINE_LENGTH,
    TRUNCATED,
    DroppedLines,
    LogEvent,
    follow,
)
from orchestrator.errors import OrchestratorError
from orchestrator.security.redact import MASK
from tests.orchestrator.workshop import Workshop, in_workshop, until


async def lines_of(shop: Workshop, script: str, tail: int = 100) -> list[LogEvent | DroppedLines]:
    """All that a reader gets of a container that runs `script`."""
    container = await shop.runs(script)
    await shop.engine.wait_until_exited(container.id)
    async with aclosing(follow(shop.engine, container.id, tail=tail)) as events:
        return [event async for event in events]


def test_lines_say_of_which_output_they_are(engine_host: str) -> None:
    async def work(shop: Workshop) -> None:
        found = await lines_of(shop, "echo out; echo err >&2; printf unfinished")
        assert LogEvent("out", "stdout") in found
        assert LogEvent("err", "stderr") in found
        assert LogEvent("unfinished", "stdout") in found
        assert len(found) == 3

    in_workshop(engine_host, work)


def test_the_tail_is_where_it_begins(engine_host: str) -> None:
    async def work(shop: Workshop) -> None:
        found = await lines_of(shop, "seq 1 100", tail=2)
        assert found == [LogEvent("99", "stdout"), LogEvent("100", "stdout")]

    in_workshop(engine_host, work)


def test_lines_come_as_they_are_said_until_the_container_ends(engine_host: str) -> None:
    async def work(shop: Workshop) -> None:
        container = await shop.runs("echo up; trap 'echo bye; exit' TERM; while :; do :; done")
        async with aclosing(follow(shop.engine, container.id)) as events:
            assert await anext(events) == LogEvent("up", "stdout")
            stopping = asyncio.create_task(shop.engine.stop(container.id, 30))
            assert [event async for event in events] == [LogEvent("bye", "stdout")]
            await stopping

    in_workshop(engine_host, work)


def test_a_slow_reader_loses_the_oldest_lines_and_is_told_how_many(engine_host: str) -> None:
    async def work(shop: Workshop) -> None:
        container = await shop.runs("seq 1 5000")
        await shop.engine.wait_until_exited(container.id)
        before = asyncio.all_tasks()

        async def fetched() -> bool:
            return asyncio.all_tasks() == before

        async with aclosing(follow(shop.engine, container.id, 5000, max_lines=10)) as events:
            found = [await anext(events)]
            await until(fetched, "all lines have come while nobody read")
            found += [event async for event in events]
        dropped = sum(event.count for event in found if isinstance(event, DroppedLines))
        lines = [event.line for event in found if isinstance(event, LogEvent)]
        assert lines[-10:] == [str(number) for number in range(4991, 5001)]
        assert dropped > 0
        assert dropped + len(lines) == 5000

    in_workshop(engine_host, work)


def test_lines_without_end_are_cut_and_what_waits_is_bounded(engine_host: str) -> None:
    async def work(shop: Workshop) -> None:
        script = (
            "i=0; while test $i -lt 200; do i=$((i+1));"
            " head -c 20000 /dev/zero | tr '\\0' x; echo; done"
        )
        found = await lines_of(shop, script, tail=1000)
        lines = [event for event in found if isinstance(event, LogEvent)]
        assert {event.line for event in lines} == {"x" * MAX_LINE_LENGTH + TRUNCATED}
        dropped = sum(event.count for event in found if isinstance(event, DroppedLines))
        assert len(lines) + dropped == 200

    in_workshop(engine_host, work)


def test_security_7_a_secret_in_a_line_that_is_cut_is_not_half_shown(engine_host: str) -> None:
    async def work(shop: Workshop) -> None:
        shop.engine.redactor.add("hunter2")
        fill = MAX_LINE_LENGTH - 4
        found = await lines_of(
            shop, f"head -c {fill} /dev/zero | tr '\\0' x; echo hunter2 and; echo hunter2"
        )
        assert found == [
            LogEvent("x" * fill + MASK + " " + TRUNCATED, "stdout"),
            LogEvent(MASK, "stdout"),
        ]

    in_workshop(engine_host, work)


def test_a_reader_that_leaves_ends_the_following(engine_host: str) -> None:
    async def work(shop: Workshop) -> None:
        container = await shop.runs("echo up; sleep 1000")
        before = asyncio.all_tasks()
        async with aclosing(follow(shop.engine, container.id)) as events:
            assert await anext(events) == LogEvent("up", "stdout")
            assert asyncio.all_tasks() != before

        async def is_over() -> bool:
            return asyncio.all_tasks() == before

        await until(is_over, "nothing of it runs any more")

    in_workshop(engine_host, work)


def test_a_container_that_is_not_there_is_an_error(engine_host: str) -> None:
    async def work(shop: Workshop) -> None:
        with pytest.raises(OrchestratorError, match=r"(?i)no such container"):
            async for _ in follow(shop.engine, "nobody"):
                pass

    in_workshop(engine_host, work)

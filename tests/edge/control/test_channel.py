"""Proves what supervisor and worker say to each other, over a real socketpair."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from edge.control.channel import Channel, ChannelError, Message
from edge.errors import RouteError

PATIENCE = 20.0


def unheard(message: Message) -> None:
    raise AssertionError(f"nobody was to be told {message}")


@asynccontextmanager
async def pair(
    on_request: Callable[[Message], Awaitable[Message]],
    on_notify: Callable[[Message], None] = unheard,
) -> AsyncIterator[tuple[Channel, Channel]]:
    """Two ends that listen: the first one asks and tells, the other answers."""
    ends = (Channel(unheard), Channel(on_notify, on_request))
    for end, sock in zip(ends, socket.socketpair(), strict=True):
        await end.open(sock)
    listening = [asyncio.create_task(end.listen()) for end in ends]
    yield ends
    for end in ends:
        end.close()
    await asyncio.wait_for(asyncio.gather(*listening), PATIENCE)


def run(conversation: Awaitable[None]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(conversation, PATIENCE)

    asyncio.run(bounded())


async def echo(message: Message) -> Message:
    if message["kind"] == "refuse":
        raise RouteError("no such route")
    if message["kind"] == "break":
        raise KeyError("x")
    if message["kind"] == "wait":
        await asyncio.Event().wait()
    return {"said": message["text"]}


class TestAsking:
    def test_each_question_gets_its_own_answer(self) -> None:
        async def conversation() -> None:
            async with pair(echo) as (asking, _):
                texts = [f"text {number}" for number in range(100)]
                answers = await asyncio.gather(
                    *(asking.request("echo", {"text": text}) for text in texts)
                )
                assert [answer["said"] for answer in answers] == texts

        run(conversation())

    def test_a_refusal_comes_back_as_one(self) -> None:
        async def conversation() -> None:
            async with pair(echo) as (asking, _):
                with pytest.raises(ChannelError, match="no such route"):
                    await asking.request("refuse", {})

        run(conversation())

    def test_a_defect_is_answered_too_and_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        async def conversation() -> None:
            async with pair(echo) as (asking, _):
                with pytest.raises(ChannelError, match="'x'"):
                    await asking.request("break", {})

        run(conversation())
        assert [record.message for record in caplog.records] == [
            "internal error: request break failed"
        ]

    def test_what_is_told_is_not_answered(self) -> None:
        async def conversation() -> None:
            told: list[Message] = []
            async with pair(echo, told.append) as (asking, _):
                asking.notify("news", {"text": "a\nb"})
                await asking.request("echo", {"text": ""})
            assert told == [{"kind": "news", "text": "a\nb"}]

        run(conversation())


class TestEnd:
    def test_whoever_waits_for_an_answer_learns_that_none_comes(self) -> None:
        async def conversation() -> None:
            async with pair(echo) as (asking, other):
                waiting = asyncio.create_task(asking.request("wait", {}))
                await asking.request("echo", {"text": "it has been heard"})
                other.close()
                with pytest.raises(ChannelError, match="has exited"):
                    await waiting

        run(conversation())

    def test_nobody_is_asked_any_more(self) -> None:
        async def conversation() -> None:
            async with pair(echo) as (asking, other):
                other.close()
                with pytest.raises(ChannelError, match="has exited"):
                    await asking.request("wait", {})
                with pytest.raises(ChannelError, match="has exited"):
                    await asking.request("wait", {})
                asking.notify("news", {})

        run(conversation())

    def test_half_a_message_is_none(self) -> None:
        async def conversation() -> None:
            told: list[Message] = []
            channel = Channel(told.append)
            ours, theirs = socket.socketpair()
            await channel.open(ours)
            with theirs:
                theirs.sendall(b'{"kind":"news"}\n{"kind":')
            await channel.listen()
            channel.close()
            assert told == [{"kind": "news"}]

        run(conversation())

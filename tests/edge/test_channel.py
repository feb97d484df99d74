"""Proves what becomes of questions when the other process ends."""

import asyncio
import socket

import pytest

from edge.channel import Channel, ChannelGoneError, Message


def heard(message: Message) -> None:
    raise AssertionError(message)


def test_questions_to_a_process_that_has_ended_are_not_waited_for() -> None:
    async def conversation() -> None:
        ours, theirs = socket.socketpair()
        channel = Channel(heard)
        await channel.open(ours)
        listening = asyncio.create_task(channel.listen())
        early = asyncio.create_task(channel.ask("reload", {}))
        await asyncio.sleep(0)
        theirs.close()
        await listening
        with pytest.raises(ChannelGoneError, match="has ended"):
            await early
        with pytest.raises(ChannelGoneError, match="has ended"):
            await channel.ask("reload", {})
        channel.close()

    asyncio.run(conversation())

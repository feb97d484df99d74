"""Proves that a program that prints byte by byte does not keep the event loop for itself."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

import httpx
import pytest

from orchestrator.engine import connection
from orchestrator.engine.connection import messages

PIECES = 1000


async def others_had(pieces: AsyncIterator[object]) -> int:
    """How many turns of the loop others had while these were taken."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    assert len([piece async for piece in pieces]) == PIECES
    counting.cancel()
    return turns


def test_of_messages_that_come_at_once_others_have_their_turn_in_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def at_once() -> AsyncGenerator[bytes, None]:
        yield b'{"stream":"x"}\r\n' * PIECES

    async def scenario(turn: float) -> int:
        monkeypatch.setattr(connection, "TURN", turn)
        return await others_had(messages(httpx.Response(200, content=at_once())))

    assert asyncio.run(scenario(3600.0)) < 10
    assert asyncio.run(scenario(-1.0)) >= PIECES - 1

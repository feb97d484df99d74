"""Owns the large answers of the admin API: they wait in memory for whoever asked to read them."""

import asyncio
from collections.abc import Collection
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

# Large answers in memory at once; 30 MB each at 100,000 routes. Further ones wait.
MAX_LARGE: Final = 4
# Bytes that are handed to a connection at once: after each it is seen whether the client reads.
PIECE: Final = 64 * 2**10


class LargeAnswers:
    """Has `app` answer at most `MAX_LARGE` requests for `paths` at once, until each is sent."""

    def __init__(self, app: ASGIApp, paths: Collection[str]) -> None:
        self._app = app
        self._paths = paths
        self._turns = asyncio.Semaphore(MAX_LARGE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["path"] not in self._paths:
            await self._app(scope, receive, send)
            return

        async def send_in_pieces(message: Message) -> None:
            body = message.get("body", b"")
            sent = 0
            while len(body) - sent > PIECE:
                await send({**message, "body": body[sent : sent + PIECE], "more_body": True})
                sent += PIECE
            await send({**message, "body": body[sent:]} if sent else message)

        async with self._turns:
            await self._app(scope, receive, send_in_pieces)

"""Owns a crowd of clients and their upstreams, on one event loop: for what a conversation of two
cannot show.

Every client asks on the one connection that it has, and notes whatever is not a good answer.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import cast

from tests.messages import ok, request
from tests.process import PATIENCE


class Crowd:
    """What became of the requests of all clients."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.failures: list[str] = []
        self.answered_by: dict[bytes, int] = {}
        self._clients: list[Asking] = []
        self._awaited = 0
        self._all_answered = asyncio.Event()
        self._open: set[Peer] = set()

    @asynccontextmanager
    async def upstream(self, name: bytes) -> AsyncIterator[str]:
        """An upstream that answers everything with its name of three letters; yields its target."""
        # Room for all clients at once: the kernel answers a full queue with seconds of silence.
        server = await asyncio.get_running_loop().create_server(
            lambda: Answering(self._open, name), "127.0.0.1", 0, backlog=2 * self.size
        )
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            await self._closes()

    @asynccontextmanager
    async def connects(self, address: tuple[str, int]) -> AsyncIterator[None]:
        """All clients are connected while the block runs."""
        loop = asyncio.get_running_loop()
        for number in range(self.size):
            connect = partial(Asking, self._open, self, number)
            _, client = await loop.create_connection(connect, *address)
            self._clients.append(client)
        try:
            yield
        finally:
            await self._closes()

    def all_ask(self) -> None:
        """Every client asks."""
        self._awaited = self.size
        self._all_answered.clear()
        for client in self._clients:
            client.asks()

    async def all_are_answered(self) -> None:
        """Returns when every client that asked was answered, or when that takes too long."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._all_answered.wait()
        except TimeoutError:
            self.failures.append(f"{self._awaited} clients had no answer in {PATIENCE} s")

    def is_answered(self, name: bytes) -> None:
        """A client was answered by the upstream `name`."""
        self.answered_by[name] = self.answered_by.get(name, 0) + 1
        self._awaited -= 1
        if not self._awaited:
            self._all_answered.set()

    async def _closes(self) -> None:
        """Closes everything, also what is opened meanwhile; returns when the loop knows."""
        while self._open:
            for peer in list(self._open):
                peer.transport.abort()
            await asyncio.sleep(0)


class Peer(asyncio.Protocol):
    """A connection that is in `opened` as long as it is open."""

    transport: asyncio.Transport

    def __init__(self, opened: set["Peer"]) -> None:
        self._opened = opened
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._opened.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._opened.discard(self)


class Answering(Peer):
    """An upstream's side of a connection."""

    def __init__(self, opened: set[Peer], name: bytes) -> None:
        super().__init__(opened)
        self._answer = ok(name)

    def data_received(self, data: bytes) -> None:
        self._received += data
        while b"\r\n\r\n" in self._received:
            _, _, self._received = self._received.partition(b"\r\n\r\n")
            self.transport.write(self._answer)


class Asking(Peer):
    """A client that has one connection and keeps it."""

    def __init__(self, opened: set[Peer], crowd: Crowd, number: int) -> None:
        super().__init__(opened)
        self._crowd = crowd
        self._number = number
        self._question = request(f"GET /{number}")
        self._waits = False

    def asks(self) -> None:
        """Sends a request on its connection."""
        self._waits = True
        self.transport.write(self._question)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or len(body) < 3:
            return
        if not head.startswith(b"HTTP/1.1 200 OK\r\n") or b"Connection: close" in head:
            self._fails(f"{head!r} {body!r}")
        elif len(body) > 3 or not self._waits:
            self._fails(f"more than it asked for: {self._received!r}")
        self._received = b""
        self._waits = False
        self._crowd.is_answered(body)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._waits:
            self._fails(f"the connection was lost: {exc!r}")

    def _fails(self, how: str) -> None:
        self._crowd.failures.append(f"client {self._number}: {how}")

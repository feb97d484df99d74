"""Owns what supervisor and worker say to each other: newline-delimited JSON over a socketpair.

Either side may notify (no response) and request (one response, by number). The end of the
connection is the death of the other side.
"""

import asyncio
import contextlib
import itertools
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import orjson

from edge.errors import FairleadError

logger = logging.getLogger(__name__)

# Bytes of one message. The counters of 100,000 routes are 20 MB.
MAX_MESSAGE: Final = 2**26

# Exit code of a worker whose settings cannot be used: another one would find them no better.
CONFIG_EXIT: Final = 2

Message = dict[str, Any]


class ChannelError(FairleadError):
    """The other side is gone, or says that it cannot do what it was asked."""


class ChannelGoneError(ChannelError):
    """The other side is gone."""


class Channel:
    """One end. `on_notify` takes notifications, `on_request` answers requests."""

    def __init__(
        self,
        on_notify: Callable[[Message], None],
        on_request: Callable[[Message], Awaitable[Message]] | None = None,
    ) -> None:
        self._on_notify = on_notify
        self._on_request = on_request
        self._numbers = itertools.count(1)
        self._pending: dict[int, asyncio.Future[Message]] = {}
        self._responding: set[asyncio.Task[None]] = set()
        self._ended = False
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def open(self, sock: socket.socket) -> None:
        """Take over this end of the socketpair."""
        self._reader, self._writer = await asyncio.open_connection(sock=sock, limit=MAX_MESSAGE)

    async def listen(self) -> None:
        """Take what comes until the other side is gone; then whoever waits for an answer learns."""
        try:
            while line := await self._reader.readline():
                self._take(orjson.loads(line))
        except (OSError, ValueError) as error:
            # A process that is killed can leave half a line.
            logger.debug("the channel broke: %s", error)
        finally:
            # Nobody is there to answer those that come from here on, either.
            self._ended = True
            for future in self._pending.values():
                if not future.done():
                    future.set_exception(ChannelGoneError("the process has exited"))
            self._pending.clear()

    @property
    def unsent(self) -> int:
        """Bytes that wait here because the other side does not read."""
        return self._writer.transport.get_write_buffer_size()

    def close(self) -> None:
        """The other side sees the end."""
        self._writer.close()

    async def finish(self) -> None:
        """Close, once the other side has what was sent; who ends now would take it along."""
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    def notify(self, kind: str, fields: Mapping[str, object]) -> None:
        """Send a notification; it is lost if the other side is gone."""
        self._send({"kind": kind, **fields})

    async def request(self, kind: str, fields: Mapping[str, object]) -> Message:
        """Send a request, and wait for its response. Raises ChannelError."""
        if self._ended:
            raise ChannelGoneError("the process has exited")
        number = next(self._numbers)
        future = asyncio.get_running_loop().create_future()
        self._pending[number] = future
        self._send({"kind": kind, "request": number, **fields})
        try:
            response: Message = await future
        finally:
            self._pending.pop(number, None)
        if "error" in response:
            raise ChannelError(response["error"])
        return response

    def _send(self, message: Message) -> None:
        if not self._writer.is_closing():
            self._writer.write(orjson.dumps(message) + b"\n")

    def _take(self, message: Message) -> None:
        if "response" in message:
            future = self._pending.get(message["response"])
            if future is not None and not future.done():
                future.set_result(message)
        elif "request" in message:
            task = asyncio.get_running_loop().create_task(self._respond(message))
            self._responding.add(task)
            task.add_done_callback(self._responding.discard)
        else:
            self._on_notify(message)

    async def _respond(self, message: Message) -> None:
        assert self._on_request is not None  # noqa: S101  only a worker gets requests
        try:
            response = await self._on_request(message)
        except Exception as error:
            # Whoever asked must not wait for ever.
            if not isinstance(error, FairleadError):
                logger.exception("internal error: request %s failed", message["kind"])
            response = {"error": str(error) or repr(error)}
        self._send({**response, "response": message["request"]})

"""Owns how large the head of an API's request may be, and how long it may take.

The parser keeps what it has not understood yet, however much that is: a head that never ends, a
field that never ends, trailers that never end.
"""

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Bytes; nginx has 32 KiB (large_client_header_buffers). What one more read brings comes on top.
MAX_HEAD: Final = 32 * 1024
# Seconds from the connection, or from the first byte of a later head, to its end.
HEAD_TIMEOUT: Final = 10.0

_TEXT: Final = b'{"error":"request head is too large"}\n'
_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Type: application/json\r\n"
    b"Content-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(_TEXT), _TEXT)
)


class HeadLimit(HttpToolsProtocol):
    """A connection, closed when a head is too large or too slow."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come, and has a head to send."""
        super().connection_made(transport)
        self._unparsed = 0  # bytes since the parser last came to the end of anything
        self._in_head = True
        self._deadline: asyncio.TimerHandle | None = None
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Some bytes, of whatever."""
        self._unparsed += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._unparsed > MAX_HEAD:
            if self.cycle is None or self.cycle.response_complete:
                self.transport.write(_TOO_LARGE)
            self.transport.close()
        elif self._in_head and self._unparsed and self._deadline is None:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._have_head()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._unparsed = max(1, self._unparsed)

    def on_headers_complete(self) -> None:
        """The head is here."""
        self._unparsed = 0
        self._in_head = False
        self._have_head()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the content."""
        self._unparsed = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is here."""
        self._unparsed = 0
        self._in_head = True
        super().on_message_complete()

    def _expect_head(self) -> None:
        self._deadline = self.loop.call_later(HEAD_TIMEOUT, self.transport.close)

    def _have_head(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

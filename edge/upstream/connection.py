"""Owns a connection to an upstream: reads responses off it, one exchange at a time."""

import asyncio
import os
from collections.abc import Sequence
from typing import Final, Protocol, cast

from edge.errors import UpstreamError
from edge.net.read_gate import HIGH_WATER, PauseReason, ReadGate
from edge.settings.settings import Settings
from edge.wire.codec import ResponseReader
from edge.wire.framing import CHUNKED, UNTIL_CLOSE, ChunkedReader, FramingError, Piece
from edge.wire.response_head import ResponseHead

# Interim responses that one request may get. RFC 9110 section 15.2 sets no limit; an upstream that
# sends them without end would hold its client for ever.
MAX_INTERIM: Final = 32

# Seconds before the upstream's own idle timeout at which its connection is no longer used, so that
# a request does not meet the close half way.
KEEP_ALIVE_MARGIN: Final = 1.0


class BodyReceiver(Protocol):
    """What a connection has to know of who takes the body of a response."""

    def response_data(self, data: bytes | memoryview) -> None:
        """A piece of the body has come."""

    def response_pieces(self, pieces: Sequence[Piece]) -> None:
        """Content has come in chunks."""


class ResponseHandler(Protocol):
    """What a connection has to know of whose request it answers: an `Exchange`, or a `Probe`."""

    @property
    def accepts_whole_response(self) -> bool:
        """Whether nothing but the request's id need be changed in the head of a response."""

    @property
    def request_id_line(self) -> bytes:
        """What ends the head of a response that may go as it came."""

    @property
    def method(self) -> bytes:
        """Of the request: a response to HEAD has no body."""

    def interim(self, head: ResponseHead) -> None:
        """A 1xx has come."""

    def whole_response(
        self, connection: "UpstreamConnection", head: ResponseHead, start: bytes, data: bytes
    ) -> None:
        """Head and body have come in one piece, `data`, and the exchange is over.

        `start` is what `ResponseReader.read` made of it.
        """

    def response_begins(self, head: ResponseHead, length: int, start: bytes) -> BodyReceiver:
        """The final head has come; a body of `length` follows. Who takes it?

        `start` is the head for the client, if that goes as it came.
        """

    def response_ends(self, connection: "UpstreamConnection", reusable: bool) -> None:
        """The response is complete."""

    def may_upgrade_to(self, protocols: Sequence[bytes]) -> bool:
        """Whether a 101 for `protocols` answers what was asked."""

    def switch_protocols(
        self, connection: "UpstreamConnection", head: ResponseHead, early: bytes
    ) -> None:
        """A 101 has come that was asked for, and `early` behind it."""

    def upstream_failed(self, error: UpstreamError, retryable: bool = False) -> None:
        """The connection is lost or unusable. `retryable`: it was an old one, and silent."""

    def upstream_write_paused(self) -> None:
        """The upstream does not read the request as fast as it comes."""

    def upstream_write_resumed(self) -> None:
        """The upstream reads again."""


class ConnectionPool(Protocol):
    """What a connection has to know of the pool that made it."""

    @property
    def address(self) -> str:
        """Where it leads to, as `host:port`."""

    def give_back(self, connection: "UpstreamConnection", now: float) -> None:
        """Its exchange is over, and another one may follow."""

    def discard(self, connection: "UpstreamConnection") -> None:
        """It is being closed."""

    def forget(self) -> None:
        """One is closed for good, or could not be made."""


class UpstreamConnection:
    """The Protocol that faces an upstream; one by its methods, as `ClientConnection`.

    Outside an exchange nothing may arrive: bytes that nobody asked for would be the next client's
    answer (RFC 9112 section 9.2), so they end the connection.
    """

    __slots__ = (
        "_chunks",
        "_head",
        "_interim",
        "_partial",
        "_reader",
        "_receiver",
        "_remaining",
        "_settings",
        "exchange",
        "gate",
        "idle_limit",
        "idle_since",
        "lost",
        "pool",
        "reused",
        "spent",
        "transport",
    )

    transport: asyncio.Transport
    gate: ReadGate

    def __init__(self, pool: ConnectionPool, settings: Settings) -> None:
        # For the life of the process
        self._settings = settings
        self.pool = pool
        # For the life of the connection
        self._reader = ResponseReader(settings.max_head, settings.max_fields, settings.hide_server)
        self.reused = False
        self.lost = False  # out of the budget's books: its descriptor is free
        self.spent = False  # lost, or its target has moved: no further exchange may have it
        self.idle_limit = settings.pool_idle
        self.idle_since = 0.0
        # For the life of the exchange
        self.exchange: ResponseHandler | None = None  # what arrives answers it
        self._partial = b""  # a response head whose end has not come yet
        self._interim = 0
        self._head: ResponseHead | None = None  # of the response whose body is being read
        self._receiver: BodyReceiver | None = None  # of that body
        self._remaining = 0  # bytes of body still to come, or UNTIL_CLOSE
        self._chunks: ChunkedReader | None = None

    def __repr__(self) -> str:
        state = "in use" if self.exchange else "idle"
        return f"<UpstreamConnection {self.pool.address} {state}>"

    def attempt_done(self, attempt: asyncio.Task["UpstreamConnection"]) -> None:
        """Connecting is over, and may have failed."""
        if attempt.cancelled() or attempt.exception() is not None:
            self.give_up()

    def give_up(self) -> None:
        """Its descriptor is free, or is before the loop does anything that is asked of it later."""
        if not self.lost:
            self.lost = self.spent = True
            self.pool.forget()

    def close(self) -> None:
        """Close at once; the exchange, if there is one, is not told."""
        self.exchange = None
        self.give_up()
        self.pool.discard(self)
        self.transport.abort()

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER)
        self.gate = ReadGate(self.transport)

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            self.close()
            return
        if self._head is not None:
            self._body(exchange, data)
            return
        if self._partial:
            data = self._partial + data
            self._partial = b""
        try:
            read = self._reader.read(
                data, exchange.request_id_line if exchange.accepts_whole_response else b""
            )
        except FramingError as error:
            self._malformed(exchange, error)
            return
        if read is None:
            self._partial = data
            return
        head, start = read
        if head.keep_alive_seconds is not None:
            self.idle_limit = min(
                self._settings.pool_idle, max(0.0, head.keep_alive_seconds - KEEP_ALIVE_MARGIN)
            )
        if start and head.passthrough_length == len(data) - head.size:
            self.exchange = None
            self._interim = 0
            exchange.whole_response(self, head, start, data)
        else:
            self._read_response(exchange, head, start, data)

    def eof_received(self) -> None:
        if self.exchange is None:
            self.close()
        else:
            self._on_close(self.exchange, None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.give_up()
        if self.exchange is not None and exc is not None:
            self._read_pending(self.exchange)
        if self.exchange is not None:
            self._on_close(self.exchange, exc)
        self.pool.discard(self)

    def pause_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.upstream_write_paused()

    def resume_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.upstream_write_resumed()

    # Reading a response

    def _read_response(
        self, exchange: ResponseHandler, head: ResponseHead, start: bytes, data: bytes
    ) -> None:
        """Go on with any response that is not whole in one piece."""
        if head.status < 200:
            self._read_interim(exchange, head, data[head.size :])
            return
        length = head.length(exchange.method)
        self._head = head
        self._remaining = length
        self._receiver = exchange.response_begins(head, length, start)
        if length == CHUNKED:
            self._chunks = ChunkedReader()
            leftover: bytes | memoryview = data[head.size :]
        else:
            # 64 KiB of body, copied to be cut off from its head, would be 5 us.
            leftover = memoryview(data)[head.size :]
        if leftover or not length:
            self._body(exchange, leftover)

    def _read_interim(self, exchange: ResponseHandler, head: ResponseHead, leftover: bytes) -> None:
        self._interim += 1
        if self._interim > MAX_INTERIM:
            self._malformed(exchange, FramingError("too many interim responses"))
        elif head.status != 101:
            exchange.interim(head)
            if leftover:
                self.data_received(leftover)
        elif not exchange.may_upgrade_to(head.upgrade):
            self._malformed(exchange, FramingError("unexpected upgrade"))
        else:
            self.exchange = None
            exchange.switch_protocols(self, head, leftover)

    def _body(self, exchange: ResponseHandler, data: bytes | memoryview) -> None:
        remaining = self._remaining
        receiver = self._receiver
        assert receiver is not None  # noqa: S101  since the head
        if self._chunks is not None:
            try:
                pieces = self._chunks.feed(bytes(data))  # which it is: nothing is copied
            except FramingError as error:
                self._malformed(exchange, error)
                return
            if pieces:
                receiver.response_pieces(pieces)
            if self._chunks.done:
                self._complete(exchange, clean=not self._chunks.leftover)
        elif remaining == UNTIL_CLOSE:
            receiver.response_data(data)
        elif len(data) < remaining:
            self._remaining = remaining - len(data)
            receiver.response_data(data)
        else:
            clean = len(data) == remaining
            if remaining:
                receiver.response_data(data if clean else data[:remaining])
            self._complete(exchange, clean)

    def _complete(self, exchange: ResponseHandler, clean: bool) -> None:
        """The response is over; `clean`, unless something came behind it."""
        head = self._head
        keep_alive = head is not None and head.keep_alive
        self._head = None
        self._interim = 0
        self._receiver = None
        self._chunks = None
        self.exchange = None
        if self.gate.paused:
            self.gate.resume(PauseReason.BACKPRESSURE)
        exchange.response_ends(self, reusable=clean and keep_alive)

    def _malformed(self, exchange: ResponseHandler, error: FramingError) -> None:
        self.close()
        exchange.upstream_failed(
            UpstreamError("malformed", 502, f"the upstream sent an invalid response: {error}")
        )

    def _on_close(self, exchange: ResponseHandler, exc: Exception | None) -> None:
        """The upstream closed or broke the connection in the middle of an exchange."""
        if self._head is not None and self._remaining == UNTIL_CLOSE and exc is None:
            self._complete(exchange, clean=False)
            return
        untouched = self._head is None and not self._partial and not self._interim
        self.close()
        exchange.upstream_failed(
            UpstreamError("reset", 502, "the upstream closed the connection"),
            retryable=self.reused and untouched,
        )

    def _read_pending(self, exchange: ResponseHandler) -> None:
        """Read what the kernel still holds after a write has failed.

        An upstream that refuses an upload answers and closes without reading the rest. Where our
        next write meets its reset before the loop has read its answer, the answer is still there.
        """
        descriptor = self.transport.get_extra_info("socket").fileno()
        while self.exchange is exchange:
            try:
                data = os.read(descriptor, HIGH_WATER)
            except OSError:
                return
            if not data:
                return
            self.data_received(data)

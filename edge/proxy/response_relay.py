"""Owns a response that is not one piece on its way to the client: how its body is framed there."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edge.proxy.route_state import RouteState
from edge.wire.framing import LAST_CHUNK, Piece, chunk
from edge.wire.response_head import ResponseHead
from edge.wire.response_reader import CHUNKED_LINE

if TYPE_CHECKING:
    from edge.proxy.exchange import Exchange


class ResponseRelay:
    """A response to `exchange` under way: its head goes out at once, its body as it comes.

    `length` is that of the body as the upstream frames it, `start` the head for the client if that
    goes as it came, `cookie` a line for any other head. `chunked` and `close_delimited` say how the
    client learns where a body of unknown length ends.
    """

    __slots__ = ("_client", "_exchange", "_stream_timeout", "chunked", "close_delimited")

    def __init__(
        self,
        exchange: "Exchange",
        route_state: RouteState,
        head: ResponseHead,
        length: int,
        start: bytes,
        cookie: bytes,
    ) -> None:
        self._exchange = exchange
        self._client = client = exchange.client
        self._stream_timeout = route_state.stream_timeout
        # RFC 9112 section 6.1: HTTP/1.0 knows no chunks; the end of the connection has to do.
        self.chunked = length < 0 and exchange.fields.minor > 0
        self.close_delimited = length < 0 and not self.chunked
        if not start or client.half_closed:
            start = self._head(route_state, head, cookie)
        client.transport.write(start)
        if not client.write_paused:
            client.deadline = client.state.clock() + self._stream_timeout

    def __repr__(self) -> str:
        return f"<ResponseRelay {self._exchange!r} chunked={self.chunked}>"

    def _head(self, route_state: RouteState, head: ResponseHead, cookie: bytes) -> bytes:
        """The head for the client, where more has to be said than what came."""
        exchange = self._exchange
        client = self._client
        state = client.state
        if (
            exchange.request_open
            or state.draining
            or self.close_delimited
            or (client.half_closed and not client.buffer)
        ):
            exchange.keep_alive = False
        tail = b"" if head.has_date else state.date_line()
        if self.chunked:
            tail += CHUNKED_LINE
        if not exchange.keep_alive:
            tail += b"Connection: close\r\n"
        elif not exchange.fields.minor:
            tail += b"Connection: keep-alive\r\n"
        fields = head.fields
        if route_state.response_fields is not None:
            fields = route_state.response_fields.apply(head)
        return b"".join((fields, cookie, tail, exchange.request_id_line))

    def response_data(self, data: bytes | memoryview) -> None:
        """A piece of the body."""
        client = self._client
        self._exchange.sent += len(data)
        if self.chunked:
            client.transport.writelines(chunk([data]))
        else:
            client.transport.write(data)
        if not client.write_paused:
            client.deadline = client.state.clock() + self._stream_timeout

    def response_pieces(self, pieces: Sequence[Piece]) -> None:
        """Content that came in chunks."""
        client = self._client
        self._exchange.sent += sum(map(len, pieces))
        client.transport.writelines(chunk(pieces) if self.chunked else pieces)
        if not client.write_paused:
            client.deadline = client.state.clock() + self._stream_timeout

    def end_chunks(self) -> None:
        """A `chunked` body is complete."""
        self._client.transport.write(LAST_CHUNK)

"""Owns a connection from a client: collects request heads, serves them in order, lingers.

It knows nothing of upstreams: what a request needs is the business of its `Exchange`.
"""

import asyncio
import math
import socket
import struct
from typing import Final, cast

from edge.errors import HttpError
from edge.net.read_gate import HIGH_WATER, PauseReason, ReadGate, unread, unsent
from edge.proxy.exchange import Exchange
from edge.proxy.failure import client_lost
from edge.proxy.local_replies import send_rejection
from edge.proxy.proxy_header import ProxyHeaderReader
from edge.proxy.state import ServingState
from edge.proxy.timeouts import on_deadline
from edge.wire.codec import RequestReader
from edge.wire.forwarding import Peer
from edge.wire.request_head import check_incomplete_head
from edge.wire.request_reader import ReadRequest

# Empty lines before a request that are ignored (RFC 9112 section 2.2): old clients send one after
# a body.
MAX_EMPTY_LINES: Final = 4

# Bytes of further requests that may wait while one is being answered.
MAX_PIPELINED: Final = 64 * 1024

# Requests that are answered in one turn of the loop, where the edge answers by itself: 1 ms.
# Without a limit, 250 KiB of small ones that came at once held all others up for 0.3 s.
MAX_PER_TURN: Final = 16

# Seconds for which a connection is still read after the last response, so that a client which is
# still sending gets to read that response before it gets a reset (RFC 9112 section 9.6).
LINGER: Final = 5.0

# Seconds without a request after which a connection that is drained is surely not in use.
DRAIN_QUIET_PERIOD: Final = 1.0

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class ClientConnection:
    """The Protocol that faces a client.

    One by its methods: what has a base of Python's is not compiled to a native class.
    """

    __slots__ = (
        "_awaits_proxy_header",
        "_closing",
        "_empty_lines",
        "_reader",
        "_scanned",
        "_serving",
        "_unsent",
        "buffer",
        "deadline",
        "exchange",
        "gate",
        "half_closed",
        "peer",
        "state",
        "transport",
        "waits_for_turn",
        "write_paused",
    )

    transport: asyncio.Transport
    gate: ReadGate
    peer: Peer
    _reader: RequestReader

    def __init__(self, state: ServingState) -> None:
        # For the life of the process
        self.state = state
        # For the life of the connection
        self.deadline = math.inf
        self.half_closed = False  # the client sends nothing more
        self.write_paused = False  # the client does not read as fast as we write
        self.buffer = b""  # what has come and is not part of a request yet
        self._awaits_proxy_header = False
        self._closing = False
        self._serving = False
        self.waits_for_turn = False  # requests wait in `buffer` for the next turn of the loop
        self._scanned = 0  # bytes of `buffer` that were looked at
        self._empty_lines = 0
        self._unsent: float = math.inf  # bytes that waited for the client when last looked at
        # For the life of a request
        self.exchange: Exchange | None = None

    def __repr__(self) -> str:
        state = "closing" if self._closing else "serving" if self.exchange else "idle"
        return f"<ClientConnection {self.peer.address} {state}>"

    # What the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=HIGH_WATER)
        self.gate = ReadGate(self.transport)
        serving = self.state
        peername = transport.get_extra_info("peername")
        if peername is None:
            # Reset before it was accepted: a port scan.
            self._closing = True
            self.transport.abort()
            return
        settings = serving.settings
        self._take_for(peername[0])
        self.deadline = serving.clock() + settings.idle_timeout
        if not serving.accept_client(self):
            self._reject(HttpError(503, "too many connections"), b"")
        elif settings.proxy_protocol and self.peer.trusted:
            self._awaits_proxy_header = True
            self.deadline = serving.clock() + settings.head_timeout
            self.transport.set_protocol(ProxyHeaderReader(self))

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is not None:
            if exchange.request_open:
                try:
                    data = exchange.request_data(data)
                except HttpError as error:
                    exchange.reject(error)
                    return
            if data:
                self.buffer += data
                if len(self.buffer) > MAX_PIPELINED:
                    self.gate.pause(PauseReason.PIPELINED)
        elif not self._closing:
            if self.buffer:
                data = self.buffer + data
                self.buffer = b""
            if self.write_paused or self.waits_for_turn:
                # Answers wait for a client that does not read them: no further ones are made. Or
                # others have their turn first.
                self.buffer = data
                self.gate.pause(PauseReason.PIPELINED)
            else:
                self._serve(data)

    def eof_received(self) -> bool:
        self.half_closed = True
        if self._closing:
            return False
        if self.exchange is not None:
            self.exchange.client_half_closed()
            return True
        if self.buffer and not self.write_paused and not self.waits_for_turn:
            self._reject(HttpError(400, "the request ended early"), self.buffer)
            return True
        # An orderly close between two requests; what is still to be sent is sent.
        return bool(self.buffer)

    def connection_lost(self, exc: Exception | None) -> None:
        exchange, self.exchange = self.exchange, None
        self._closing = True
        self.state.forget_client(self)
        if exchange is not None:
            client_lost(exchange)

    def pause_writing(self) -> None:
        self.write_paused = True
        self._unsent = math.inf
        if self.exchange is not None:
            self.exchange.client_write_paused()
        else:
            self.deadline = self.state.clock() + self.state.settings.send_timeout

    def resume_writing(self) -> None:
        self.write_paused = False
        if self.exchange is not None:
            self.exchange.client_write_resumed()
        elif not self._closing:
            self.deadline = self.state.clock() + self.state.settings.idle_timeout
            self.gate.clear()
            self._serve_buffer()

    def _take_for(self, address: str) -> None:
        """The client is at `address`."""
        state = self.state
        settings = state.settings
        self.peer = Peer(address, settings.trusted_proxies, settings.forwarded)
        self._reader = RequestReader(
            self.peer,
            settings.max_target,
            settings.max_head,
            settings.max_fields,
            state.request_id_lines,
        )

    # The PROXY header

    def proxy_header_received(self, source: str | None, data: bytes) -> None:
        """A trusted proxy has said that its client is `source`, itself if None; `data` follows."""
        if self._closing:
            return
        self.transport.set_protocol(cast(asyncio.Protocol, self))
        settings = self.state.settings
        self._awaits_proxy_header = False
        if source is not None:
            self._take_for(source)
        self.deadline = self.state.clock() + settings.idle_timeout
        if self.state.draining:
            self.drain()
        if data:
            self.data_received(data)

    def reject_proxy_header(self, reason: str) -> None:
        """No PROXY header came: close without an answer, for nobody knows who would get it."""
        self.state.count_proxy_header_error(self.peer.address, reason)
        self._closing = True
        self.transport.abort()

    # Requests

    def _serve(self, data: bytes) -> None:
        """Serve the requests in `data`, until one has to wait for its answer."""
        self._serving = True
        served = 0
        while data:
            try:
                read = self._reader.read(data) or self._read_irregular_head(data)
            except HttpError as error:
                self._reject(error, data)
                break
            if read is None:
                break
            method, target, fields, head, request_id_line, size = read
            self._scanned = 0
            self._empty_lines = 0
            exchange = Exchange(self, method, target, fields, head, request_id_line)
            self.buffer = data[size:] if size < len(data) else b""
            try:
                exchange.start()
            except HttpError as error:
                exchange.reject(error)
            if self.exchange is not None or self._closing or self.write_paused:
                break
            served += 1
            if served == MAX_PER_TURN and self.buffer:
                self.waits_for_turn = True
                if len(self.buffer) > MAX_PIPELINED:
                    self.gate.pause(PauseReason.PIPELINED)
                asyncio.get_running_loop().call_soon(self._serve_after_others)
                break
            data, self.buffer = self.buffer, b""
        self._serving = False

    def _serve_after_others(self) -> None:
        self.waits_for_turn = False
        # What was written may only now have filled the buffer; `resume_writing` goes on then.
        if self.exchange is None and not self._closing and not self.write_paused:
            if len(self.buffer) <= MAX_PIPELINED:
                self.gate.clear()
            self._serve_buffer()

    def _serve_buffer(self) -> None:
        data, self.buffer = self.buffer, b""
        if data:
            self._serve(data)
        if (
            self.half_closed
            and self.exchange is None
            and not self._closing
            and not self.write_paused
            and not self.waits_for_turn
        ):
            self.lingering_close()

    def _read_irregular_head(self, data: bytes) -> ReadRequest | None:
        """The request that `data` begins with, which is not at its start or not there yet.

        None if its head is incomplete, and awaited from now on. Raises `HttpError`.
        """
        settings = self.state.settings
        skipped = 0
        while data.startswith(b"\r\n", skipped):
            skipped += 2
            self._empty_lines += 1
            if self._empty_lines > MAX_EMPTY_LINES:
                raise HttpError(400, "too many empty lines before the request")
        if skipped:
            self._scanned = 0
            data = data[skipped:]
            read = self._reader.read(data)
            if read is not None:
                method, target, fields, head, request_id_line, size = read
                return method, target, fields, head, request_id_line, skipped + size
        check_incomplete_head(data, self._scanned, settings.max_target, settings.max_head)
        self._await_rest_of_head(data)
        return None

    def _await_rest_of_head(self, data: bytes) -> None:
        """The head in `data` is incomplete."""
        if not self._scanned and data:
            self.deadline = self.state.clock() + self.state.settings.head_timeout
        self.buffer = data
        self._scanned = len(data)
        if self.half_closed:
            if data:
                self._reject(HttpError(400, "the request ended early"), data)
            else:
                self.lingering_close()

    def exchange_done(self, exchange: Exchange, now: float) -> None:
        """`exchange` has its response; the next request may come."""
        self.exchange = None
        serving = self.state
        if not exchange.keep_alive or serving.draining:
            self.lingering_close()
            return
        if self.gate.paused:
            self.gate.clear()
        if self.write_paused:
            self.deadline = now + serving.settings.send_timeout
            return
        self.deadline = now + serving.settings.idle_timeout
        if not self._serving and (self.buffer or self.half_closed):
            self._serve_buffer()

    def _reject(self, error: HttpError, data: bytes) -> None:
        """Answer what is not a request, and close; `data` is what there is of it."""
        send_rejection(self, error, with_content=not data.startswith(b"HEAD "))
        self.lingering_close()

    # The end

    def lingering_close(self) -> None:
        """Send what is to be sent and a FIN, read and discard for a while, then close.

        RFC 9112 section 9.6: a close while the client is still sending resets the connection, and
        the reset can overtake the response.
        """
        if self._closing:
            return
        self._closing = True
        self.buffer = b""
        if self.half_closed:
            self.transport.close()
        else:
            self.gate.clear()
            self.transport.write_eof()
        settings = self.state.settings
        timeout = settings.send_timeout if self.write_paused else LINGER
        self.deadline = self.state.clock() + timeout

    def abort_response(self, hard: bool) -> None:
        """Close in the middle of a response, so that the client cannot take it for a whole one.

        `hard`: with a reset, where an orderly close would read as the end of the body.
        """
        self.exchange = None
        if hard:
            sock = cast(socket.socket, self.transport.get_extra_info("socket"))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.transport.abort()
        else:
            self.lingering_close()

    @property
    def busy(self) -> bool:
        """Whether a request may come or is in flight, or a response is not sent yet."""
        return not self._closing or self.transport.get_write_buffer_size() > 0

    @property
    def buffered(self) -> int:
        """Bytes that wait for the client, for its upstream, or to be looked at."""
        size = len(self.buffer) + self.transport.get_write_buffer_size()
        exchange = self.exchange
        if exchange is None:
            return size
        if exchange.upstream is None:
            return size + sum(map(len, exchange.pending))
        return size + exchange.upstream.transport.get_write_buffer_size()

    def cut(self, error: str) -> None:
        """Close at once; `error` is for the access log."""
        if self.exchange is not None:
            self.exchange.error = error
        self.transport.abort()

    @property
    def idle_since(self) -> float:
        """When it began to wait for a request; inf if it does anything else."""
        if (
            self.exchange is not None
            or self.buffer
            or self._closing
            or self.write_paused
            or self._awaits_proxy_header
        ):
            return math.inf
        return self.deadline - self.state.settings.idle_timeout

    def close_idle(self) -> bool:
        """Close if no request has come meanwhile; whether that was so."""
        if unread(self.transport):
            return False
        self._closing = True
        self.transport.close()
        return True

    def drain(self) -> None:
        """Close as soon as no request is in flight.

        One that is on its way now would meet the close half way and be lost, so an idle connection
        stays until it has been quiet for a while; its next response says `Connection: close`.
        """
        if self.exchange is not None:
            self.exchange.accepts_whole_response = False
        elif not self.buffer and not self.write_paused:
            self.deadline = min(self.deadline, self.state.clock() + DRAIN_QUIET_PERIOD)

    # Deadlines

    def on_deadline(self, now: float) -> None:
        """The time is over for what was awaited."""
        if self._closing:
            if self.transport.get_write_buffer_size() and self.has_progressed():
                self.deadline = now + self.state.settings.send_timeout
            else:
                self.transport.abort()
        elif self.exchange is not None:
            on_deadline(self.exchange, now)
        elif self.write_paused:
            if self.has_progressed():
                self.deadline = now + self.state.settings.send_timeout
            else:
                self.transport.abort()
        elif unread(self.transport):
            # The loop was held up: the request is there, and only not read yet.
            self.deadline = now + DRAIN_QUIET_PERIOD
        elif self._scanned:
            self._reject(HttpError(408, "timed out while reading the request head"), self.buffer)
        elif self._awaits_proxy_header and not self.state.draining:
            self.reject_proxy_header("timed out")
        else:
            self.lingering_close()

    def has_progressed(self) -> bool:
        """Whether the client took anything since the last time that this was asked."""
        before, self._unsent = self._unsent, float(unsent(self.transport))
        return self._unsent < before

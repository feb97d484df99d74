"""Owns what follows a 101: two connections that are one, with no more HTTP on them."""

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, cast

from edge.flow import HIGH_WATER

if TYPE_CHECKING:
    from edge.client import ClientConnection
    from edge.exchange import Exchange
    from edge.upstream import UpstreamConnection

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Tunnel:
    """Bytes in both directions, with the ends of each: half-close, close and reset pass on."""

    __slots__ = (
        "_client",
        "_exchange",
        "_idle_timeout",
        "_open_ends",
        "_worker",
        "deadline",
        "sides",
    )

    def __init__(
        self,
        client: "ClientConnection",
        upstream: "UpstreamConnection",
        exchange: "Exchange",
        idle_timeout: float,
    ) -> None:
        self._worker = client.worker
        self._client = client
        self._exchange = exchange
        self._open_ends = 2
        self._idle_timeout = idle_timeout
        self.deadline = 0.0
        self.sides = (TunnelEnd(self, client.transport), TunnelEnd(self, upstream.transport))
        client_end, upstream_end = self.sides
        client_end.other, upstream_end.other = upstream_end, client_end

    def __repr__(self) -> str:
        return f"<Tunnel {self._client!r} open_ends={self._open_ends}>"

    def start(self, from_client: bytes, from_upstream: bytes) -> None:
        """Take both connections over, and deliver what came too early."""
        client_end, upstream_end = self.sides
        self._client.gate.open()
        for end in self.sides:
            end.transport.set_protocol(end)
            end.transport.set_write_buffer_limits(high=HIGH_WATER)
        self.heard()
        if from_client:
            client_end.data_received(from_client)
        if from_upstream:
            upstream_end.data_received(from_upstream)
        if self._client.half_closed:
            client_end.eof_received()

    def heard(self) -> None:
        """Something passed: the idle time starts anew."""
        self.deadline = self._worker.clock() + self._idle_timeout

    def count(self, end: "TunnelEnd", size: int) -> None:
        """`size` bytes came in at `end`."""
        if end is self.sides[0]:
            self._exchange.received += size
        else:
            self._exchange.sent += size
        self.heard()

    def end_lost(self, end: "TunnelEnd", exc: Exception | None) -> None:
        """One connection is closed: what it sent is delivered, then the other one is closed."""
        self._open_ends -= 1
        if self._open_ends:
            end.other.finish(reset=exc is not None)
            return
        self._worker.dismiss(self._client)
        self._exchange.tunnel_ended(self)

    def cut(self) -> None:
        """Close both sides at once."""
        for end in self.sides:
            end.transport.abort()


class TunnelEnd(asyncio.Protocol):
    """The Protocol of one side."""

    __slots__ = ("_eof_received", "_eof_sent", "_tunnel", "other", "transport")

    other: "TunnelEnd"

    def __init__(self, tunnel: Tunnel, transport: asyncio.Transport) -> None:
        self._tunnel = tunnel
        self._eof_received = False
        self._eof_sent = False
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._tunnel.count(self, len(data))
        self.other.transport.write(data)

    def eof_received(self) -> bool:
        self._eof_received = True
        self.other.send_eof()
        self._close_if_over()
        return True

    def send_eof(self) -> None:
        """Pass on that the other side has no more to say."""
        if not self._eof_sent and not self.transport.is_closing():
            self._eof_sent = True
            self.transport.write_eof()
            self._close_if_over()

    def _close_if_over(self) -> None:
        if self._eof_received and self._eof_sent:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._tunnel.end_lost(self, exc)

    def finish(self, reset: bool) -> None:
        """The other side is closed."""
        if reset:
            sock = cast(socket.socket, self.transport.get_extra_info("socket"))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.transport.abort()
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self.other.transport.is_closing():
            self.other.transport.resume_reading()

"""Owns what follows a 101: two connections that are one, with no more HTTP on them; and how they
are closed when the edge or the target has to go, so that neither side takes it for a failure.
"""

import asyncio
import math
import socket
import struct
from secrets import token_bytes
from typing import TYPE_CHECKING, Final, cast

from edge.flow import HIGH_WATER
from edge.websocket_frames import GOING_AWAY, SERVICE_RESTART, FrameFollower, close_frame

if TYPE_CHECKING:
    from edge.client import ClientConnection
    from edge.exchange import Exchange
    from edge.upstream import UpstreamConnection

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

# Seconds that both sides have to finish the frame under way and to answer the close. A peer that
# is alive takes a round trip; one that is not, or that sends a huge frame, is cut.
CLOSE_TIMEOUT: Final = 3.0


class Tunnel:
    """Bytes in both directions, with the ends of each: half-close, close and reset pass on.

    `websocket`: the bytes are frames of RFC 6455, which are followed so that a close frame can
    stand between two of them.
    """

    __slots__ = (
        "_client",
        "_closes_at",
        "_exchange",
        "_idle_timeout",
        "_open_ends",
        "_worker",
        "closing",
        "deadline",
        "sides",
        "target",
    )

    def __init__(
        self,
        client: "ClientConnection",
        upstream: "UpstreamConnection",
        exchange: "Exchange",
        websocket: bool,
        idle_timeout: float,
    ) -> None:
        self._worker = client.worker
        self._client = client
        self._exchange = exchange
        self._open_ends = 2
        self._closes_at = math.inf  # when it is to be closed, over or not
        self.target = upstream.target
        self.closing = False
        self._idle_timeout = idle_timeout
        self.deadline = 0.0
        self.sides = (
            TunnelEnd(self, client.transport, FrameFollower(True) if websocket else None),
            TunnelEnd(self, upstream.transport, FrameFollower(False) if websocket else None),
        )
        client_end, upstream_end = self.sides
        client_end.other, upstream_end.other = upstream_end, client_end

    def __repr__(self) -> str:
        state = "closing" if self.closing else "open"
        return f"<Tunnel {self._client!r} {state} open_ends={self._open_ends}>"

    @property
    def over(self) -> bool:
        """Whether both sides are closed."""
        return not self._open_ends

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
        self.deadline = min(self._worker.clock() + self._idle_timeout, self._closes_at)

    def count(self, end: "TunnelEnd", size: int) -> None:
        """`size` bytes came in at `end`."""
        if end is self.sides[0]:
            self._exchange.received += size
        else:
            self._exchange.sent += size
        if not self.closing:
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

    def on_deadline(self, now: float) -> None:
        """Nothing passed for too long, or the time has come to close."""
        if self.closing or now < self._closes_at:
            self.cut()
        else:
            self._close(now)

    # The gentle end

    def close_at(self, when: float) -> None:
        """Close gently at `when`, or earlier if that was said before."""
        self._closes_at = min(self._closes_at, when)
        self.deadline = min(self.deadline, when)

    def stay(self) -> None:
        """Do not close after all, unless that has begun."""
        if not self.closing:
            self._closes_at = math.inf
            self.heard()

    def _close(self, now: float) -> None:
        """Close both sides as their protocol wants it, within `CLOSE_TIMEOUT`."""
        self.closing = True
        self.deadline = now + CLOSE_TIMEOUT
        client_end, upstream_end = self.sides
        if not (client_end.in_frames and upstream_end.in_frames):
            self._hand_over(_DeafEnd(client_end), _DeafEnd(upstream_end))
        elif not (client_end.said_close or upstream_end.said_close):
            self._hand_over(
                _ClosingEnd(client_end, close_frame(SERVICE_RESTART)),
                _ClosingEnd(upstream_end, close_frame(GOING_AWAY, token_bytes(4))),
            )
        # Else they are closing already: a second close frame would break the protocol.

    def _hand_over(self, client_end: "_DeafEnd", upstream_end: "_DeafEnd") -> None:
        client_end.other, upstream_end.other = upstream_end, client_end
        self.sides = (client_end, upstream_end)
        for end in (client_end, upstream_end):
            end.transport.set_protocol(end)
        for end in (client_end, upstream_end):
            end.begin()


class TunnelEnd(asyncio.Protocol):
    """The Protocol of one side. `frames` follows what it sends, where that is WebSocket."""

    __slots__ = ("_eof_received", "_eof_sent", "_tunnel", "frames", "other", "transport")

    other: "TunnelEnd"

    def __init__(
        self, tunnel: Tunnel, transport: asyncio.Transport, frames: FrameFollower | None
    ) -> None:
        self._tunnel = tunnel
        self._eof_received = False
        self._eof_sent = False
        self.frames = frames
        self.transport = transport

    @property
    def in_frames(self) -> bool:
        """Whether what it sends are frames, and more of them can come."""
        return self.frames is not None and not self.frames.broken and not self._eof_received

    @property
    def said_close(self) -> bool:
        """Whether a close frame has come from it."""
        return self.frames is not None and self.frames.closing

    def data_received(self, data: bytes) -> None:
        self._tunnel.count(self, len(data))
        if self.frames is not None:
            self.frames.feed(data)
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


class _DeafEnd(TunnelEnd):
    """A side of a tunnel that is being closed: it gets a FIN behind what is on its way to it, and
    what it still says is discarded.
    """

    __slots__ = ()

    def __init__(self, end: TunnelEnd) -> None:
        super().__init__(end._tunnel, end.transport, end.frames)
        self._eof_received = end._eof_received
        self._eof_sent = end._eof_sent

    def begin(self) -> None:
        """Both sides have been handed over."""
        # It may be full, and so nothing was read from the other one.
        self.resume_writing()
        self.send_eof()

    def data_received(self, data: bytes) -> None:
        self._tunnel.count(self, len(data))


class _ClosingEnd(_DeafEnd):
    """A side of a WebSocket that is being closed: it gets a close frame in the first gap between
    frames on their way to it, and is closed when its own close frame has come.

    RFC 6455 section 7.1.2. What it says passes until the other side has been told too.
    """

    __slots__ = ("_close_frame", "_told")

    frames: FrameFollower
    other: "_ClosingEnd"

    def __init__(self, end: TunnelEnd, close_frame: bytes) -> None:
        super().__init__(end)
        self._close_frame = close_frame
        self._told = False

    def begin(self) -> None:
        if self.other.frames.at_gap:
            self._tell()

    def _tell(self) -> None:
        self._told = True
        if not self.transport.is_closing():
            self.transport.write(self._close_frame)
            # Section 5.5.1: no data behind a close frame, so nothing has to wait for room here.
            self.resume_writing()
            self._close_if_answered()

    def _close_if_answered(self) -> None:
        if self._told and self.frames.closed:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        frames = self.frames
        other = self.other
        if not other._told:
            passed = frames.feed_to_gap(data)
            other.transport.write(data[:passed])
            data = data[passed:]
            if frames.at_gap:
                other._tell()
        frames.feed(data)
        self._close_if_answered()

    def eof_received(self) -> bool:
        self._end()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        super().connection_lost(exc)

    def _end(self) -> None:
        """This side says no more, and is told no more."""
        self._told = True
        if not self.other._told:
            # The frame on its way to it never ends.
            self.other.transport.close()

    def finish(self, reset: bool) -> None:
        """The other side is closed; this one has been told, and answers or is cut."""

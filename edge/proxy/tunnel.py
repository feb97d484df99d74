"""Owns what follows a 101: two connections that are one, with no more HTTP on them; and how they
are closed when the edge or the target has to go, so that neither side takes it for a failure.
"""

import asyncio
import math
import socket
import struct
from collections.abc import Sequence
from secrets import token_bytes
from typing import TYPE_CHECKING, Final, cast

from edge.net.read_gate import HIGH_WATER
from edge.upstream.connection import UpstreamConnection
from edge.upstream.target import Target
from edge.wire.response_head import ResponseHead
from edge.wire.websocket_frames import GOING_AWAY, SERVICE_RESTART, FrameTracker, close_frame

if TYPE_CHECKING:
    from edge.proxy.client import ClientConnection
    from edge.proxy.exchange import Exchange

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
        "_open_sides",
        "_state",
        "closing",
        "deadline",
        "sides",
        "target",
    )

    def __init__(
        self,
        client: "ClientConnection",
        upstream: UpstreamConnection,
        exchange: "Exchange",
        target: Target,
        websocket: bool,
        idle_timeout: float,
    ) -> None:
        self._state = client.state
        self._client = client
        self._exchange = exchange
        self._open_sides = 2
        self._closes_at = math.inf  # when it is to be closed, over or not
        self.target = target
        self.closing = False
        self._idle_timeout = idle_timeout
        self.deadline = 0.0
        self.sides = (
            TunnelSide(self, client.transport, FrameTracker(True) if websocket else None),
            TunnelSide(self, upstream.transport, FrameTracker(False) if websocket else None),
        )
        client_side, upstream_side = self.sides
        client_side.other, upstream_side.other = upstream_side, client_side

    def __repr__(self) -> str:
        state = "closing" if self.closing else "open"
        return f"<Tunnel {self._client!r} {state} open_sides={self._open_sides}>"

    @property
    def over(self) -> bool:
        """Whether both sides are closed."""
        return not self._open_sides

    def start(self, from_client: bytes, from_upstream: bytes) -> None:
        """Take both connections over, and deliver what came too early."""
        client_side, upstream_side = self.sides
        self._client.gate.clear()
        for side in self.sides:
            side.transport.set_protocol(side)
            side.transport.set_write_buffer_limits(high=HIGH_WATER)
        self.on_activity()
        if from_client:
            client_side.data_received(from_client)
        if from_upstream:
            upstream_side.data_received(from_upstream)
        if self._client.half_closed:
            client_side.eof_received()

    def on_activity(self) -> None:
        """Something passed: the idle time starts anew."""
        self.deadline = min(self._state.clock() + self._idle_timeout, self._closes_at)

    def count(self, side: "TunnelSide", size: int) -> None:
        """`size` bytes came from `side`."""
        if side is self.sides[0]:
            self._exchange.received += size
        else:
            self._exchange.sent += size
        if not self.closing:
            self.on_activity()

    def side_lost(self, side: "TunnelSide", exc: Exception | None) -> None:
        """One connection is closed: what it sent is delivered, then the other one is closed."""
        self._open_sides -= 1
        if side is self.sides[1]:
            self.target.pool.forget()
        if self._open_sides:
            side.other.finish(reset=exc is not None)
            return
        self._state.forget_client(self._client)
        self._state.tunnel_closed(self)
        self._exchange.account(self._state.clock())

    def abort(self) -> None:
        """Close both sides at once."""
        for side in self.sides:
            side.transport.abort()

    @property
    def buffered(self) -> int:
        """Bytes that wait for either side."""
        return sum(side.transport.get_write_buffer_size() for side in self.sides)

    def cut(self, error: str) -> None:
        """As `abort`; `error` is for the access log."""
        self._exchange.error = error
        self.abort()

    def on_deadline(self, now: float) -> None:
        """Nothing passed for too long, or the time has come to close."""
        if self.closing or now < self._closes_at:
            self.abort()
        else:
            self._close(now)

    # The gentle end

    def close_at(self, when: float) -> None:
        """Close gently at `when`, or earlier if that was said before."""
        self._closes_at = min(self._closes_at, when)
        self.deadline = min(self.deadline, when)

    def cancel_close(self) -> None:
        """Do not close after all, unless that has begun."""
        if not self.closing:
            self._closes_at = math.inf
            self.on_activity()

    def _close(self, now: float) -> None:
        """Close both sides as their protocol wants it, within `CLOSE_TIMEOUT`."""
        self.closing = True
        self.deadline = now + CLOSE_TIMEOUT
        client_side, upstream_side = self.sides
        if not (client_side.is_websocket and upstream_side.is_websocket):
            self._hand_over(_DiscardingSide(client_side), _DiscardingSide(upstream_side))
        elif not (client_side.close_received or upstream_side.close_received):
            self._hand_over(
                _ClosingSide(client_side, close_frame(SERVICE_RESTART)),
                _ClosingSide(upstream_side, close_frame(GOING_AWAY, token_bytes(4))),
            )
        # Else they are closing already: a second close frame would break the protocol.

    def _hand_over(self, client_side: "_DiscardingSide", upstream_side: "_DiscardingSide") -> None:
        client_side.other, upstream_side.other = upstream_side, client_side
        self.sides = (client_side, upstream_side)
        for side in (client_side, upstream_side):
            side.transport.set_protocol(side)
        for side in (client_side, upstream_side):
            side.begin()


def answers_upgrade(asked: Sequence[bytes], protocols: Sequence[bytes]) -> bool:
    """Whether a 101 for `protocols` answers what was asked (RFC 9110 section 7.8)."""
    known = {protocol.lower() for protocol in asked}
    return bool(protocols) and all(protocol.lower() in known for protocol in protocols)


def open_tunnel(
    exchange: "Exchange",
    connection: UpstreamConnection,
    head: ResponseHead,
    early: bytes,
    cookie: bytes,
) -> None:
    """Answer 101 and hand both connections to a tunnel; `early` came behind the 101.

    `cookie` is a line for the head of the 101.
    """
    client = exchange.client
    route_state, target = exchange.route_state, exchange.target
    assert route_state is not None  # noqa: S101  else no upstream could answer
    assert target is not None  # noqa: S101  narrows a type
    exchange.status = 101
    exchange.upstream = None
    if target.unavailable_until:
        client.state.health.response_began(
            target, route_state.max_fails, head.status, exchange.upstream_started
        )
    upgrade = b", ".join(head.upgrade)
    websocket = upgrade.lower() == b"websocket"
    client.transport.write(
        b"%b%bConnection: upgrade\r\nUpgrade: %b\r\n%b"
        % (head.fields, cookie, upgrade, exchange.request_id_line)
    )
    client.deadline = math.inf
    tunnel = Tunnel(client, connection, exchange, target, websocket, route_state.tunnel_timeout)
    client.buffer, sent_early = b"", client.buffer
    tunnel.start(from_client=sent_early, from_upstream=early)
    client.state.tunnel_opened(tunnel)
    connection.pool.discard(connection)


class TunnelSide(asyncio.Protocol):
    """The Protocol of one side. `frames` follows what it sends, where that is WebSocket."""

    __slots__ = ("_eof_received", "_eof_sent", "_tunnel", "frames", "other", "transport")

    other: "TunnelSide"

    def __init__(
        self, tunnel: Tunnel, transport: asyncio.Transport, frames: FrameTracker | None
    ) -> None:
        self._tunnel = tunnel
        self._eof_received = False
        self._eof_sent = False
        self.frames = frames
        self.transport = transport

    @property
    def is_websocket(self) -> bool:
        """Whether what it sends are frames, and more of them can come."""
        return self.frames is not None and not self.frames.broken and not self._eof_received

    @property
    def close_received(self) -> bool:
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
        self._tunnel.side_lost(self, exc)

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


class _DiscardingSide(TunnelSide):
    """A side of a tunnel that is being closed: it gets a FIN behind what is on its way to it, and
    what it still says is discarded.
    """

    __slots__ = ()

    def __init__(self, side: TunnelSide) -> None:
        super().__init__(side._tunnel, side.transport, side.frames)
        self._eof_received = side._eof_received
        self._eof_sent = side._eof_sent

    def begin(self) -> None:
        """Both sides have been handed over."""
        # It may be full, and so nothing was read from the other one.
        self.resume_writing()
        self.send_eof()

    def data_received(self, data: bytes) -> None:
        self._tunnel.count(self, len(data))


class _ClosingSide(_DiscardingSide):
    """A side of a WebSocket that is being closed: it gets a close frame at the first boundary
    between frames on their way to it, and is closed when its own close frame has come.

    RFC 6455 section 7.1.2. What it sends passes until the other side has its close frame too.
    """

    __slots__ = ("_close_frame", "_close_sent")

    frames: FrameTracker
    other: "_ClosingSide"

    def __init__(self, side: TunnelSide, close_frame: bytes) -> None:
        super().__init__(side)
        self._close_frame = close_frame
        self._close_sent = False

    def begin(self) -> None:
        if self.other.frames.at_frame_boundary:
            self._send_close()

    def _send_close(self) -> None:
        self._close_sent = True
        if not self.transport.is_closing():
            self.transport.write(self._close_frame)
            # Section 5.5.1: no data behind a close frame, so nothing has to wait for room here.
            self.resume_writing()
            self._close_if_answered()

    def _close_if_answered(self) -> None:
        if self._close_sent and self.frames.closed:
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        frames = self.frames
        other = self.other
        if not other._close_sent:
            passed = frames.feed_to_frame_boundary(data)
            other.transport.write(data[:passed])
            data = data[passed:]
            if frames.at_frame_boundary:
                other._send_close()
        frames.feed(data)
        self._close_if_answered()

    def eof_received(self) -> bool:
        self._on_end()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_end()
        super().connection_lost(exc)

    def _on_end(self) -> None:
        """This side sends no more, and needs no close frame any more."""
        self._close_sent = True
        if not self.other._close_sent:
            # The frame on its way to it never ends.
            self.other.transport.close()

    def finish(self, reset: bool) -> None:
        """The other side is closed; this one has a close frame, and answers it or is cut."""

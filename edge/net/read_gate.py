"""Owns the reasons for which reading from a transport is paused."""

import asyncio
import enum
import fcntl
import struct
import termios
from typing import Final

# Bytes that may wait in a transport before the other side is no longer read. One read brings at
# most 250 KiB more (uvloop's buffer), so a peer that stops reading costs half a MiB.
HIGH_WATER: Final = 256 * 1024


def unsent(transport: asyncio.WriteTransport) -> int:
    """Bytes that were written to `transport` and have not reached the peer's kernel yet.

    What our kernel holds counts too: it takes up to 4 MiB off our hands at once, and a slow peer
    works on those for minutes.
    """
    descriptor = transport.get_extra_info("socket").fileno()
    (queued,) = struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, b"\0\0\0\0"))
    return int(queued) + transport.get_write_buffer_size()


def unread(transport: asyncio.BaseTransport) -> int:
    """Bytes that the peer has sent and that the loop has not read yet."""
    descriptor = transport.get_extra_info("socket").fileno()
    (waiting,) = struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, b"\0\0\0\0"))
    return int(waiting)


class PauseReason(enum.Enum):
    """Why nothing more is read from a peer."""

    BACKPRESSURE = enum.auto()  # what was read cannot be written to the other side
    NO_UPSTREAM = enum.auto()  # the request's body has nowhere to go yet
    WAITLISTED = enum.auto()  # the request waits in a waitlist
    PIPELINED = enum.auto()  # enough requests wait behind the one that is being answered


class ReadGate:
    """Pauses reading while at least one reason holds.

    A set and not a flag: with a flag, the end of one reason undoes another. `paused` is whether
    there is a reason; each request asks twice, so it is kept and not worked out.
    """

    __slots__ = ("_reasons", "_transport", "paused")

    def __init__(self, transport: asyncio.ReadTransport) -> None:
        self._transport = transport
        self._reasons: set[PauseReason] = set()
        self.paused = False

    def __repr__(self) -> str:
        return f"<ReadGate {sorted(reason.name for reason in self._reasons) or 'open'}>"

    def pause(self, reason: PauseReason) -> None:
        if not self._reasons and not self._transport.is_closing():
            self._transport.pause_reading()
        self._reasons.add(reason)
        self.paused = True

    def clear(self) -> None:
        """Drop every reason."""
        for reason in list(self._reasons):
            self.resume(reason)

    def resume(self, reason: PauseReason) -> None:
        if reason in self._reasons:
            self._reasons.remove(reason)
            self.paused = bool(self._reasons)
            if not self.paused and not self._transport.is_closing():
                self._transport.resume_reading()

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


class Pause(enum.Enum):
    """Why nothing more is read from a peer."""

    PEER_FULL = enum.auto()  # what was read cannot be written to the other side
    NO_UPSTREAM = enum.auto()  # the request's body has nowhere to go yet
    HELD = enum.auto()  # the request waits until it is admitted
    PIPELINED = enum.auto()  # enough requests wait behind the one that is being answered


class ReadGate:
    """Pauses reading while at least one reason holds.

    A set and not a flag: with a flag, the end of one reason undoes another.
    """

    __slots__ = ("_reasons", "_transport")

    def __init__(self, transport: asyncio.ReadTransport) -> None:
        self._transport = transport
        self._reasons: set[Pause] = set()

    def __repr__(self) -> str:
        return f"<ReadGate {sorted(reason.name for reason in self._reasons) or 'open'}>"

    @property
    def paused(self) -> bool:
        return bool(self._reasons)

    def pause(self, reason: Pause) -> None:
        if not self._reasons and not self._transport.is_closing():
            self._transport.pause_reading()
        self._reasons.add(reason)

    def open(self) -> None:
        """Drop every reason."""
        for reason in list(self._reasons):
            self.resume(reason)

    def resume(self, reason: Pause) -> None:
        if reason in self._reasons:
            self._reasons.remove(reason)
            if not self._reasons and not self._transport.is_closing():
                self._transport.resume_reading()

"""Owns where the frames of a WebSocket begin and end, and the frame that closes one. Pure.

Nothing of a payload is ever looked at. The boundaries have to be known because a control frame may
stand between two frames, also between those of one message, but never inside one (RFC 6455 section
5.4).
"""

from typing import Final

# Codes of RFC 6455 section 7.4.1, and of the registry of section 11.7: to a client, that it may
# connect again; to a server, what a browser says when its page is left.
SERVICE_RESTART: Final = 1012
GOING_AWAY: Final = 1001

_CLOSE: Final = 0x8
_MASKED: Final = 0x80
_MASKING_KEY: Final = 4  # bytes

# Bytes that never come: what is no frame has no end.
_ENDLESS: Final = 1 << 64


class FrameTracker:
    """Follows the frames in one direction: `masked` are those of a client (RFC 6455 section 5.1).

    A read costs 0.7 us and 0.2 us for each further frame in it. Frames of 64 KiB cost nothing that
    could be seen beside reading and writing them; a stream of nothing but tiny ones costs more than
    that, up to 10 ms for a read of 250 KiB, and a regular expression did not make it cheaper.
    """

    __slots__ = ("_header", "_length_mark", "_partial", "_remaining", "_saw_close", "broken")

    def __init__(self, masked: bool) -> None:
        self._length_mark = _MASKED if masked else 0
        self._header = 2 + (_MASKING_KEY if masked else 0)
        self._partial = b""  # of a header that says too little yet to know the length
        self._remaining = 0  # bytes of the frame under way that have not come
        self._saw_close = False
        self.broken = False  # these are no frames: nothing is known of them

    def __repr__(self) -> str:
        state = "broken" if self.broken else "closed" if self.closed else "open"
        return f"<FrameTracker {state} at_frame_boundary={self.at_frame_boundary}>"

    @property
    def at_frame_boundary(self) -> bool:
        """Whether what has come so far ends with a whole frame."""
        return not self._remaining and not self._partial

    @property
    def closing(self) -> bool:
        """Whether a close frame has come, perhaps not all of it."""
        return self._saw_close

    @property
    def closed(self) -> bool:
        """Whether a whole close frame has come."""
        return self._saw_close and self.at_frame_boundary

    def feed(self, data: bytes) -> None:
        """Follow `data` to its end."""
        size = len(data)
        position = self._remaining
        if position >= size:
            self._remaining = position - size
            return
        if self._partial:
            data = self._partial + data
            size = len(data)
            self._partial = b""
        mark = self._length_mark
        header = self._header
        while size - position >= 2:
            # A mask that is there and should not be, or the other way round, makes it over 127.
            length = data[position + 1] ^ mark
            if data[position] & 0x0F == _CLOSE:
                self._saw_close = True
            if length < 126:
                position += header + length
                continue
            extended = 2 if length == 126 else 8
            if length > 127:
                self.broken = True
                self._remaining = _ENDLESS
                return
            if size - position < 2 + extended:
                break
            length = int.from_bytes(data[position + 2 : position + 2 + extended], "big")
            position += header + extended + length
        self._remaining = max(0, position - size)
        self._partial = data[position:]

    def feed_to_frame_boundary(self, data: bytes) -> int:
        """Follow `data` to the first frame boundary, or to its end; how many bytes that took."""
        taken = 0
        while self._partial and taken < len(data):
            self.feed(data[taken : taken + 1])
            taken += 1
        missing = min(self._remaining, len(data) - taken)
        self.feed(data[taken : taken + missing])
        return taken + missing


def close_frame(code: int, masking_key: bytes = b"") -> bytes:
    """A close frame (RFC 6455 section 5.5.1); a client's has a `masking_key` of 4 random bytes."""
    payload = code.to_bytes(2, "big")
    if not masking_key:
        return bytes((0x80 | _CLOSE, len(payload))) + payload
    masked = bytes(byte ^ key for byte, key in zip(payload, masking_key, strict=False))
    return bytes((0x80 | _CLOSE, _MASKED | len(payload))) + masking_key + masked

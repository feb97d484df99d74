"""Owns the last bytes of an output, whatever there is of it: memory is bounded. Pure."""

from collections import deque


class LogTail:
    """At most `max_bytes` of the end of what it is fed."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: deque[bytes] = deque()
        self._size = 0

    def feed(self, data: bytes) -> None:
        """The next piece."""
        self._kept.append(data)
        self._size += len(data)
        # One byte more tells whether what is kept begins with a line.
        while self._size - len(self._kept[0]) > self._max_bytes:
            self._size -= len(self._kept.popleft())

    def text(self) -> str:
        """From the first whole line on, if there is one."""
        text = b"".join(self._kept)
        if len(text) > self._max_bytes:
            before, cut = text[: -self._max_bytes], text[-self._max_bytes :]
            text = cut if before.endswith(b"\n") else cut.partition(b"\n")[2] or cut
        return text.decode(errors="replace").rstrip("\n")

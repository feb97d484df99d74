"""Owns how the engine multiplexes the two outputs of a container: frames, and lines in them. Pure.

A frame is eight bytes (its stream, three of padding, its length in network order) and its data:
Docker Engine API, "Attach to a container".
"""

import struct
from collections.abc import Iterator
from typing import Final

STDOUT: Final = 1
STDERR: Final = 2

_HEADER: Final = struct.Struct(">BxxxL")


class Demultiplexer:
    """Takes bytes as they come, and says of which stream they are. Keeps no data."""

    def __init__(self) -> None:
        self._header = b""
        self._stream = STDOUT
        self._left = 0  # of the frame

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """The pieces in `data`, each with its stream."""
        at = 0
        while at < len(data):
            if self._left == 0:
                header = data[at : at + _HEADER.size - len(self._header)]
                self._header += header
                at += len(header)
                if len(self._header) < _HEADER.size:
                    return
                self._stream, self._left = _HEADER.unpack(self._header)
                self._header = b""
                continue
            piece = data[at : at + self._left]
            at += len(piece)
            self._left -= len(piece)
            yield self._stream, piece

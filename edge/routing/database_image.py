"""Owns which rows of a database may have changed between two looks at it: those on the pages of its
file that are not what they were.

To have SQLite read all rows takes ten times as long as to compare the file with what it was. What
is not a page of rows, or changes which pages have rows, decides nothing: then all is read.

The format is <https://www.sqlite.org/fileformat2.html>; the numbers of sections are its own.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from itertools import zip_longest
from pathlib import Path
from typing import Final

CHUNK: Final = 2**20
"""Bytes that are read and compared at once, a multiple of each size of a page: between two the
interpreter has to be won back from a busy event loop, and one is compared in 0.2 ms."""

_HEADER: Final = 100  # bytes of the first page that are the header of the file (1.3)
_MAX_RANGES: Final = 256  # changed pages, of which each is a range; beyond that all is read

_LEAF_OF_ROWS: Final = 13  # "table b-tree leaf page" (1.6)
_OF_INDEX: Final = (2, 10)  # pages of an index, which has no rows

Image = Sequence[bytes]
"""The bytes of a file, in chunks; those that two images have in common are the same object."""


class DatabaseFile:
    """The file at `path`, beside the connections that SQLite has to it.

    It stays open between two looks, and is closed only as another one is there: a process that
    closes any descriptor of a file gives up its locks on that, those of SQLite too (fcntl(2)).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1
        self._file: tuple[int, int] | None = None

    def __del__(self) -> None:
        self.close()

    def open(self, file: tuple[int, int]) -> bool:
        """Whether the file with this device and inode is open now. Only without a connection."""
        if self._file != file:
            self.close()
            with suppress(OSError):
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
                self._descriptor = os.open(self._path, flags)
                found = os.fstat(self._descriptor)
                self._file = (found.st_dev, found.st_ino)
        return self._file == file

    def read(self, before: Image) -> Image:
        """What is in it. Raises OSError."""
        size = os.fstat(self._descriptor).st_size
        chunks: list[bytes] = []
        for offset, known in zip_longest(range(0, size, CHUNK), before[: -(-size // CHUNK)]):
            chunk = os.pread(self._descriptor, CHUNK, offset)
            chunks.append(known if known is not None and chunk == known else chunk)
        return chunks

    def close(self) -> None:
        """Only without a connection."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor, self._file = -1, None


def changed_rowids(before: Image, after: Image) -> list[tuple[int, int]] | None:
    """The rowids, in whatever table, of which the rows may differ: ranges, first and last.

    None if it may be any.
    """
    if not before or not after or not _is_same_schema(before[0], after[0]):
        return None
    size = _page_size(after[0])
    ranges: list[tuple[int, int]] = []
    for number, (old, new) in enumerate(zip_longest(before, after, fillvalue=b"")):
        if old is new:
            continue
        # The first page of all is that of the schema.
        for start in range(0 if number else size, max(len(old), len(new)), size):
            pages = old[start : start + size], new[start : start + size]
            if pages[0] == pages[1]:
                continue
            for page in filter(None, pages):
                if page[0] == _LEAF_OF_ROWS:
                    ranges += _rowids(page)
                elif page[0] not in _OF_INDEX:
                    # Which pages have rows may have changed; or it is the rest of a long row (1.7).
                    return None
        if len(ranges) > _MAX_RANGES:
            return None
    return ranges


def _is_same_schema(before: bytes, after: bytes) -> bool:
    """By its counter (1.3.13) and its page; nor have pages another size."""
    return (
        before[16:18] == after[16:18]
        and before[40:44] == after[40:44]
        and before[_HEADER : _page_size(after)] == after[_HEADER : _page_size(after)]
    )


def _page_size(first: bytes) -> int:
    found = int.from_bytes(first[16:18], "big")
    return 2**16 if found == 1 else found


def _rowids(page: bytes) -> list[tuple[int, int]]:
    """The first and the last on a leaf page of rows, which are in order (1.6); none if empty."""
    cells = int.from_bytes(page[3:5], "big")
    return [(_rowid(page, 8), _rowid(page, 8 + 2 * (cells - 1)))] if cells else []


def _rowid(page: bytes, pointer: int) -> int:
    """That of the cell at which the bytes at `pointer` point: a length, then the rowid."""
    cell = int.from_bytes(page[pointer : pointer + 2], "big")
    _, cell = _varint(page, cell)
    value, _ = _varint(page, cell)
    return value - 2**64 if value >= 2**63 else value


def _varint(page: bytes, start: int) -> tuple[int, int]:
    """The number at `start`, and where it ends: seven bits in each byte, eight in the ninth."""
    value = 0
    for at in range(start, start + 8):
        byte = page[at]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, at + 1
    return value << 8 | page[start + 8], start + 9

"""Owns which rows of a database may have changed between two looks at it: those on the pages of its
file that are not what they were. Pure, but for the copy.

To have SQLite read all rows takes ten times as long as to copy the file and compare the copies.
What is not a page of rows, or changes which pages have rows, decides nothing: then all is read.

The format is <https://www.sqlite.org/fileformat2.html>; the numbers of sections are its own.
"""

import sqlite3
from typing import Final

MAX_IMAGE: Final = 2**24
"""Bytes of a database that is copied; the interpreter is held for half a millisecond per MiB."""

_CHUNK: Final = 2**18  # bytes that are compared at once: a multiple of each size of a page
_HEADER: Final = 100  # bytes of the first page that are the header of the file (1.3)
_MAX_RANGES: Final = 256  # changed pages, of which each is a range; beyond that all is read

_LEAF_OF_ROWS: Final = 13  # "table b-tree leaf page" (1.6)
_OF_INDEX: Final = (2, 10)  # pages of an index, which has no rows
_ABSENT: Final = -1


def copy_of(connection: sqlite3.Connection) -> bytes:
    """The file as the transaction of this connection sees it. Raises sqlite3.Error."""
    return connection.serialize()


def changed_rowids(before: bytes, after: bytes) -> list[tuple[int, int]] | None:
    """The rowids, in whatever table, of which the rows may differ: ranges, first and last.

    None if it may be any.
    """
    size = _page_size(after)
    if before[16:18] != after[16:18] or before[40:44] != after[40:44]:
        return None  # another size of pages, or another schema (1.3.13)
    if before[_HEADER:size] != after[_HEADER:size]:
        return None  # the schema is on the first page
    ranges: list[tuple[int, int]] = []
    for start in _changed_pages(before, after, size):
        for image in (before, after):
            kind = image[start] if start < len(image) else _ABSENT
            if kind == _LEAF_OF_ROWS:
                found = _rowids(image[start : start + size])
                if found is not None:
                    ranges.append(found)
            elif kind != _ABSENT and kind not in _OF_INDEX:
                # Which pages have rows may have changed; or it is the rest of a long row (1.7).
                return None
        if len(ranges) > _MAX_RANGES:
            return None
    return ranges


def _page_size(image: bytes) -> int:
    found = int.from_bytes(image[16:18], "big")
    return 2**16 if found == 1 else found


def _changed_pages(before: bytes, after: bytes, size: int) -> list[int]:
    """Where those begin that differ or are in one of both only, but for the first."""
    found = []
    for chunk in range(0, max(len(before), len(after)), _CHUNK):
        if before[chunk : chunk + _CHUNK] != after[chunk : chunk + _CHUNK]:
            found += [
                start
                for start in range(chunk, chunk + _CHUNK, size)
                if start and before[start : start + size] != after[start : start + size]
            ]
    return found


def _rowids(page: bytes) -> tuple[int, int] | None:
    """The first and the last on a leaf page of rows, which are in order (1.6)."""
    cells = int.from_bytes(page[3:5], "big")
    if cells == 0:
        return None
    return _rowid(page, 8), _rowid(page, 8 + 2 * (cells - 1))


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

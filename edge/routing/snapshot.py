"""Owns the form in which a route table is kept apart from its database: the pages of the store
behind a header, written to a file descriptor and read from it, whole or not at all.

The header, the index and each page have a checksum: what is not what was written is refused. One
changed page is one checksum of a page and that of the index, whatever the number of routes.
"""

import errno
import os
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final

from edge.errors import FairleadError

ANY_DATABASE: Final = -1
"""In place of a database's id: whichever comes next is taken."""

_MAGIC: Final = b"FLTABLE2"  # the form's name and number
_HEADER: Final = struct.Struct("<8sQqqQQ16s")  # as the fields of `Header`, after the magic
_CHECKSUM: Final = struct.Struct("<I")  # of the header: CRC-32
_PAGE: Final = struct.Struct("<qQ16s")  # its last rowid, its bytes, its checksum
_START: Final = _HEADER.size + _CHECKSUM.size  # where the pages begin
# Buffers written by one call (the kernel takes 1024), so that the interpreter has to be won back
# from a busy event loop a few times and not a thousand.
_BATCH: Final = 512


class DamagedSnapshotError(FairleadError):
    """What is there is not what was written."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a snapshot is of: the id of its database (0: that has none), the store's version.

    `sequence` tells which of several was written last. `pages` are how many, `length` their bytes
    with their index, `digest` is the checksum of the index.
    """

    sequence: int
    database_id: int
    version: int
    pages: int
    length: int
    digest: bytes

    def is_same_table(self, other: "Header | None") -> bool:
        """Whether the other one is of the same routes of the same database."""
        return other is not None and replace(other, sequence=self.sequence) == self


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A table as `RouteReader` has read it: `pages` are by the last rowid that may be on each."""

    header: Header
    pages: Mapping[int, bytes]
    digests: Mapping[int, bytes]

    @classmethod
    def of(
        cls,
        database_id: int,
        version: int,
        pages: Mapping[int, bytes],
        before: "Snapshot | None" = None,
    ) -> "Snapshot":
        """What `before` has as well is not summed up again: for 1,000,000 routes that is 0.1 s."""
        known = before.pages if before is not None else {}
        digests = {
            last_rowid: before.digests[last_rowid]
            if before is not None and known.get(last_rowid) is page
            else _digest(page)
            for last_rowid, page in pages.items()
        }
        index = _index(pages, digests)
        length = len(index) + sum(map(len, pages.values()))
        header = Header(0, database_id, version, len(pages), length, _digest(index))
        return cls(header, pages, digests)

    def of_any_database(self) -> "Snapshot":
        """The same routes, which any other database may replace."""
        return replace(self, header=replace(self.header, database_id=ANY_DATABASE))


def write(descriptor: int, snapshot: Snapshot, sequence: int = 0) -> None:
    """Write it over what is there; as long as that goes on there is no header. Raises OSError."""
    os.ftruncate(descriptor, 0)
    pieces = [_index(snapshot.pages, snapshot.digests), *snapshot.pages.values()]
    offset = _START
    for start in range(0, len(pieces), _BATCH):
        batch = pieces[start : start + _BATCH]
        written = os.pwritev(descriptor, batch, offset)
        if written != sum(map(len, batch)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        offset += written
    header = snapshot.header
    packed = _HEADER.pack(
        *(_MAGIC, sequence, header.database_id, header.version),
        *(header.pages, header.length, header.digest),
    )
    os.pwrite(descriptor, packed + _CHECKSUM.pack(zlib.crc32(packed)), 0)


def read_header(descriptor: int) -> Header | None:
    """None if nothing whole was written there."""
    raw = os.pread(descriptor, _START, 0)
    packed = raw[: _HEADER.size]
    if len(raw) < _START or _CHECKSUM.pack(zlib.crc32(packed)) != raw[_HEADER.size :]:
        return None
    magic, *fields = _HEADER.unpack(packed)
    return Header(*fields) if magic == _MAGIC else None


def read(descriptor: int) -> Snapshot:
    """Raises DamagedSnapshotError, also if it is written over meanwhile."""
    header = read_header(descriptor)
    if header is None:
        raise DamagedSnapshotError("its header is damaged")
    body = os.pread(descriptor, header.length, _START)
    offset = header.pages * _PAGE.size
    index = body[:offset]
    if len(index) != offset or _digest(index) != header.digest:
        raise DamagedSnapshotError("its checksum is wrong")
    pages: dict[int, bytes] = {}
    digests: dict[int, bytes] = {}
    for last_rowid, size, digest in _PAGE.iter_unpack(index):
        page = body[offset : offset + size]
        if _digest(page) != digest:
            raise DamagedSnapshotError("the checksum of a page is wrong")
        pages[last_rowid], digests[last_rowid] = page, digest
        offset += size
    return Snapshot(header, pages, digests)


def _index(pages: Mapping[int, bytes], digests: Mapping[int, bytes]) -> bytes:
    return b"".join(
        _PAGE.pack(last_rowid, len(page), digests[last_rowid]) for last_rowid, page in pages.items()
    )


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()

"""Owns how often each client came: one fixed-size table that all worker processes share. No I/O.

A token bucket is kept as the moment at which it will be full again (the generic cell rate algorithm
of ITU-T I.371), so that a client is two words of 64 bits: that moment, and its name's hash XOR that
moment. There is no lock. If two processes write one entry at once, its words do not fit each other,
and it reads as nobody's (Hyatt's lockless hash table): a count is lost, nothing else.
"""

import os
from hashlib import blake2b
from math import ceil
from mmap import mmap
from secrets import token_bytes
from typing import Final, NamedTuple

SIZE: Final = 4 * 1024 * 1024  # bytes: a quarter of a million clients
SECRET_SIZE: Final = 64  # bytes at the beginning: the key of the hash, the same for all processes
WAYS: Final = 8  # entries that a name may be in
MAX_FILL_TIME: Final = 86_400.0  # seconds for a bucket to fill: a route may not ask for more

_ENTRY: Final = 16  # bytes
_NANOSECONDS: Final = 1_000_000_000
_NEVER: Final = 2**64 - 1
_MAX_FILL_NS: Final = int(MAX_FILL_TIME * 2) * _NANOSECONDS


class Limit(NamedTuple):
    """A rate: nanoseconds from one token to the next, and to fill the bucket."""

    interval: int
    depth: int

    @classmethod
    def of(cls, rate: float, burst: int | None) -> "Limit":
        """`rate` per second; at first `burst` at once, or if not given what a second brings."""
        interval = max(1, int(_NANOSECONDS / rate))
        return cls(interval, interval * (max(1, ceil(rate)) if burst is None else burst))

    @property
    def seconds(self) -> float:
        """How long an empty bucket takes to fill."""
        return self.depth / _NANOSECONDS


def make_buffer(size: int = SIZE) -> mmap:
    """Memory for a table, for this process and those that inherit it."""
    buffer = mmap(-1, size)
    prepare(buffer)
    return buffer


def make_descriptor(size: int = SIZE) -> int:
    """A file descriptor of memory for a table, for processes that begin from anew."""
    descriptor = os.memfd_create("fairlead-rates")
    os.ftruncate(descriptor, size)
    with mmap(descriptor, size) as buffer:
        prepare(buffer)
    return descriptor


def map_descriptor(descriptor: int) -> mmap:
    """The memory of a descriptor that was inherited; the descriptor itself is not needed then."""
    buffer = mmap(descriptor, os.fstat(descriptor).st_size)
    os.close(descriptor)
    return buffer


def prepare(buffer: mmap) -> None:
    """Make zeroed memory a table. Once, before any process uses it."""
    buffer[:SECRET_SIZE] = token_bytes(SECRET_SIZE)


class RateTable:
    """The buckets of all clients, by name. `buffer` is prepared; times are seconds of one clock.

    A name takes a place in its set of `WAYS` entries from the one whose bucket is the fullest.
    """

    __slots__ = ("_mask", "_secret", "_words")

    def __init__(self, buffer: mmap) -> None:
        self._secret = bytes(buffer[:SECRET_SIZE])
        self._words = memoryview(buffer)[SECRET_SIZE:].cast("Q")
        sets = (len(buffer) - SECRET_SIZE) // (WAYS * _ENTRY)
        self._mask = (1 << (sets.bit_length() - 1)) - 1

    def take(self, name: bytes, limit: Limit, now: float) -> float:
        """Take one token: 0.0 if there was one, else the seconds until there will be one."""
        return self._move(name, limit, now, limit.interval)

    def give_back(self, name: bytes, limit: Limit, now: float) -> None:
        """Undo one `take`."""
        self._move(name, limit, now, -limit.interval)

    def _move(self, name: bytes, limit: Limit, now: float, by: int) -> float:
        moment = int(now * _NANOSECONDS)
        key = int.from_bytes(blake2b(name, digest_size=8, key=self._secret).digest(), "little") or 1
        words = self._words
        place = first = (key & self._mask) * WAYS * 2
        full, least = moment, _NEVER
        for each in range(first, first + WAYS * 2, 2):
            found = words[each + 1]
            if words[each] ^ found == key:
                # Never more than an empty bucket: the limit may have been a slower one before.
                place, full = each, min(max(found, moment), moment + limit.depth)
                break
            if found > moment + _MAX_FILL_NS:
                found = 0  # no limit leads there: two writers met, and it must not stay for ever
            if found < least:
                place, least = each, found
        full = max(full + by, 0)
        if full - moment > limit.depth:
            return (full - moment - limit.depth) / _NANOSECONDS
        words[place + 1] = full
        words[place] = key ^ full
        return 0.0

"""Owns the last good table in memory, which all workers share and an upgrade hands on.

There are two places, and a writer takes the one that is not in use: at any moment one of them is
whole, whoever is killed while writing.
"""

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from edge.routing.snapshot import DamagedSnapshotError, Header, Snapshot, read, read_header, write

# Looks at what is written over while it is read.
_ATTEMPTS: Final = 10


def make_descriptors() -> tuple[int, int]:
    """The file descriptors of new memory, for processes that inherit them."""
    return os.memfd_create("fairlead-table-a"), os.memfd_create("fairlead-table-b")


class SnapshotMemory:
    """`descriptors` are two, of `make_descriptors`. Calls come from one thread of each process."""

    def __init__(self, descriptors: Sequence[int]) -> None:
        self._descriptors = tuple(descriptors)

    def header(self) -> Header | None:
        """Of the table that was written last; None if none was."""
        found = self._newest()
        return None if found is None else found[0]

    def load(self) -> Snapshot | None:
        """What was written last. Raises DamagedSnapshotError."""
        failed = 0
        while (found := self._newest()) is not None:
            try:
                return read(found[1])
            except DamagedSnapshotError:
                failed += 1
                if failed == _ATTEMPTS:
                    raise
        return None

    def write(self, snapshot: Snapshot) -> None:
        """Have everybody find this one from now on. Raises OSError; then they find the old one."""
        with self._locked():
            newest = self._newest()
            if newest is None:
                write(self._descriptors[0], snapshot, 1)
                return
            header, used = newest
            (free,) = (each for each in self._descriptors if each != used)
            try:
                write(free, snapshot, header.sequence + 1)
            except OSError:
                os.ftruncate(free, 0)
                raise
            os.ftruncate(used, 0)  # so that it is held once

    def close(self) -> None:
        """Give the descriptors back."""
        for descriptor in self._descriptors:
            os.close(descriptor)

    def _newest(self) -> tuple[Header, int] | None:
        """The header and the descriptor of what was written last."""
        # Between two looks, the table can have moved from the second place to the first.
        for _ in range(_ATTEMPTS):
            found = [
                (header, descriptor)
                for descriptor in self._descriptors
                if (header := read_header(descriptor)) is not None
            ]
            if found:
                return max(found, key=lambda each: each[0].sequence)
        return None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Two write at once only at an upgrade: the old edge's leader and the new one's."""
        fcntl.lockf(self._descriptors[0], fcntl.LOCK_EX)  # of this process, and gone with it
        try:
            yield
        finally:
            fcntl.lockf(self._descriptors[0], fcntl.LOCK_UN)

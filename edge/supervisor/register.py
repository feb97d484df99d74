"""Owns the list of an edge's processes, which the kernel keeps: each holds a record lock on one
file, on the byte that has its process id for an offset.

A lock ends with its process, whatever ended that, so no entry is of a process that is no more. An
edge that starts finds there what a dead one has left behind (fcntl(2), F_GETLK).
"""

import contextlib
import fcntl
import os
import signal
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from edge.errors import ConfigError

_FLOCK: Final = struct.Struct("@hhqqi0q")  # type, whence, start, length, pid


class Register:
    """The list behind `descriptor`, which each process of the edge has inherited.

    A process that closed any descriptor of the file would be taken off the list.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        os.set_inheritable(descriptor, False)

    @classmethod
    def open(cls, path: Path) -> "Register":
        """The one at `path`, with this process on it. Raises `ConfigError`."""
        try:
            register = cls(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
        except OSError as error:
            raise ConfigError(f"cannot open {path}: {error.strerror}") from None
        register.enter()
        return register

    def enter(self) -> None:
        """Put this process on the list, until it ends; an exec changes nothing."""
        fcntl.lockf(self.descriptor, fcntl.LOCK_EX, 1, os.getpid())

    def others(self) -> Iterator[int]:
        """The ids of all other processes on the list."""
        return self._others(0, 0)

    def resume_others(self) -> None:
        """Resume those that are stopped: one without a supervisor then ends in order."""
        for pid in self.others():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGCONT)

    def _others(self, start: int, length: int) -> Iterator[int]:
        """Those in `length` bytes from `start`, 0: in all. The kernel names one at a time."""
        asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, start, length, 0)
        found = fcntl.fcntl(self.descriptor, fcntl.F_GETLK, asked)
        kind, _, offset, _, pid = _FLOCK.unpack(found)
        if kind == fcntl.F_UNLCK:
            return
        if pid > 0:  # 0 is one in another PID namespace
            yield pid
        if offset > start:
            yield from self._others(start, offset - start)
        if length == 0 or offset + 1 < start + length:
            yield from self._others(offset + 1, length and start + length - offset - 1)

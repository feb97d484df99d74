"""Owns a process that begins as a copy of this one, with all that is imported here.

Only as long as nothing runs here yet, neither a loop nor a thread: the copy would have what they
hold, a lock for ever.
"""

import contextlib
import os
import signal
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

_STREAMS: Final = (0, 1, 2)
_OPEN: Final = Path("/proc/self/fd")


class Forked:
    """To whoever waits for it, what `subprocess.Popen` is."""

    stdin: Final = None  # of ours; its own is /dev/null

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    @classmethod
    def start(cls, pass_fds: Iterable[int], begin: Callable[[], None]) -> "Forked | None":
        """The copy; in the copy itself, None. Raises OSError here.

        It has `pass_fds` and the standard streams, and no other file descriptor. No signal reaches
        it before `begin` lets it.
        """
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
        except OSError:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            raise
        if pid:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            return cls(pid)
        try:
            _keep_only({*_STREAMS, *pass_fds})
            begin()
        except BaseException:
            # Whoever called goes on in the original.
            traceback.print_exc()
            os._exit(1)
        return None

    def kill(self) -> None:
        """End it at once."""
        os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> None:
        """Wait for its end, and take note of it in `returncode`."""
        _, status = os.waitpid(self.pid, 0)
        self.returncode = os.waitstatus_to_exitcode(status)


def _keep_only(descriptors: Iterable[int]) -> None:
    # Not by ranges: before Linux 5.9 that is a call for each number up to the last.
    for descriptor in {int(entry.name) for entry in _OPEN.iterdir()}.difference(descriptors):
        # The one that the list was read through is closed by now.
        with contextlib.suppress(OSError):
            os.close(descriptor)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.close(nothing)

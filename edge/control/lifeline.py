"""Owns what the kernel does for a process that can do nothing itself, as it is stopped or hangs: it
is resumed when the process that started it ends, and ended when it shows no life for too long.

Both together are why no process outlives the one that started it, whatever state it is in, and why
none that is well is cut short: who is resumed finds the other side gone, and ends in order.
"""

import ctypes
import signal
from typing import Final

# Seconds without a turn of its loop after which the kernel ends a worker. The supervisor does so
# earlier, and says why; this is for a worker that has none any more.
HANG_LIMIT: Final = 15.0

_PR_SET_PDEATHSIG: Final = 1  # prctl(2), linux/prctl.h
_libc: Final = ctypes.CDLL(None)


def resume_with_parent() -> None:
    """From now on this process gets SIGCONT when the thread that started it ends.

    That resumes a stopped one, and means nothing to any other.
    """
    _libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGCONT))


def limit(seconds: float) -> None:
    """The kernel ends this process (SIGALRM) in `seconds`, unless it calls again; 0: it does not.

    It needs neither a turn of the loop nor the interpreter, and outlasts an exec.
    """
    signal.setitimer(signal.ITIMER_REAL, seconds)

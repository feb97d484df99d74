"""Owns the first moment of the edge's program.

Signals that are commands to an edge would end a process that does not know them yet. Where one is
about to run, they are held back before anything else is imported, until it takes them.
"""

import signal
from collections.abc import Sequence


def hold_commands(arguments: Sequence[str]) -> None:
    """Block SIGHUP, SIGUSR1 and SIGUSR2 if `fairlead` with these arguments runs an edge."""
    if arguments[:1] == ["up"] or (arguments[:1] == ["edge"] and "upgrade" not in arguments):
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2))

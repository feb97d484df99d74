"""Owns how soon a process that has died is replaced: at once, but none may keep the machine busy.

Pure.
"""

from typing import Final

# A process that dies younger than this (seconds) counts as one that keeps dying.
MIN_UPTIME: Final = 10.0
# The first deaths in a row are answered at once; then the delay grows from the first (seconds) to
# the longest: whatever kills each process at its start must not keep the machine busy.
FREE_RESTARTS: Final = 3
INITIAL_DELAY: Final = 0.1
MAX_DELAY: Final = 10.0


class Respawn:
    """Counts the deaths in a row."""

    def __init__(self) -> None:
        self._early_exits = 0

    def delay(self, uptime: float) -> float:
        """Seconds until the next one may start, after one that lived for `uptime` seconds."""
        self._early_exits = self._early_exits + 1 if uptime < MIN_UPTIME else 0
        exponent = self._early_exits - FREE_RESTARTS
        # Beyond some thousand deaths the power itself would overflow.
        return min(INITIAL_DELAY * 2.0 ** min(exponent, 16), MAX_DELAY) if exponent > 0 else 0.0

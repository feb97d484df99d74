"""Owns how soon a process that has died is replaced: at once, but none may keep the machine busy.

Pure.
"""

import math
from typing import Final

# A process that dies younger than this (seconds) counts as one that keeps dying.
MIN_UPTIME: Final = 10.0
# The first deaths in a row are answered at once; then the delay grows from the first (seconds) to
# the longest: whatever kills each process at its start must not keep the machine busy.
FREE_RESTARTS: Final = 3
INITIAL_DELAY: Final = 0.1
MAX_DELAY: Final = 10.0
# As long as one has served lately (seconds), this is the longest: with the start that follows,
# those who connect wait for about a second.
SERVED_LATELY: Final = 60.0
MAX_SERVED_DELAY: Final = 0.5


class Respawn:
    """Counts the deaths in a row."""

    def __init__(self) -> None:
        self._early_exits = 0

    def delay(self, uptime: float, since_served: float = math.inf) -> float:
        """Seconds until the next one may start, after one that lived for `uptime` seconds.

        One of them, this or an earlier one, has served `since_served` seconds ago.
        """
        self._early_exits = self._early_exits + 1 if uptime < MIN_UPTIME else 0
        exponent = self._early_exits - FREE_RESTARTS
        longest = MAX_SERVED_DELAY if since_served < SERVED_LATELY else MAX_DELAY
        # Beyond some thousand deaths the power itself would overflow.
        return min(INITIAL_DELAY * 2.0 ** min(exponent, 16), longest) if exponent > 0 else 0.0

"""Owns how soon a process that has died is replaced: at once, but none may keep the machine busy.

Pure.
"""

from typing import Final

# A process that dies younger than this (seconds) counts as one that keeps dying.
YOUNG: Final = 10.0
# The first deaths in a row are answered at once; then the delay grows from the first (seconds) to
# the longest: whatever kills each process at its start must not keep the machine busy.
FREE_RESTARTS: Final = 3
FIRST_DELAY: Final = 0.1
LONGEST_DELAY: Final = 10.0


class Respawn:
    """Counts the deaths in a row."""

    def __init__(self) -> None:
        self._young_deaths = 0

    def delay(self, age: float) -> float:
        """Seconds until the next one may start, after one that lived for `age` seconds."""
        self._young_deaths = self._young_deaths + 1 if age < YOUNG else 0
        exponent = self._young_deaths - FREE_RESTARTS
        # Beyond some thousand deaths the power itself would overflow.
        return min(FIRST_DELAY * 2.0 ** min(exponent, 16), LONGEST_DELAY) if exponent > 0 else 0.0

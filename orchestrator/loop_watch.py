"""Owns the measure of whether the event loop is free: its longest pause.

Everything that the daemon answers waits while the loop does something else, so a pause is what a
client of the API can notice at worst.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final

# Seconds between two looks. A pause is measured from when one was due: up to this much short.
INTERVAL: Final = 0.05
# Seconds that a pause is remembered: longer than between two scrapes, at least this long.
MEMORY: Final = 60.0


class LoopWatch:
    """The longest pause of the running loop in the last one to two minutes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._began = clock()  # of what `_newer` is of
        self._older = self._newer = 0.0

    def start(self) -> None:
        """Watch the loop that runs, until `stop`."""
        self._due = self._clock() + INTERVAL
        self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._look)

    def stop(self) -> None:
        """Watch it no more."""
        if self._timer is not None:
            self._timer.cancel()

    def longest_pause(self) -> float:
        """Seconds; of a scrape that had to wait itself, its own wait is in it."""
        self._note()
        return max(self._older, self._newer)

    def _look(self) -> None:
        self._note()
        self.start()

    def _note(self) -> None:
        now = self._clock()
        if now - self._began > MEMORY:
            self._older, self._newer, self._began = self._newer, 0.0, now
        self._newer = max(self._newer, now - self._due)

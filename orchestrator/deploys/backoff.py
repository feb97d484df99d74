"""Owns when a container that does not stay up is started again. Pure."""

from typing import Final

# Seconds before the second start in a row; each further pause is twice as long, up to the last.
FIRST_PAUSE: Final = 1.0
LAST_PAUSE: Final = 60.0
# Seconds that a container must have run to count as one that stays up.
STABLE_AFTER: Final = 60.0


class RestartBackoff:
    """The starts of each app. Times are seconds of one clock."""

    def __init__(self) -> None:
        self._starts: dict[str, tuple[int, float]] = {}  # in a row; time of the last one

    def due_at(self, app: str) -> float:
        """When the next start may be; the first one, or after a stable run, at any time."""
        count, last = self._starts.get(app, (0, 0.0))
        return last + min(FIRST_PAUSE * 2 ** (count - 1), LAST_PAUSE) if count else 0.0

    def note_start(self, app: str, now: float) -> None:
        """It is started now."""
        count, last = self._starts.get(app, (0, 0.0))
        stable = now - last > STABLE_AFTER + LAST_PAUSE
        self._starts[app] = (1 if stable else count + 1, now)

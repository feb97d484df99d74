"""Owns how a container that was stopped on purpose is told from one that died. Pure.

The engine tells it nowhere but in its events. `docker stop` is "kill", "die", "stop"; `docker kill`
is "kill", "die"; an end of its own is "die". An engine says "stop" by itself too: of everything
when it shuts down, but takes no more connections by then; and when it comes back after it was
killed, of what it found running and did not start. So a stop counts only of a container that ran
under this very engine, only if the engine is reached after it, and is forgotten where that went
away before.
"""

from enum import Enum
from typing import Final

# Seconds from the end of a container that was sent a signal to the engine's word that it was
# stopped; a quarter of one on an idle machine.
STOP_WORD_TIMEOUT: Final = 5.0


class End(Enum):
    """Why a container does not run."""

    DIED = "died"
    STOPPED = "stopped"  # on purpose
    UNKNOWN = "unknown"  # it will be known soon


class Stops:
    """What was heard of the containers of one instance. Times are seconds of one clock."""

    def __init__(self) -> None:
        self._ran: set[str] = set()  # ids of containers, as in the others
        self._signalled: set[str] = set()
        self._ended: dict[str, float] = {}  # since when
        self._stopped: set[str] = set()

    def hear(self, action: str, container: str, now: float) -> None:
        """An event of the engine's."""
        match action:
            case "kill" if container in self._ran:
                self._signalled.add(container)
            case "die" if container in self._ran:
                self._ended[container] = now
            case "stop" if container in self._ran:
                self._stopped.add(container)
            case "start":
                self._forget(container)
                self._ran.add(container)
            case "destroy":
                self._forget(container)

    def see_running(self, container: str) -> None:
        """The engine says that it runs."""
        self._ran.add(container)

    def lose(self) -> None:
        """The engine went away: what it said last may have been about its own end."""
        self._ran.clear()
        self._signalled.clear()
        self._ended.clear()
        self._stopped.clear()

    def ended(self) -> set[str]:
        """The containers that ran under this engine and do not any more."""
        return set(self._ended)

    def end(self, container: str, now: float) -> End:
        """Why it does not run, asked of one that does not."""
        if container in self._stopped:
            return End.STOPPED
        if container in self._signalled:
            ended = self._ended.setdefault(container, now)
            if now - ended < STOP_WORD_TIMEOUT:
                return End.UNKNOWN
        return End.DIED

    def _forget(self, container: str) -> None:
        self._ran.discard(container)
        self._signalled.discard(container)
        self._ended.pop(container, None)
        self._stopped.discard(container)

"""Owns what a terminal shows of a deploy while it runs, and what its end means for a script."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import orjson
from websockets.exceptions import ConnectionClosed

from edge.cli import output
from edge.cli.exit_code import ExitCode
from orchestrator.cli.client import ApiClient, ApiError
from orchestrator.model import DeployState

# Seconds between two tries to follow a deploy whose orchestrator is being started anew.
RETRY: Final = 1.0
# Seconds for which it may be away.
AWAY: Final = 60.0

EXIT_CODES: Final = {
    DeployState.LIVE: ExitCode.OK,
    DeployState.RETIRED: ExitCode.OK,  # it was live: a newer one has taken its place already
    DeployState.FAILED: ExitCode.FAILED,
    DeployState.SUPERSEDED: ExitCode.CANCELLED,
    DeployState.CANCELLED: ExitCode.CANCELLED,
}


def watch(
    client: ApiClient, deploy: int, seconds: float | None, tell: Callable[[str], None]
) -> dict[str, Any]:
    """The record of the deploy when it has ended, or after `seconds`; `tell` gets its log.

    Raises ApiError.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    shown = _Shown(tell)
    seen = time.monotonic()
    while True:
        try:
            _follow(client, deploy, deadline, shown)
            record: dict[str, Any] = client.ask("GET", f"/api/deploys/{deploy}")
        except ApiError:
            # A deploy outlives the daemon that began it: the next one goes on with it.
            if time.monotonic() - seen > AWAY:
                raise
        else:
            seen = time.monotonic()
            if DeployState(record["state"]).is_final:
                return record
            if deadline is not None and time.monotonic() >= deadline:
                return record
        left = RETRY if deadline is None else max(0.0, deadline - time.monotonic())
        time.sleep(min(RETRY, left))


def exit_code(record: Mapping[str, Any]) -> ExitCode:
    """What a script is told of it."""
    return EXIT_CODES.get(DeployState(record["state"]), ExitCode.TIMEOUT)


class _Shown:
    """The log as far as it was shown: a line that comes again, after a break, is not."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._number = 0
        self._step = ""

    def take(self, message: Mapping[str, Any]) -> None:
        """One message of the log."""
        if "lost" in message:
            self._tell(f"  ({message['lost']} lines omitted)")
            return
        number = int(message.get("number", 0))
        if 0 < number <= self._number:
            return
        self._number = max(number, self._number)
        if message["step"] != self._step:
            self._step = message["step"]
            if self._step:
                self._tell(f"{output.line(self._step)}:")
        # What is said of the deploy as a whole belongs to no step.
        self._tell(f"{'  ' if self._step else ''}{output.line(message['line'])}")


def _follow(client: ApiClient, deploy: int, deadline: float | None, shown: _Shown) -> None:
    """Show the log until it ends, the connection breaks or the time is over."""
    with client.follow_deploy(deploy) as websocket:
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                message = websocket.recv(left)
            except (TimeoutError, ConnectionClosed):
                return
            shown.take(orjson.loads(message))

"""Owns a process beside the workers, such as the orchestrator: started, replaced and stopped.

The edge knows nothing of what it does. It serves no client, so that its death changes nothing of
what the edge serves, or of whether it is ready. Its standard input is a pipe that ends when this
process does: that is how it knows, whatever the end was, and FAIRLEAD_SUPERVISED tells it to look.
"""

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Final

from edge.control.channel import CONFIG_EXIT
from edge.supervisor.child import Child
from edge.supervisor.register import Register
from edge.supervisor.respawn import Respawn
from edge.supervisor.slot import how_it_ended

logger = logging.getLogger(__name__)

# Seconds beyond the drain timeout that it may take to finish what it does when it is told to stop.
STOP_TIMEOUT: Final = 60.0


class Sidecar:
    """`module` is run as `python -m module`, with `variables` in its environment."""

    def __init__(self, name: str, module: str, variables: Mapping[str, str]) -> None:
        self.name = name
        self._module = module
        self._variables = dict(variables)
        self._process: Child | None = None
        self._stop_requested = asyncio.Event()
        self._respawn = Respawn()

    async def run(self, register: Register, *, settings_proven: bool) -> int:
        """Keep it alive until `stop`; CONFIG_EXIT if its settings cannot be used, else 0.

        Each of its processes is on the register.

        With `settings_proven`, by one that ran before, there is no such end: a new version that
        does not like them must not end an edge that serves.
        """
        while not self._stop_requested.is_set():
            started = time.monotonic()
            code = await self._run_process(register)
            if self._stop_requested.is_set():
                break
            if code == CONFIG_EXIT and not settings_proven:
                logger.error("the %s cannot start: its settings are invalid, see above", self.name)
                return code
            settings_proven = True
            delay = self._respawn.delay(time.monotonic() - started)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop_requested.wait(), delay)
        return 0

    def stop(self) -> None:
        """Let it finish what it does and go; none takes its place."""
        self._stop_requested.set()
        if self._process is not None:
            self._process.signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once; none takes its place."""
        self._stop_requested.set()
        if self._process is not None:
            self._process.signal(signal.SIGKILL)

    async def _run_process(self, register: Register) -> int | None:
        """One process from its start to its end; its exit code, None if it could not be started."""
        environ = {**os.environ, **self._variables, "FAIRLEAD_SUPERVISED": "1"}
        # What systemd hears of this service, it hears from the supervisor.
        for name in ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"):
            environ.pop(name, None)
        try:
            self._process = process = Child.start(
                (sys.executable, "-P", "-m", self._module),
                register,
                stdin=subprocess.PIPE,
                environ=environ,
                # What a terminal sends to the whole group is for the supervisor.
                own_group=True,
            )
        except OSError as error:
            # Too many open files or processes, no memory: that can be over soon.
            logger.error("the %s could not be started: %s", self.name, error.strerror)
            return None
        logger.info("the %s is running (pid %d)", self.name, process.pid)
        code = await process.wait()
        self._process = None
        if self._stop_requested.is_set():
            logger.info("the %s (pid %d) has stopped", self.name, process.pid)
        else:
            logger.error("the %s (pid %d) exited: %s", self.name, process.pid, how_it_ended(code))
        return code

"""Owns the handing over to a successor: starting it, waiting for it, giving it up; and the wait for
the end of a predecessor.
"""

import asyncio
import logging
import os
import socket
import subprocess
import sys
import time
from typing import Final

from edge.control.channel import Message
from edge.control.handover import Handover, is_ready
from edge.errors import FairleadError
from edge.net import systemd
from edge.supervisor.fleet import Fleet
from edge.supervisor.sockets import Sockets
from edge.supervisor.succession import Succession

logger = logging.getLogger(__name__)

# Seconds that an upgrade gives the new edge until it serves.
UPGRADE_TIMEOUT: Final = 60.0


class Upgrade:
    """`stop` is set when a successor serves. `counts` are the upgrades so far, by result."""

    def __init__(
        self, fleet: Fleet, sockets: Sockets, succession: Succession, stop: asyncio.Event
    ) -> None:
        self.counts = {"ok": 0, "failed": 0}
        self._fleet = fleet
        self._sockets = sockets
        self._succession = succession
        self._stop = stop
        self._successor_socket: socket.socket | None = None
        self._successor: asyncio.subprocess.Process | None = None

    async def upgrade(self) -> Message:
        """Have the code on disk take over: start it, wait until it serves, and stop.

        Raises FairleadError if it does not come up; then nothing has changed.
        """
        if self._succession.upgrading.locked() or self._fleet.stopping:
            raise FairleadError("the edge is already being upgraded or stopped")
        async with self._succession.upgrading:
            begun = time.monotonic()
            try:
                pid = await self._start_successor()
            except FairleadError:
                self.counts["failed"] += 1
                raise
            self.counts["ok"] += 1
            self._succession.handed_over = True
            systemd.notify(f"MAINPID={pid}")
            seconds = round(time.monotonic() - begun, 3)
            logger.info("upgrade: process %d serves after %g s, this one drains", pid, seconds)
            self._stop.set()
        return {"pid": pid, "seconds": seconds}

    async def _start_successor(self) -> int:
        ours, theirs = socket.socketpair()
        environ = dict(os.environ)
        handover = Handover(
            http=[[sock.fileno() for sock in slot] for slot in self._sockets.distinct_http()],
            admin=[sock.fileno() for sock in self._sockets.admin],
            control=self._sockets.control.fileno(),
            ready=theirs.fileno(),
            rates=self._sockets.rates,
            drained=self._fleet.drained_targets(),
            upgrades=self.counts | {"ok": self.counts["ok"] + 1},
        )
        handover.export(environ)
        environ.pop("WATCHDOG_PID", None)  # systemd's name for this process
        with theirs:
            try:
                self._successor = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *sys.orig_argv[1:],
                    stdin=subprocess.DEVNULL,
                    env=environ,
                    pass_fds=handover.descriptors,
                )
            except OSError:
                ours.close()
                raise
        if self._fleet.stopping:
            # Told to stop while it was being started: nobody else would end it.
            self._successor.kill()
        if is_ready(await _await_ready(ours)):
            # Open while anything is in flight here: that is how the successor knows.
            self._successor_socket = ours
        else:
            ours.close()
            if self._successor.returncode is None:
                self._successor.kill()
            code = await self._successor.wait()
            self._successor = None
            raise FairleadError(
                f"the upgrade failed, the old edge goes on: the new one exited with code {code},"
                " see its log"
            )
        return self._successor.pid

    def give_up(self) -> None:
        """End a successor that does not serve yet."""
        if self._successor is not None:
            self._successor.kill()

    def release_successor(self) -> None:
        """Tell it that nothing is in flight here any more."""
        if self._successor_socket is not None:
            self._successor_socket.close()

    def watch_predecessor(self, sock: socket.socket) -> None:
        """Note when the edge that this one took over from has ended."""
        loop = asyncio.get_running_loop()

        def ended() -> None:
            loop.remove_reader(sock)
            sock.close()
            self._succession.predecessor_exited.set()

        self._succession.predecessor_exited.clear()
        loop.add_reader(sock, ended)


async def _await_ready(sock: socket.socket) -> bytes:
    """What the successor says, or b"" when it ends or takes too long."""
    sock.setblocking(False)
    try:
        async with asyncio.timeout(UPGRADE_TIMEOUT):
            return await asyncio.get_running_loop().sock_recv(sock, 64)
    except (TimeoutError, OSError):
        return b""

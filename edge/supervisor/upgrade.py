"""Owns the handing over to a successor: starting it, waiting for it, giving it up; and the wait for
the end of a predecessor.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from typing import Final

from edge.control.channel import Message
from edge.control.handover import MAX_SAID, UPGRADE_TIMEOUT, Handover, is_ready
from edge.errors import FairleadError
from edge.net import systemd
from edge.supervisor.child import Child
from edge.supervisor.fleet import Fleet
from edge.supervisor.slot import how_it_ended
from edge.supervisor.sockets import Sockets
from edge.supervisor.succession import Succession

logger = logging.getLogger(__name__)

# Seconds beyond an upgrade's time after which the kernel ends a new edge that does not serve, for
# want of an old one that does.
LIMIT_MARGIN: Final = 5.0
# No module of the folder where it runs, nor of where the program is; unless that holds already.
_SAFE_PATH: Final = () if sys.flags.safe_path else ("-P",)


class Upgrade:
    """`stop` is set when a successor serves. `counts` are the upgrades so far, by result.

    One that is given up has `end_timeout` seconds to end in order.
    """

    def __init__(
        self,
        fleet: Fleet,
        sockets: Sockets,
        succession: Succession,
        stop: asyncio.Event,
        end_timeout: float,
    ) -> None:
        self.counts = {"ok": 0, "failed": 0}
        self._fleet = fleet
        self._sockets = sockets
        self._succession = succession
        self._stop = stop
        self._successor_socket: socket.socket | None = None
        self._successor: Child | None = None  # started, and does not serve yet
        self._end_timeout = end_timeout
        self._ending: dict[Child, asyncio.Task[int]] = {}  # given up
        self._serving: asyncio.Task[int] | None = None  # until the one that took over ends

    async def upgrade(self, timeout: float = UPGRADE_TIMEOUT) -> Message:  # noqa: ASYNC109
        """Have the code on disk take over: start it, wait until it serves, and stop.

        Raises FairleadError if it does not come up in `timeout` seconds; then nothing has changed.
        """
        if not self._fleet.started:
            raise FairleadError("the edge is still starting: upgrade it when it serves")
        if self._succession.upgrading.locked() or self._fleet.stopping:
            raise FairleadError("the edge is already being upgraded or stopped")
        async with self._succession.upgrading:
            begun = time.monotonic()
            try:
                pid = await self._start_successor(timeout)
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

    async def _start_successor(self, timeout: float) -> int:  # noqa: ASYNC109
        ours, theirs = socket.socketpair()
        environ = dict(os.environ)
        handover = Handover(
            http=[[sock.fileno() for sock in slot] for slot in self._sockets.distinct_http()],
            admin=[sock.fileno() for sock in self._sockets.admin],
            control=self._sockets.control.fileno(),
            ready=theirs.fileno(),
            rates=self._sockets.rates,
            register=self._sockets.register.descriptor,
            tables=self._sockets.tables,
            names=self._sockets.names,
            version=self._fleet.served_version(),
            drained=self._fleet.drained_targets(),
            upgrades=self.counts | {"ok": self.counts["ok"] + 1},
        )
        self._fleet.names.save(self._sockets.names)
        handover.export(environ)
        environ.pop("WATCHDOG_PID", None)  # systemd's name for this process
        with theirs:
            try:
                successor = Child.start(
                    (sys.executable, *_SAFE_PATH, *sys.orig_argv[1:]),
                    self._sockets.register,
                    pass_fds=handover.descriptors,
                    environ=environ,
                    # What it has started ends with it, should it hang.
                    own_group=True,
                    limit=timeout + LIMIT_MARGIN,
                )
            except OSError as error:
                ours.close()
                raise FairleadError(
                    f"the upgrade failed, the old edge goes on: {error.strerror}"
                ) from None
        self._successor = successor
        said = await _hear(ours, timeout)
        self._successor = None
        if is_ready(said) and not self._fleet.stopping:
            # Open while anything is in flight here: that is how the successor knows.
            self._successor_socket = ours
            self._serving = asyncio.create_task(successor.wait())
            return successor.pid
        ours.close()
        ending = self._end(successor)
        if self._fleet.stopping:
            raise FairleadError("the upgrade was given up: the edge was told to stop")
        if said is None:
            cause = f"did not serve within {timeout:g} s, and is ended"
        else:
            cause = f"ended ({how_it_ended(await asyncio.shield(ending))})"
        why = said.decode(errors="replace") if said else f"the new one {cause}, see its log"
        raise FairleadError(f"the upgrade failed, the old edge goes on: {why}")

    def give_up(self) -> None:
        """End a successor that does not serve yet; `finish` waits for that."""
        if self._successor is not None:
            self._end(self._successor)

    async def finish(self) -> None:
        """Returns when no successor is left that was given up."""
        await asyncio.gather(*self._ending.values())

    def kill(self) -> None:
        """End successors that were given up at once, with all that they have started."""
        for successor in self._ending:
            successor.kill_group()

    def _end(self, successor: Child) -> "asyncio.Task[int]":
        """End it in order: some of its workers may serve already."""
        if successor not in self._ending:
            self._ending[successor] = task = asyncio.create_task(self._see_to_end(successor))
            task.add_done_callback(lambda _: self._ending.pop(successor))
        return self._ending[successor]

    async def _see_to_end(self, successor: Child) -> int:
        successor.signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(successor.wait(), self._end_timeout)
        logger.error("upgrade: the new edge (pid %d) does not end: killing it", successor.pid)
        successor.kill_group()
        return await successor.wait()

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


async def _hear(sock: socket.socket, timeout: float) -> bytes | None:  # noqa: ASYNC109
    """What the successor says, b"" when it has ended, and None when it takes too long."""
    sock.setblocking(False)
    try:
        async with asyncio.timeout(timeout):
            return await asyncio.get_running_loop().sock_recv(sock, MAX_SAID)
    except TimeoutError:
        return None
    except OSError:
        return b""

"""Owns one worker slot of the supervisor: its sockets, and the process that serves them.

A process that dies, or shows no sign of life, is replaced; its sockets stay open here, so that
connections in their accept queue are served by the next one.
"""

import asyncio
import contextlib
import logging
import math
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from enum import Enum
from typing import Final

from edge.control.channel import (
    CONFIG_EXIT,
    MAX_MESSAGE,
    Channel,
    ChannelError,
    ChannelGoneError,
    Message,
)
from edge.supervisor.child import Child, Tie
from edge.supervisor.forked import Forked
from edge.supervisor.register import Register
from edge.supervisor.respawn import Respawn
from edge.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

# Seconds without a heartbeat after which a worker is taken for hung. It beats once a second.
HEARTBEAT_TIMEOUT: Final = 10.0
# Seconds that a worker may take to load its table and serve. Reading 1,000,000 rows takes 10.
START_TIMEOUT: Final = 60.0
# Seconds beyond that after which the kernel ends it, for want of a supervisor that does.
START_LIMIT: Final = START_TIMEOUT + 5.0
# Seconds that a worker may take for an answer that it has at hand.
PROMPT_TIMEOUT: Final = 2.0
# Bytes that may wait here for a worker to read them.
MAX_UNSENT: Final = MAX_MESSAGE
# What a terminal sends to the whole group is for the supervisor.
_IGNORES: Final = (signal.SIGINT,)


class State(Enum):
    """What a slot is doing."""

    STARTING = "starting"
    SERVING = "serving"
    BACKOFF = "backoff"  # the last one died too often
    DRAINING = "draining"
    STOPPED = "stopped"


class Slot:
    """`listeners` are the sockets of worker `number`; `hello` gives what each new process is told.

    `inherited` are further file descriptors, which the hello names. `on_notify` takes the worker's
    notifications; `on_exit` is called when one has ended, while its last counters are still there.
    """

    def __init__(
        self,
        number: int,
        listeners: list[socket.socket],
        hello: Callable[["Slot"], Awaitable[Message]],
        on_notify: Callable[["Slot", Message], None],
        on_exit: Callable[["Slot"], None],
        register: Register,
        inherited: Sequence[int] = (),
    ) -> None:
        self.number = number
        self.listeners = listeners
        self.state = State.STARTING
        self.pid = 0
        self.restarts = 0
        self.version = 0  # of the table that the worker serves
        self.codec: str | None = None  # the head codec of the worker, or of the last one
        self.conversation: str | None = None  # as `codec`: whether what is around it is compiled
        self.why_pure: str | None = None  # why one of them is not
        self.why_not_ready: str | None = "the worker is starting"
        self.problem: str | None = None  # with the table that it serves
        self.drained: list[str] = []  # targets that the worker sends nothing new to
        self.metrics = Metrics()
        self.serving = asyncio.Event()
        self._hello = hello
        self._on_notify = on_notify
        self._on_exit = on_exit
        self.register = register
        self.inherited = tuple(inherited)
        self._channel: Channel | None = None
        self._process: Child | None = None
        self._forked: tuple[Forked, socket.socket] | None = None  # and our end of its channel
        self._stop_requested = asyncio.Event()  # no further worker is wanted
        self._last_heartbeat = 0.0
        self._last_served = -math.inf
        self._respawn = Respawn()

    def __repr__(self) -> str:
        return f"<Slot {self.number} {self.state.value} pid={self.pid}>"

    def fork(self) -> int | None:
        """Have the first worker begin, before anything runs here: it need not import what is here.

        In the worker itself, the descriptor of its channel; None here. Where that fails, `run`
        starts one as it starts all others.
        """
        ours, theirs = socket.socketpair()
        pass_fds = (theirs.fileno(), *self._descriptors(), self.register.descriptor)
        try:
            forked = Forked.start(pass_fds, Tie(self.register, _IGNORES, START_LIMIT))
        except OSError as error:
            logger.warning("worker %d could not be forked: %s", self.number, error.strerror)
            ours.close()
            theirs.close()
            return None
        if forked is None:
            return theirs.detach()
        theirs.close()
        self._forked = (forked, ours)
        return None

    async def run(self) -> int:
        """Keep a worker alive until `drain` or `kill`; the exit code of one that cannot start."""
        while True:
            started = time.monotonic()
            code = await self._run_process()
            if self.state is State.DRAINING:
                break
            self.restarts += 1
            if code == CONFIG_EXIT:
                self.state = State.STOPPED
                return code
            if code is not None:
                logger.error(
                    "worker %d (pid %d) exited: %s; restarting it",
                    self.number,
                    self.pid,
                    how_it_ended(code),
                )
            if not await self._wait_to_restart(time.monotonic() - started):
                break
        self.state = State.STOPPED
        return 0

    async def request(self, kind: str, fields: Mapping[str, object]) -> Message:
        """Have the worker do something. Raises ChannelError if there is none or it fails."""
        if self._channel is None or self.state is not State.SERVING:
            raise ChannelGoneError(f"worker {self.number} is {self.state.value}")
        return await self._channel.request(kind, fields)

    async def request_promptly(self, kind: str, fields: Mapping[str, object]) -> Message:
        """`request` for what a worker has at hand: one that hangs holds up nobody."""
        try:
            async with asyncio.timeout(PROMPT_TIMEOUT):
                return await self.request(kind, fields)
        except TimeoutError:
            raise ChannelError(f"worker {self.number} does not respond") from None

    def notify(self, kind: str, fields: Mapping[str, object]) -> None:
        """Tell the worker, if it serves."""
        if self._channel is not None and self.state is State.SERVING:
            self._channel.notify(kind, fields)

    def drain(self) -> None:
        """Let the worker finish and go; none takes its place."""
        # A worker that still starts drains as soon as it can listen to us.
        waiting = self.state is State.BACKOFF
        self.state = State.STOPPED if waiting else State.DRAINING
        self.serving.clear()
        self._stop_requested.set()
        if self._channel is not None:
            self._channel.notify("drain", {})

    def kill(self) -> None:
        """End the worker at once; none takes its place."""
        self.state = State.DRAINING
        self._stop_requested.set()
        self._kill_process()

    def _kill_process(self) -> None:
        if self._process is not None:
            self._process.signal(signal.SIGKILL)

    def check(self, now: float) -> None:
        """Kill a worker that hangs."""
        if self._channel is None:
            return
        limit = START_TIMEOUT if self.state is State.STARTING else HEARTBEAT_TIMEOUT
        silent = now - self._last_heartbeat > limit
        if silent or self._channel.unsent > MAX_UNSENT:
            self._last_heartbeat = now
            self._kill_process()
            symptom = "sends no heartbeat" if silent else "does not read what it is sent"
            logger.error("worker %d (pid %d) %s: killing it", self.number, self.pid, symptom)

    async def _run_process(self) -> int | None:
        """One process from its start to its end; its exit code, None if it could not be started."""
        try:
            process, ours = self._spawn()
        except OSError as error:
            # Too many open files or processes, no memory: that can be over soon.
            logger.error("worker %d could not be started: %s", self.number, error.strerror)
            self._on_exit(self)
            return None
        self.pid = process.pid
        self._process = process
        self._last_heartbeat = time.monotonic()
        channel = Channel(self._take)
        await channel.open(ours)
        self._channel = channel
        listeners = [sock.fileno() for sock in self.listeners]
        channel.notify("hello", {**await self._hello(self), "listeners": listeners})
        if self.state is State.DRAINING:
            channel.notify("drain", {})
        try:
            await channel.listen()
        except Exception:
            # It may be of another version than this process: what it serves nobody could control.
            logger.exception(
                "internal error: worker %d sent an unknown message: killing it", self.number
            )
            self._kill_process()
        # Its end of the channel closes with the process, or just before it ends by itself.
        code = await process.wait()
        if self.serving.is_set():
            self._last_served = time.monotonic()
        self.serving.clear()
        self._process = None
        self._channel = None
        channel.close()
        self._on_exit(self)
        self.metrics = Metrics()
        return code

    def _descriptors(self) -> Iterator[int]:
        """What a worker inherits, but for its channel."""
        yield from (sock.fileno() for sock in self.listeners)
        yield from self.inherited

    def _spawn(self) -> tuple[Child, socket.socket]:
        """A new process, and our end of the channel to it. Raises OSError."""
        if self._forked is not None:
            forked, ours = self._forked
            self._forked = None
            try:
                return Child(forked), ours
            except OSError:
                ours.close()
                raise
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                process = Child.start(
                    (sys.executable, "-P", "-m", "edge.worker", str(theirs.fileno())),
                    self.register,
                    pass_fds=(theirs.fileno(), *self._descriptors()),
                    ignores=_IGNORES,
                    limit=START_LIMIT,
                )
            except OSError:
                ours.close()
                raise
        return process, ours

    def _take(self, message: Message) -> None:
        self._last_heartbeat = time.monotonic()
        kind = message["kind"]
        if kind in ("ready", "heartbeat"):
            self.version = message["version"]
            self.why_not_ready = message["why_not_ready"]
            self.problem = message["problem"]
            self.drained = message["drained"]
            self.metrics.apply(message["counts"])
        if kind == "ready":
            self.codec = message["codec"]
            self.conversation = message["conversation"]
            self.why_pure = message["why_pure"] or None
            if self.state is State.STARTING:
                self.state = State.SERVING
                self.serving.set()
        self._on_notify(self, message)

    async def _wait_to_restart(self, uptime: float) -> bool:
        """Wait until the next one may start; whether it still shall."""
        delay = self._respawn.delay(uptime, time.monotonic() - self._last_served)
        if delay > 0:
            self.state = State.BACKOFF
            self.why_not_ready = "the worker keeps exiting, it is restarted with a delay"
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop_requested.wait(), delay)
        if self._stop_requested.is_set():
            return False
        self.state = State.STARTING
        self.why_not_ready = "the worker is starting"
        return True


def how_it_ended(code: int) -> str:
    """What the exit code of a process says, as the end of a sentence."""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}"

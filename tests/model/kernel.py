"""Owns the simulated kernel: processes, signals, sockets, the boot.

Its processes run the real programs. A process can be killed or stopped between any two turns of its
loop; its sockets are closed with it. What it starts inherits what it is given, and nothing else.
"""

import asyncio
import contextvars
import itertools
import random
import signal
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, Final

from tests.model.loop import OWNER, Loop, Owner

# Seconds that work which was cancelled may take to end.
SETTLE: Final = 0.01
# Bytes that the kernel holds of what was sent and not read.
SOCKET_BUFFER: Final = 212_992
# Seconds from the start of a process to the first line of its program.
START: Final = (0.05, 0.3)

Program = Callable[[], Coroutine[Any, Any, int]]


class Process:
    """`program` is its name: "edge", "worker", "orchestrator" or "command"."""

    def __init__(self, kernel: "Kernel", program: str, parent: "Process | None") -> None:
        self.pid = next(kernel.pids)
        self.program = program
        self.parent = parent
        self.children: list[Process] = []
        self.environ: dict[str, str] = {}
        self.is_running = True
        self.is_dead = False
        self.hangs = False  # it runs, but makes no turn of its loop
        self.is_stopped = False
        self.exit_code: int | None = None
        self.held: deque[tuple[asyncio.Handle, Owner | None]] = deque()
        self.tasks: set[asyncio.Task[Any]] = set()
        self.handlers: dict[int, Callable[[], object]] = {}
        self.pending: list[int] = []  # signals
        self.signal_with_parent = 0  # prctl(2), PR_SET_PDEATHSIG
        self.group = self.pid
        self.ended = asyncio.Event()
        self.at_end: list[Callable[[], object]] = []
        self.alarm: asyncio.TimerHandle | None = None
        self.serves: object = None  # the worker that runs in it
        self._kernel = kernel
        self.context = contextvars.Context()
        self.context.run(OWNER.set, self)
        if parent is not None:
            parent.children.append(self)

    def __repr__(self) -> str:
        state = "dead" if self.is_dead else "stopped" if self.is_stopped else "running"
        return f"<{self.program} {self.pid} {state}{' hangs' if self.hangs else ''}>"

    def begin(self, program: Program) -> None:
        """Run it."""
        kernel = self._kernel

        def begin() -> None:
            task = kernel.loop.create_task(program(), context=self.context)
            task.add_done_callback(self._on_end, context=self.context)

        kernel.loop.call_later(kernel.chance.uniform(*START), begin, context=self.context)

    def _on_end(self, task: "asyncio.Task[int]") -> None:
        if task.cancelled():
            self.end(1)
        elif error := task.exception():
            if not self._kernel.loop.is_over:
                self._kernel.faults.append(f"{self} ended by {error!r}")
            self.end(1)
        else:
            self.end(task.result())

    def end(self, code: int) -> None:
        """It is no more."""
        if self.is_dead:
            return
        self.is_running, self.is_dead, self.exit_code = self._kernel.loop.is_over, True, code
        if self.alarm is not None:
            self.alarm.cancel()
        for close in self.at_end:
            close()
        self.at_end.clear()
        for end in list(self._kernel.ends):
            end.release(self)
        for child in self.children:
            child.parent = None
            if not child.is_dead and child.signal_with_parent:
                child.signal(child.signal_with_parent)
        self.ended.set()
        self._kernel.changed = True

    def signal(self, number: int) -> None:
        """What the kernel does with a signal to it."""
        if self.is_dead:
            return
        match number:
            case signal.SIGKILL:
                self.end(-number)
            case signal.SIGSTOP:
                self.is_stopped, self.is_running = True, False
            case signal.SIGCONT:
                if not self.is_stopped:
                    return
                self.is_stopped = False
                pending, self.pending = self.pending, []
                for each in pending:
                    self.signal(each)
                if not self.is_dead and not self.hangs:
                    self.is_running = True
                    self._kernel.loop.resume(self)
                    self._kernel.wake(self)
            case _ if self.is_stopped:
                self.pending.append(number)
            case _ if number in self.handlers:
                if not self.hangs:
                    self._kernel.loop.call_soon(self.handlers[number], context=self.context)
            case _:
                self.end(-number)
        self._kernel.changed = True

    def set_alarm(self, seconds: float) -> None:
        """SIGALRM in so many seconds; 0: never."""
        if self.alarm is not None:
            self.alarm.cancel()
            self.alarm = None
        if seconds:
            # The kernel's own: it comes whatever the process does.
            self.alarm = self._kernel.loop.call_later(
                seconds, self.signal, signal.SIGALRM, context=contextvars.Context()
            )

    def hang(self) -> None:
        """Make no turn of the loop any more."""
        self.hangs, self.is_running = True, self._kernel.loop.is_over


class End:
    """A socket, or one end of a pair: open as long as a process holds it."""

    def __init__(self, kernel: "Kernel") -> None:
        self.number = next(kernel.numbers)
        self.holders: set[Process | None] = {current()}
        self._kernel = kernel
        kernel.ends[self] = None
        kernel.by_number[self.number] = self

    def release(self, process: Process | None) -> None:
        """This process has it no more."""
        if process in self.holders:
            self.holders.discard(process)
            if not self.holders:
                del self._kernel.ends[self]
                del self._kernel.by_number[self.number]
                self.closed()

    def closed(self) -> None:
        """Nobody has it any more."""

    # What a `socket.socket` is asked, by the process that runs

    def fileno(self) -> int:
        return self.number

    def setblocking(self, _flag: bool) -> None:
        pass

    def close(self) -> None:
        self.release(current())

    def __enter__(self) -> "End":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class PairEnd(End):
    """One end of a socketpair. What is sent arrives in order, `delay` seconds later at least."""

    peer: "PairEnd"

    def __init__(self, kernel: "Kernel") -> None:
        super().__init__(kernel)
        self.delay = 0.0
        self.is_ended = False  # nothing comes any more
        self.received = bytearray()
        self.reader: asyncio.StreamReader | None = None
        self.waiting: asyncio.Future[None] | None = None
        self.watcher: tuple[Callable[[], object], contextvars.Context] | None = None
        self._arrives_at = 0.0

    def send(self, data: bytes) -> int:
        if self.peer.is_closed:
            raise BrokenPipeError
        self._arrive(self.peer.take, bytes(data))
        return len(data)

    @property
    def is_closed(self) -> bool:
        return not self.holders

    def closed(self) -> None:
        self._arrive(self.peer.take_end)

    def _arrive(self, function: Callable[..., None], *args: object) -> None:
        loop = self._kernel.loop
        self._arrives_at = max(self._arrives_at, loop.time() + self.delay + loop.pause() / 10)
        loop.call_at(self._arrives_at, function, *args, context=contextvars.Context())

    def take(self, data: bytes) -> None:
        """It comes in."""
        self.received += data
        self.wake()

    def take_end(self) -> None:
        """The other end is closed."""
        self.is_ended = True
        self.wake()

    def wake(self) -> None:
        """Who reads it takes what has come."""
        if self.reader is not None and any(each.is_running for each in self.holders if each):
            self._feed(self.reader)
        if self.waiting is not None and not self.waiting.done():
            self.waiting.set_result(None)
        if self.watcher is not None:
            callback, context = self.watcher
            self._kernel.loop.call_soon(callback, context=context)

    def _feed(self, reader: asyncio.StreamReader) -> None:
        if self.received:
            data = bytes(self.received)
            self.received.clear()
            reader.feed_data(data)
        if self.is_ended and not reader.at_eof():
            reader.feed_eof()

    def stream(self, reader: asyncio.StreamReader) -> None:
        """What comes goes to `reader`."""
        self.reader = reader
        self._feed(reader)

    async def receive(self, limit: int) -> bytes:
        """What `loop.sock_recv` gives."""
        while not self.received and not self.is_ended:
            self.waiting = self._kernel.loop.create_future()
            await self.waiting
        data = bytes(self.received[:limit])
        del self.received[:limit]
        return data


class Writer:
    """The part of an `asyncio.StreamWriter` that a channel uses, and its own transport."""

    def __init__(self, end: PairEnd) -> None:
        self.transport = self
        self._end = end
        self._closing = False

    def get_write_buffer_size(self) -> int:
        """Bytes that wait here because the other side does not read."""
        return max(0, len(self._end.peer.received) - SOCKET_BUFFER)

    def is_closing(self) -> bool:
        return self._closing

    def write(self, data: bytes) -> None:
        if not self._end.peer.is_closed:
            self._end.send(data)

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._end.close()

    async def wait_closed(self) -> None:
        await asyncio.sleep(0)


Accept = Callable[[bytes], Awaitable[bytes]]


class Listener(End):
    """A listening socket; `acceptors` are those that accept from it now."""

    def __init__(self, kernel: "Kernel", name: str) -> None:
        super().__init__(kernel)
        self.name = name
        self.acceptors: dict[Process, Accept | None] = {}
        self.queue: list[Callable[[], None]] = []  # connections that nobody has accepted

    def getsockname(self) -> tuple[str, int]:
        return self.name, 80

    def release(self, process: Process | None) -> None:
        if process is not None:
            self.acceptors.pop(process, None)
        super().release(process)

    def closed(self) -> None:
        self._kernel.listeners[self.name].remove(self)
        self.wake()

    def accept(self, accept: Accept | None) -> None:
        """The process that runs accepts from now on."""
        process = current()
        assert process is not None
        self.acceptors[process] = accept
        self.wake()

    def refuse(self) -> None:
        """The process that runs accepts no more."""
        process = current()
        assert process is not None
        self.acceptors.pop(process, None)

    def wake(self) -> None:
        waiting, self.queue = self.queue, []
        for again in waiting:
            again()


class Kernel:
    """One machine. `faults` are what no program may do, such as to end by an exception."""

    def __init__(self, chance: random.Random, observe: Callable[[], None]) -> None:
        self.chance = chance
        self.pids = itertools.count(100)
        self.numbers = itertools.count(1_000_000)
        self.processes: list[Process] = []
        self.ends: dict[End, None] = {}
        self.by_number: dict[int, End] = {}
        self.listeners: dict[str, list[Listener]] = {}
        self.locks: list[Process] = []  # who is on the register
        self.boot = 1
        self.faults: list[str] = []
        self.changed = False
        self._observe = observe
        self.loop = Loop(chance, self._step)
        self.loop.set_task_factory(self._make_task)  # type: ignore[arg-type]
        self.loop.set_exception_handler(self._on_fault)

    def _step(self) -> None:
        if self.changed:
            self.changed = False
            self._observe()

    def _make_task(
        self, loop: Loop, coroutine: Coroutine[Any, Any, Any], **options: Any
    ) -> "asyncio.Task[Any]":
        task = asyncio.Task(coroutine, loop=loop, **options)
        context = options.get("context")
        owner = context.get(OWNER) if context is not None else OWNER.get()
        if isinstance(owner, Process):
            # What a killed process had begun must never go on, also not when it is collected.
            owner.tasks.add(task)
            task.add_done_callback(owner.tasks.discard)
        return task

    def _on_fault(self, _loop: object, context: dict[str, Any]) -> None:
        if not self.loop.is_over:
            self.faults.append(f"{context.get('message')}: {context.get('exception')!r}")

    # Processes

    def spawn(
        self, program: str, parent: Process | None = None, inherits: Iterable[int] = ()
    ) -> Process:
        """A new process, which has nothing to do yet."""
        process = Process(self, program, parent)
        self.processes.append(process)
        for number in inherits:
            end = self.by_number.get(number)
            if end is not None:
                end.holders.add(process)
        return process

    def living(self, program: str = "") -> list[Process]:
        """The processes that have not ended."""
        return [
            each
            for each in self.processes
            if not each.is_dead and (not program or each.program == program)
        ]

    def power_off(self) -> None:
        """Nothing runs any more."""
        for process in self.living():
            process.end(-signal.SIGKILL)

    def take_apart(self) -> None:
        """End all that was ever begun, without any effect."""
        self.loop.is_over = True
        try:
            self.power_off()
            for process in self.processes:
                process.is_running = True
                self.loop.resume(process)
            for _ in range(1000):
                tasks = [task for process in self.processes for task in process.tasks]
                if not tasks:
                    break
                for task in tasks:
                    task.cancel()
                self.loop.run_for(SETTLE)
            assert not tasks, tasks
        finally:
            self.loop.close()

    # Sockets

    def wake(self, process: Process) -> None:
        """It reads what has come while it was stopped."""
        for end in list(self.ends):
            if isinstance(end, PairEnd) and process in end.holders:
                end.wake()

    def pair(self) -> tuple[PairEnd, PairEnd]:
        one, other = PairEnd(self), PairEnd(self)
        one.peer, other.peer = other, one
        return one, other

    def listen(self, name: str) -> Listener:
        listener = Listener(self, name)
        self.listeners.setdefault(name, []).append(listener)
        return listener

    def adopt(self, number: int) -> End:
        """The socket with this number, which the process that runs has inherited."""
        end = self.by_number[number]
        assert current() in end.holders
        return end

    async def call(self, name: str, data: bytes) -> bytes:
        """What who accepts at `name` answers. Raises ConnectionError."""
        if not self.listeners.get(name):
            raise ConnectionRefusedError
        listener = self.listeners[name][-1]
        answer: asyncio.Future[bytes] = self.loop.create_future()

        def reset() -> None:
            if not answer.done():
                answer.set_exception(ConnectionResetError())

        def connect() -> None:
            if answer.done():
                return
            if not listener.holders:
                reset()
                return
            able = [process for process in listener.acceptors if process.is_running]
            if not able:
                if listener.acceptors:  # who is stopped may be resumed, or die
                    self.loop.call_later(0.1, connect, context=contextvars.Context())
                else:
                    listener.queue.append(connect)
                return
            process = able[0]
            accept = listener.acceptors[process]
            assert accept is not None

            async def serve() -> None:
                try:
                    said = await accept(data)
                except (asyncio.CancelledError, ConnectionError):
                    reset()
                    raise
                if not answer.done():
                    answer.set_result(said)

            process.at_end.append(reset)
            task = self.loop.create_task(serve(), context=process.context)
            task.add_done_callback(_ignore)

        connect()
        return await answer


def current() -> Process | None:
    """The process whose code runs."""
    owner = OWNER.get()
    assert owner is None or isinstance(owner, Process)
    return owner


def _ignore(task: "asyncio.Task[None]") -> None:
    if not task.cancelled():
        task.exception()

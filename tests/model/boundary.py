"""Owns where the real programs meet the simulated kernel: what they ask of an operating system is
asked of that. Nothing that decides anything is replaced.
"""

import asyncio
import os
import secrets
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

import pytest

import edge.boot
import edge.control.channel
import edge.control.handover
import edge.control.lifeline
import edge.net.listener
import edge.proxy.state
import edge.routing.store
import edge.supervisor.admin
import edge.supervisor.child
import edge.supervisor.register
import edge.supervisor.slot
import edge.supervisor.sockets
import edge.supervisor.succession
import edge.supervisor.supervisor
import edge.supervisor.upgrade
import edge.worker.process
import edge.worker.worker
import orchestrator.edge_client
import orchestrator.store.database
from edge.api.access import PEER
from edge.control.channel import MAX_MESSAGE, Channel
from edge.errors import AddressInUseError, ConfigError
from edge.peer import Peer
from edge.proxy.state import ServingState
from edge.routing.snapshot_memory import SnapshotMemory, make_descriptors
from edge.rules.rate_limit import make_descriptor, map_descriptor
from edge.supervisor.child import Child, Tie
from edge.supervisor.register import Register
from edge.upstream import known_names
from edge.worker.worker import Worker
from orchestrator.edge_client import EdgeClient
from tests.model.kernel import Listener, PairEnd, Process, Writer, current
from tests.model.loop import Loop

if TYPE_CHECKING:
    from tests.model.world import World

EPOCH: Final = 1_800_000_000.0
"""Unix seconds at which simulated time is 0."""

HTTP: Final = "http"
"""The name of the address that clients connect to."""

_worlds: "list[World]" = []
_real_swap = ServingState.swap
_real_boot_id = edge.boot.boot_id


def enter(world: "World") -> None:
    """All that is asked of the system concerns this world from now on."""
    _worlds[:] = [world]


def here() -> "World":
    return _worlds[0]


def me() -> Process:
    process = current()
    assert process is not None
    return process


class Simulated:
    """A module of the standard library, some of which is the simulated kernel's."""

    def __init__(self, real: ModuleType, **ours: Any) -> None:
        self._real = real
        self.__dict__.update(ours)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class _System(Simulated):
    """`os`: the environment and the id are those of the simulated process."""

    @property
    def environ(self) -> dict[str, str]:
        return me().environ


def install(patch: pytest.MonkeyPatch) -> None:
    """Until the end of the test."""
    _patch_time(patch)
    _patch_chance(patch)
    _patch_processes(patch)
    _patch_sockets(patch)
    _patch_worker(patch)


# Time and boot


def _patch_time(patch: pytest.MonkeyPatch) -> None:
    simulated = Simulated(
        time,
        monotonic=lambda: here().kernel.loop.time(),
        time=lambda: EPOCH + here().kernel.loop.time(),
        sleep=_sleep,
    )
    for name, module in list(sys.modules.items()):
        if name.startswith(("edge.", "orchestrator.")):
            if getattr(module, "time", None) is time:
                patch.setattr(module, "time", simulated)
            if getattr(module, "boot_id", None) is _real_boot_id:
                patch.setattr(module, "boot_id", lambda: f"boot-{here().kernel.boot}")


def _sleep(seconds: float) -> None:
    """The process is held up, the others go on."""
    process, loop = me(), here().kernel.loop
    process.is_running = False
    loop.run_for(seconds)
    if not process.is_dead and not process.is_stopped:
        process.is_running = True
        loop.resume(process)


def is_busy(error: sqlite3.OperationalError) -> bool:
    """Whether another process has the lock."""
    return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY


def _patch_chance(patch: pytest.MonkeyPatch) -> None:
    """What is random is so by the world's seed."""
    for module in (edge.routing.store, orchestrator.store.database):
        patch.setattr(
            module,
            "secrets",
            Simulated(
                secrets,
                randbits=lambda bits: here().kernel.chance.getrandbits(bits),
                token_hex=lambda size: here().kernel.chance.randbytes(size).hex(),
            ),
        )


# Processes


class SimulatedChild:
    """What `Child` is to a supervisor."""

    def __init__(self, process: Process) -> None:
        self.pid = process.pid
        self._process = process

    @classmethod
    def start(
        cls,
        command: Sequence[str],
        register: Register,
        *,
        pass_fds: Sequence[int] = (),
        stdin: int = 0,
        environ: Mapping[str, str] | None = None,
        own_group: bool = False,
        ignores: Sequence[signal.Signals] = (),
        limit: float = 0,
    ) -> "SimulatedChild":
        # They need the boundary themselves.
        from tests.model.programs import edge_program, worker_program

        world, parent = here(), me()
        is_worker = "edge.worker" in command
        process = world.kernel.spawn("worker" if is_worker else "edge", parent, pass_fds)
        process.environ = dict(parent.environ if environ is None else environ)
        process.group = process.pid if own_group else parent.group
        process.context.run(Tie(register, ignores, limit))
        if is_worker:
            process.begin(worker_program(world, process, int(command[-1])))
        else:
            process.begin(edge_program(world, process))
        return cls(process)

    def signal(self, number: signal.Signals) -> None:
        self._process.signal(number)

    def kill_group(self) -> None:
        for process in here().kernel.living():
            if process.group == self.pid:
                process.signal(signal.SIGKILL)

    async def wait(self) -> int:
        await self._process.ended.wait()
        assert self._process.exit_code is not None
        return self._process.exit_code


def _patch_processes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Child, "start", SimulatedChild.start)
    quiet = Simulated(signal, signal=lambda *_: None, pthread_sigmask=lambda *_: set())
    for module in (edge.supervisor.child, edge.supervisor.supervisor, edge.supervisor.upgrade):
        patch.setattr(module, "signal", quiet)
    kernel_calls = Simulated(signal, setitimer=lambda _, seconds: me().set_alarm(seconds))
    patch.setattr(edge.control.lifeline, "signal", kernel_calls)
    patch.setattr(edge.control.lifeline, "_libc", _Libc())
    for name in ("supervisor", "upgrade", "sockets", "register"):
        patch.setattr(
            sys.modules[f"edge.supervisor.{name}"],
            "os",
            _System(os, getpid=lambda: me().pid, kill=_kill, set_inheritable=lambda *_: None),
        )
    patch.setattr(Register, "open", classmethod(_open_register))
    patch.setattr(Register, "enter", lambda self: _locks(self).append(me()))
    patch.setattr(Register, "others", _others)


class _Libc:
    def prctl(self, option: int, value: Any) -> int:
        assert option == 1  # PR_SET_PDEATHSIG
        me().signal_with_parent = value.value
        return 0


def _kill(pid: int, number: int) -> None:
    for process in here().kernel.living():
        if process.pid == pid:
            process.signal(number)


_REGISTER: Final = 7_000_000


def _open_register(cls: type[Register], path: Path) -> Register:
    register = cls(_REGISTER)
    register.enter()
    return register


def _locks(register: Register) -> list[Process]:
    return here().kernel.locks


def _others(register: Register) -> Iterable[int]:
    return [each.pid for each in _locks(register) if not each.is_dead and each is not me()]


# Sockets


class SimulatedServer:
    """What `edge.api.server.Server` is to a supervisor: an ASGI application on sockets."""

    def __init__(self, app: Any, sockets: Sequence[Listener], **options: Any) -> None:
        self._app = app
        self._sockets = list(sockets)
        self._busy: set[asyncio.Task[Any]] = set()
        self._stop_timeout = float(options["stop_timeout"])

    async def start(self) -> None:
        for each in self._sockets:
            each.accept(self._answer)

    def stop_accepting(self) -> None:
        for each in self._sockets:
            each.refuse()

    async def stop(self) -> None:
        self.stop_accepting()
        if self._busy:
            _, late = await asyncio.wait(self._busy, timeout=self._stop_timeout)
            for task in late:
                task.cancel()
        for each in self._sockets:
            each.close()

    async def _answer(self, data: bytes) -> bytes:
        task = asyncio.current_task()
        assert task is not None
        self._busy.add(task)
        task.add_done_callback(self._busy.discard)
        return await ask_application(self._app, data)


async def ask_application(app: Any, data: bytes) -> bytes:
    """What an ASGI application answers to an HTTP/1.1 request, until it closes."""
    head, _, body = data.partition(b"\r\n\r\n")
    method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"edge"), (b"content-length", str(len(body)).encode())],
        "client": None,
        "server": ("edge", 80),
        "state": {PEER: Peer(os.getpid(), os.geteuid(), frozenset())},
    }
    status, said = 500, b""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Mapping[str, Any]) -> None:
        nonlocal status, said
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            said += message.get("body", b"")

    await app(scope, receive, send)
    return f"HTTP/1.1 {status} .\r\ncontent-length: {len(said)}\r\n\r\n".encode() + said


def _patch_sockets(patch: pytest.MonkeyPatch) -> None:
    pairs = Simulated(__import__("socket"), socketpair=lambda: here().kernel.pair())
    for module in (edge.supervisor.slot, edge.supervisor.upgrade):
        patch.setattr(module, "socket", pairs)
    sockets = edge.supervisor.sockets
    for module in (sockets, edge.control.handover, edge.worker.process):
        patch.setattr(module, "adopt", lambda number: here().kernel.adopt(number))
    patch.setattr(sockets, "listen_unix", _listen_unix)
    patch.setattr(sockets, "listen_slots", _listen_slots)
    patch.setattr(sockets, "listen", lambda addresses, setting: [])
    patch.setattr(sockets, "make_descriptor", lambda: here().keep([make_descriptor()])[0])
    patch.setattr(
        sockets,
        "known_names",
        Simulated(
            known_names, make_descriptor=lambda: here().keep([known_names.make_descriptor()])[0]
        ),
    )
    patch.setattr(sockets, "make_descriptors", lambda: tuple(here().keep(make_descriptors())))
    patch.setattr(edge.supervisor.admin, "Server", SimulatedServer)
    patch.setattr(Channel, "open", _open_channel)
    patch.setattr(edge.supervisor.succession.Succession, "forward", _forward)
    patch.setattr(Loop, "sock_recv", _sock_recv, raising=False)
    patch.setattr(Loop, "add_reader", _add_reader, raising=False)
    patch.setattr(Loop, "remove_reader", _remove_reader, raising=False)
    patch.setattr(Loop, "add_signal_handler", _add_signal_handler, raising=False)
    patch.setattr(Loop, "create_server", _create_server, raising=False)
    patch.setattr(EdgeClient, "_exchange", _exchange)


def _listen_unix(path: Path, setting: str) -> Listener:
    kernel = here().kernel
    if kernel.listeners.get(str(path)) and path.exists():
        raise ConfigError(f"another process serves {path}")
    path.touch()
    return kernel.listen(str(path))


def _listen_slots(addresses: object, setting: str, count: int) -> list[list[Listener]]:
    kernel = here().kernel
    if kernel.listeners.get(HTTP):
        raise AddressInUseError("another program listens there; stop it")
    return [[kernel.listen(HTTP)] for _ in range(count)]


async def _open_channel(self: Any, end: PairEnd) -> None:
    self._reader = asyncio.StreamReader(MAX_MESSAGE, asyncio.get_running_loop())
    self._writer = Writer(end)
    end.stream(self._reader)


async def _forward(self: Any, path: str, fields: Mapping[str, object]) -> Any:
    answer = await EdgeClient(self._control_path)._post(path, dict(fields))
    if answer is None:
        raise edge.control.channel.ChannelError("the edge that took over has exited")
    return answer


async def _sock_recv(self: Loop, end: PairEnd, limit: int) -> bytes:
    return await end.receive(limit)


def _add_reader(self: Loop, end: PairEnd, callback: Callable[[], object]) -> None:
    end.watcher = (callback, me().context)
    if end.received or end.is_ended:
        self.call_soon(callback, context=me().context)


def _remove_reader(self: Loop, end: PairEnd) -> None:
    end.watcher = None


def _add_signal_handler(self: Loop, number: int, callback: Callable[[], object]) -> None:
    me().handlers[number] = callback


class _Accepting:
    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        listener.accept(None)
        here().kernel.changed = True

    def close(self) -> None:
        """As `asyncio.Server.close`: the socket is closed, too."""
        self._listener.refuse()
        self._listener.close()
        here().kernel.changed = True


async def _create_server(self: Loop, factory: object, *, sock: Listener, backlog: int) -> Any:
    return _Accepting(sock)


async def _exchange(self: EdgeClient, request: bytes) -> bytes:
    if not self.path.exists():
        raise FileNotFoundError
    return await here().kernel.call(str(self.path), request)


# The worker


class ObservedWorker(Worker):
    """The real one, on the simulated clock; the world knows of it."""

    def __init__(self, settings: Any, shared: Any, memory: Any) -> None:
        super().__init__(settings, here().kernel.loop.time, shared, memory)
        me().serves = self


def _patch_worker(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(edge.worker.process, "Worker", ObservedWorker)
    patch.setattr(edge.worker.process, "SnapshotMemory", _InheritedMemory)
    patch.setattr(edge.worker.process, "map_descriptor", lambda fd: map_descriptor(os.dup(fd)))
    patch.setattr(edge.worker.process, "gc", Simulated(__import__("gc"), freeze=lambda: None))
    patch.setattr(edge.worker.worker, "raise_limit", lambda *_: 10_000)
    patch.setattr(edge.worker.worker, "count_open", lambda *_: 30)
    patch.setattr(ServingState, "swap", _swap)


class _InheritedMemory(SnapshotMemory):
    """Of a process of its own, which may close it, and with which it goes."""

    def __init__(self, descriptors: Sequence[int]) -> None:
        super().__init__([os.dup(each) for each in descriptors])
        me().at_end.append(self.close)

    def close(self) -> None:
        super().close()
        self._descriptors = ()


def _swap(self: ServingState, *arguments: Any) -> None:
    _real_swap(self, *arguments)
    here().kernel.changed = True

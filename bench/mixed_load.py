"""Everything that can happen to an edge, all at once and for as long as wanted: pages, uploads and
downloads by wrk; WebSockets, clients that break off, routes that change and targets that drain by
tasks of this program.
"""

import asyncio
import random
import signal
import socket
import struct
import subprocess
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection

from bench.crowd import RESET
from bench.errors import BenchError
from bench.lab import Lab
from bench.load import written, wrk_command
from bench.measure import WrkResult, parse_wrk
from bench.process import Process
from bench.requests import FILE_10M, HOST, UPLOAD, VARIED, Request
from edge.control.client import request
from edge.errors import EdgeError
from edge.routing.store_writer import RouteWriter

SOCKET_HOST = "socket.example.test"
PASSING_HOST = "passing{number}.example.test"
LOADS: dict[str, tuple[Request, int]] = {
    "pages": (VARIED, 32),
    "uploads": (UPLOAD, 2),
    "downloads": (FILE_10M, 2),
}
SOCKETS = 20
BREAKERS = 10
BREAK_SECONDS = 0.02
CHANGE_SECONDS = 1.0
SOCKETS_CHANGE_EVERY = 5  # changes
DRAIN_SECONDS = 30.0
TUNNEL_SECONDS = 1.0
ANSWER_SECONDS = 30.0
END_SECONDS = 30.0

_TEXT, _CLOSE = 0x81, 0x88
_MASKED = 0x80
_NO_MASK = bytes(4)  # a key that leaves the payload as it is
_PAYLOAD = b"how long can this go on? " * 4
_UPGRADE = (
    f"GET /echo HTTP/1.1\r\nHost: {SOCKET_HOST}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
).encode()
# The accept value of RFC 6455 section 1.3 for the key above.
_SWITCHED = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
_PAGE = f"GET /small HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
_DOWNLOAD = f"GET /files/10m HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
_BEGINNING = f"GET /small HTTP/1.1\r\nHost: {HOST}\r\nX-".encode()


def frame(first: int, payload: bytes, masked: bool) -> bytes:
    """A short WebSocket frame (RFC 6455 section 5.2)."""
    if masked:
        return bytes((first, _MASKED | len(payload))) + _NO_MASK + payload
    return bytes((first, len(payload))) + payload


async def _read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    first, length = await reader.readexactly(2)
    mask = await reader.readexactly(4) if length & _MASKED else _NO_MASK
    payload = await reader.readexactly(length & ~_MASKED)
    return first, bytes(byte ^ mask[n % 4] for n, byte in enumerate(payload))


class MixedLoad:
    """The load on one edge, and what came of it."""

    def __init__(self, lab: Lab, edge: Process, admin_port: int) -> None:
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []
        self._lab = lab
        self._port = edge.port
        self._admin_port = admin_port
        self._writer = RouteWriter(edge.folder / "routes.db")
        self._control = edge.folder / "routes.sock"
        self._origins = [lab.origin.port, lab.other_origin]
        self._echoes: list[int] = []
        self._echoing: set[asyncio.Task[None]] = set()

    async def run(self, seconds: float) -> None:
        """Load the edge; whatever fails that should not is in `failures`."""
        servers = [await asyncio.start_server(self._echo, "127.0.0.1", 0) for _ in range(2)]
        self._echoes = [server.sockets[0].getsockname()[1] for server in servers]
        await asyncio.to_thread(self._point, SOCKET_HOST, self._echoes[0])
        tasks = [
            *(self._again_and_again("a WebSocket", self._use_socket) for _ in range(SOCKETS)),
            *(self._again_and_again("a client", self._break_off) for _ in range(BREAKERS)),
            self._again_and_again("a change", self._change_routes),
        ]
        with ExitStack() as loads:
            for name, (request, connections) in LOADS.items():
                loads.enter_context(self._wrk(name, request, connections))
            running = [asyncio.create_task(task) for task in tasks]
            try:
                await asyncio.sleep(seconds)
            finally:
                for task in running:
                    task.cancel()
                await asyncio.gather(*running, return_exceptions=True)
        if self._echoing:
            await asyncio.wait(self._echoing, timeout=END_SECONDS)
        for server in servers:
            server.close()

    async def _again_and_again(self, what: str, act: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await act()
            except (OSError, EOFError, TimeoutError, BenchError, EdgeError) as error:
                self.failures.append(f"{what}: {error!r}")
                await asyncio.sleep(CHANGE_SECONDS)

    @contextmanager
    def _wrk(self, name: str, request: Request, connections: int) -> Iterator[None]:
        endless = 10**6  # seconds
        command = wrk_command(written(self._lab, request), self._port, connections, endless)
        with subprocess.Popen(  # noqa: S603  a list of ours
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as wrk:
            try:
                yield
            finally:
                wrk.send_signal(signal.SIGINT)
                said, _ = wrk.communicate(timeout=END_SECONDS)
                self._count(name, parse_wrk(said))

    def _count(self, name: str, result: WrkResult) -> None:
        self.counts[name] += result.requests
        if result.bad_statuses or result.socket_errors:
            self.failures.append(
                f"{name}: {result.bad_statuses} bad answers,"
                f" {result.socket_errors} failed connections"
            )

    async def _echo(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The application behind SOCKET_HOST."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  narrows a type
        self._echoing.add(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(_SWITCHED)
            first = _TEXT
            while first != _CLOSE:
                first, payload = await _read_frame(reader)
                writer.write(frame(first, payload, masked=False))
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client broke off: that is part of the load
        finally:
            self._echoing.discard(task)
            writer.close()

    async def _use_socket(self) -> None:
        """A WebSocket that is used for some seconds, or until the edge closes it in order."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(_UPGRADE)
            async with asyncio.timeout(ANSWER_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
            if b" 101 " not in head.partition(b"\r\n")[0]:
                raise BenchError(f"no WebSocket, but {head[:100]!r}")
            self.counts["WebSockets"] += 1
            for _ in range(random.randrange(20, 100)):  # noqa: S311  load, no secret
                writer.write(frame(_TEXT, _PAYLOAD, masked=True))
                async with asyncio.timeout(ANSWER_SECONDS):
                    first, payload = await _read_frame(reader)
                if first == _CLOSE:
                    (code,) = struct.unpack("!H", payload[:2])
                    self.counts[f"WebSockets closed with {code}"] += 1
                    writer.write(frame(_CLOSE, payload, masked=True))
                    return
                if payload != _PAYLOAD:
                    raise BenchError(f"an echo came back as {payload!r}")
                self.counts["frames"] += 1
                await asyncio.sleep(random.uniform(0.05, 0.2))  # noqa: S311  load, no secret
        finally:
            writer.close()

    async def _break_off(self) -> None:
        """A client that leaves at some point, more or less politely."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        self.counts["clients that left"] += 1
        how = random.randrange(5)  # noqa: S311  load, no secret
        try:
            if how == 1:
                writer.write(_BEGINNING)
            elif how == 2:
                writer.write(_PAGE)
            elif how == 3:
                writer.write(_DOWNLOAD)
                await reader.read(100_000)
            elif how == 4:
                writer.write(_PAGE)
                async with asyncio.timeout(ANSWER_SECONDS):
                    await reader.readuntil(b"\r\n\r\nok")
            await asyncio.sleep(BREAK_SECONDS)
        finally:
            if how == 4:
                writer.close()
            else:
                _reset(writer)

    async def _change_routes(self) -> None:
        await asyncio.sleep(CHANGE_SECONDS)
        await asyncio.to_thread(self._cut_over)

    def _cut_over(self) -> None:
        """What a deploy does: write, reload, drain what was there before."""
        number = self.counts["cutovers"] + 1
        self._point(HOST, self._origins[number % 2])
        self._drain(self._origins[(number + 1) % 2])
        if number % SOCKETS_CHANGE_EVERY == 0:
            turn = number // SOCKETS_CHANGE_EVERY
            self._point(SOCKET_HOST, self._echoes[turn % 2])
            self._drain(self._echoes[(turn + 1) % 2])
        passing = PASSING_HOST.format(number=number)
        self._point(passing, self._origins[number % 2])
        self._get(self._port, "/small", passing)
        self._tell("/reload", version=self._writer.remove(passing))
        self._get(self._admin_port, "/metrics", "localhost")
        self.counts["cutovers"] = number

    def _point(self, host: str, port: int) -> None:
        options = {"health_path": "/small", "health_interval": 1.0} if host == HOST else {}
        version = self._writer.set(host, f"127.0.0.1:{port}", options)
        self._tell("/reload", version=version)

    def _drain(self, port: int) -> None:
        answer = self._tell(
            "/drain",
            target=f"127.0.0.1:{port}",
            timeout=DRAIN_SECONDS,
            tunnel_timeout=TUNNEL_SECONDS,
        )
        if answer["cut"]:
            raise BenchError(f"a drain cut {answer['cut']} exchanges")

    def _tell(self, resource: str, **fields: object) -> dict[str, int]:
        answer = request(self._control, "POST", resource, fields)
        if answer is None:
            raise BenchError(f"no edge listens at {self._control}")
        return answer

    def _get(self, port: int, path: str, host: str) -> None:
        connection = HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
        try:
            connection.request("GET", path, headers={"Host": host})
            answer = connection.getresponse()
            answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise BenchError(f"{path} of {host} was answered with {answer.status}")


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close a stream with a RST."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()

"""What the others feel while one worker holds very many clients that do nothing, or little.

Latency alone and latency beside the crowd are measured in turn, on the same edge. The crowd runs in
this program, on the core of the load: what it costs there counts against the edge.
"""

import resource
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from bench.errors import BenchError
from bench.idle import SETTLE_SECONDS, clients_for
from bench.lab import Lab
from bench.load import WARM_UP_SECONDS, measure_round
from bench.measure import Round, Series
from bench.peers import Contender, running
from bench.process import Process
from bench.requests import HOST, VARIED

CONNECTIONS = 64

ALONE = "fairlead, alone"
BESIDE_IDLE = "fairlead, beside idle clients"
BESIDE_SLOW = "fairlead, beside slow heads"

ATTACKERS = 5_000
# One byte of a head in this time, as slow as an attacker can be who wants many to be read.
BYTE_SECONDS = 3.0
# The edge's default head timeout. The attackers come one after the other within this time, so that
# afterwards they are refused, and come back, one after the other too.
HEAD_SECONDS = 10.0
TICK_SECONDS = 0.01
REFUSED_WITHIN_SECONDS = 6 * HEAD_SECONDS

_SMALL = f"GET /small HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
_ENDLESS = f"GET /small HTTP/1.1\r\nHost: {HOST}\r\nX-Slow: ".encode() + b"x" * 100
RESET = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds: no port is left in TIME_WAIT


def reset(connection: socket.socket) -> None:
    """Close a connection with a RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.close()


def _idle_client(port: int) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    try:
        connection.sendall(_SMALL)
        answer = b""
        while not answer.endswith(b"\r\n\r\nok"):
            more = connection.recv(4096)
            if not more:
                raise BenchError(f"an idle client was closed after {answer[:100]!r}")
            answer += more
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def idle_clients(port: int) -> Iterator[int]:
    """Clients that have each had one answer, and stay; how many."""
    count = clients_for(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    with ExitStack() as clients:
        for number in range(count):
            try:
                clients.callback(reset, _idle_client(port))
            except OSError as error:
                raise BenchError(f"idle client {number} could not be opened: {error}") from error
        time.sleep(SETTLE_SECONDS)
        yield count


class _SlowHeads:
    """Attackers who send a head byte by byte, and come back when they are refused."""

    def __init__(self, port: int) -> None:
        self._address = ("127.0.0.1", port)
        self._connections: list[socket.socket | None] = [None] * ATTACKERS
        self._sent = [0] * ATTACKERS
        self._stop = threading.Event()
        self.refused = threading.Event()
        self.failure: OSError | None = None
        self._thread = threading.Thread(target=self._run, name="slow heads")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        for connection in self._connections:
            if connection is not None:
                reset(connection)

    def _run(self) -> None:
        begun = time.monotonic()
        turns = 0
        try:
            while not self._stop.wait(TICK_SECONDS):
                passed = time.monotonic() - begun
                arrived = ATTACKERS * min(1.0, passed / HEAD_SECONDS)
                due = int(passed / BYTE_SECONDS * ATTACKERS)
                for turn in range(turns, due):
                    if turn % ATTACKERS < arrived:
                        self._send_byte(turn % ATTACKERS)
                turns = due
        except OSError as error:
            self.failure = error

    def _send_byte(self, number: int) -> None:
        connection = self._connections[number]
        if connection is not None and not self._is_open(connection):
            self.refused.set()
            reset(connection)
            connection = None
        if connection is None:
            connection = socket.create_connection(self._address, timeout=10)
            connection.setblocking(False)
            self._connections[number], self._sent[number] = connection, 0
        sent = self._sent[number]
        try:
            connection.send(_ENDLESS[sent : sent + 1])
        except ConnectionError:
            return  # the edge closed between the look and the byte: the next turn finds out
        self._sent[number] = sent + 1

    @staticmethod
    def _is_open(connection: socket.socket) -> bool:
        try:
            connection.recv(4096)
        except BlockingIOError:
            return True
        except ConnectionError:
            return False
        return False  # 408, or the end


@contextmanager
def slow_heads(port: int) -> Iterator[int]:
    """Attackers, from when the edge has begun to refuse them; how many."""
    attack = _SlowHeads(port)
    attack.start()
    try:
        if not attack.refused.wait(REFUSED_WITHIN_SECONDS):
            raise BenchError(f"no slow head was refused in {REFUSED_WITHIN_SECONDS:.0f} s")
        yield ATTACKERS
        if attack.failure is not None:
            raise BenchError(f"the attack broke off: {attack.failure}")
    finally:
        attack.stop()


Crowd = Callable[[int], AbstractContextManager[int]]


def _alone(lab: Lab, process: Process) -> Round:
    time.sleep(SETTLE_SECONDS)  # a crowd that was there before is gone for the edge too
    return measure_round(lab, process, VARIED, CONNECTIONS, lab.effort.seconds)


def _beside(lab: Lab, process: Process, crowd: Crowd) -> Round:
    with crowd(process.port) as clients:
        taken = measure_round(lab, process, VARIED, CONNECTIONS, lab.effort.seconds)
    return taken | {"clients": clients}


def _in_turn(
    lab: Lab, contenders: tuple[Contender, ...], name: str, crowd: Crowd
) -> tuple[Series, dict[str, str]]:
    (contender,) = contenders
    series: Series = {ALONE: [], name: []}
    with running(lab, contender) as process:
        measure_round(lab, process, VARIED, CONNECTIONS, WARM_UP_SECONDS)
        for number in range(lab.effort.rounds):
            # As often first as second, because machines grow slower and faster.
            for who in (ALONE, name) if number % 2 else (name, ALONE):
                taken = _alone(lab, process) if who == ALONE else _beside(lab, process, crowd)
                series[who].append(taken)
    return series, {}


def beside_idle(lab: Lab, contenders: tuple[Contender, ...]) -> tuple[Series, dict[str, str]]:
    """Latency with and without 10,000 idle clients, or as many as the open files allow."""
    return _in_turn(lab, contenders, BESIDE_IDLE, idle_clients)


def beside_slow(lab: Lab, contenders: tuple[Contender, ...]) -> tuple[Series, dict[str, str]]:
    """Latency with and without an attack of slow heads."""
    return _in_turn(lab, contenders, BESIDE_SLOW, slow_heads)

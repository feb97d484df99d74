"""Owns the conversations of the tests: a client, an edge and scripted upstreams on real sockets.

The edge runs in a background thread on its own uvloop loop, with a clock that only the test
moves; clients and upstreams are blocking sockets in the test's own thread, so a test reads from
top to bottom as what each side says. Nothing sleeps. That something does not happen is decided
after `Conversation.settle()`: whatever was sent before has then been read and acted upon.
"""

import asyncio
import contextlib
import logging
import select
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import NoReturn, TypeVar

import uvloop
from prometheus_client.parser import text_string_to_metric_families

from edge.net.listener import listen
from edge.proxy.drain import DrainResult
from edge.routing.store_writer import RouteWriter
from edge.settings.settings import Settings
from edge.settings.syntax import Address
from edge.telemetry.prometheus import render
from edge.worker.worker import Worker
from tests.messages import (
    BodyReader,
    Framing,
    Head,
    MalformedError,
    Message,
    is_whole_request,
    ok,
    request,
)

T = TypeVar("T")

WAIT = 20.0
"""Seconds that anything may take before the test fails; nothing waits that long when it works."""

SETTLING_ROUNDS = 12
"""Turns of the edge's loop in which what has arrived is read, decided, connected and passed on:
accept, read, connect, connected, write, and as many again for a second hop."""

SHOWN = 400
"""Bytes of a message that a transcript shows."""


class ConversationError(AssertionError):
    """The conversation went another way than the test says; the text shows all of it so far."""


class Conversation:
    """What was said so far, by whom; and everything that must be closed at its end."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._names: dict[str, int] = {}
        self._edges: list[Edge] = []
        self._closing = contextlib.ExitStack()
        self._ping, self._pong = _loopback_pair()
        self.closes_at_end(self._ping.close)
        self.closes_at_end(self._pong.close)

    def name(self, kind: str) -> str:
        """A name that the transcript has not seen yet: `client`, `client 2`, ..."""
        number = self._names[kind] = self._names.get(kind, 0) + 1
        return kind if number == 1 else f"{kind} {number}"

    def says(self, who: str, what: str, data: bytes | None = None) -> None:
        """Adds a line to the transcript."""
        shown = "" if data is None else f" {_shown(data)}"
        self._lines.append(f"{who} {what}{shown}")

    def fails(self, message: str) -> NoReturn:
        """Raises ConversationError with the transcript."""
        transcript = "\n".join(f"    {line}" for line in self._lines)
        raise ConversationError(f"{message}\n  The conversation so far:\n{transcript}") from None

    def joins(self, edge: "Edge") -> None:
        """Lets `settle` wait for this edge too."""
        self._edges.append(edge)

    def leaves(self, edge: "Edge") -> None:
        """`settle` no longer waits for this edge."""
        self._edges.remove(edge)

    def settle(self) -> None:
        """Returns when the edge has read and acted upon everything that was sent before."""
        for edge in self._edges:
            edge.settle()

    def flush_loopback(self) -> None:
        """Returns when the kernel has delivered what this thread sent before.

        Loopback segments pass through one queue per core, in order; so one more that comes back
        proves that those before it have arrived.
        """
        self._ping.sendall(b".")
        self._pong.recv(1)

    def closes_at_end(self, close: Callable[[], object]) -> None:
        """Calls `close` when the test ends, last in first."""
        self._closing.callback(close)

    def ends(self) -> None:
        """Closes every socket and stops the edge. Raises what went wrong inside it."""
        self._closing.close()


class Endpoint:
    """One end of a connection with the edge, played by the test."""

    def __init__(self, conversation: Conversation, name: str, sock: socket.socket) -> None:
        self.conversation = conversation
        self.name = name
        self.sock = sock
        self._buffer = bytearray()
        self._ending: str | None = None
        self._body: BodyReader | None = None
        self._body_read = 0
        sock.settimeout(WAIT)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        conversation.closes_at_end(sock.close)

    def __repr__(self) -> str:
        return f"<{self.name}>"

    # what this side says

    def sends(self, data: bytes) -> None:
        """Sends all of it, in one piece if the kernel has room for it."""
        self.conversation.says(self.name, "sends", data)
        try:
            self.sock.sendall(data)
        except OSError as error:
            self.conversation.fails(f"{self.name} could not send: {error!r}")

    def sends_in_pieces(self, data: bytes, size: int = 1) -> None:
        """Sends pieces of `size` bytes, each read by the edge before the next one is sent."""
        self.conversation.says(self.name, f"sends in pieces of {size}", data)
        for start in range(0, len(data), size):
            try:
                self.sock.sendall(data[start : start + size])
            except OSError as error:
                self.conversation.fails(f"{self.name} could not send from {start}: {error!r}")
            self.conversation.settle()

    def keeps_sending(self, data: bytes) -> None:
        """Sends what the other side may not want any more; that it is refused is no failure."""
        self.conversation.says(self.name, "keeps sending", data)
        with contextlib.suppress(OSError):
            self.sock.sendall(data)

    def sends_until_blocked(self, piece: bytes, at_most: int) -> int:
        """Sends `piece`, again and again, until nobody takes more. Returns the bytes taken.

        Blocked means: for a quarter of a second, in which the edge's loop came to rest several
        times, the kernel did not take one byte. That is longer than any timer of TCP that could
        hold back data on the loopback interface (delayed acknowledgements, 40 ms).
        """
        taken = 0
        self.sock.settimeout(0.25)
        try:
            while taken < at_most:
                taken += self.sock.send(memoryview(piece)[taken % len(piece) :])
        except TimeoutError:
            self.conversation.settle()
        finally:
            self.sock.settimeout(WAIT)
        self.conversation.says(self.name, f"sends {taken} bytes, then is blocked")
        return taken

    def half_closes(self) -> None:
        """Says that it sends nothing more, and goes on reading."""
        self.conversation.says(self.name, "half-closes")
        self.sock.shutdown(socket.SHUT_WR)

    def closes(self) -> None:
        """Closes the connection; what comes after that, the kernel answers with a reset."""
        self.conversation.says(self.name, "closes")
        self.sock.close()

    def resets(self) -> None:
        """Ends the connection with a reset."""
        self.conversation.says(self.name, "resets")
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    # what this side gets

    def receives(self, expected: bytes) -> None:
        """The next bytes are exactly these."""
        while len(self._buffer) < len(expected) and expected.startswith(self._buffer):
            if not self._read_more():
                break
        if not self._buffer.startswith(expected):
            self.conversation.fails(
                f"{self.name} expected {_shown(expected)} and got {_shown(bytes(self._buffer))}"
                f"{self._how_it_ended()}"
            )
        del self._buffer[: len(expected)]

    def receives_some(self) -> bytes:
        """Whatever comes next, at least one byte; b"" at the end of the connection."""
        if not self._buffer:
            self._read_more()
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

    def takes(self, count: int) -> bytes:
        """The next `count` bytes; fewer only at the end of the connection."""
        while len(self._buffer) < count and self._read_more():
            pass
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def takes_what_came(self) -> bytes:
        """What was read from the connection already, and no more."""
        return self.takes(len(self._buffer))

    def receives_rest(self) -> bytes:
        """Everything up to the other side's half-close; a reset is a failure."""
        while self._read_more():
            pass
        rest = bytes(self._buffer)
        self._buffer.clear()
        if self._ending != "half-close":
            self.conversation.fails(f"{self.name} got {_shown(rest)}{self._how_it_ended()}")
        return rest

    def receives_nothing(self) -> None:
        """The edge has sent nothing up to now, although it has seen everything that was sent."""
        if self._read_at_once():
            self.conversation.fails(
                f"{self.name} expected nothing and got {_shown(bytes(self._buffer))}"
                f"{self._how_it_ended()}"
            )

    def sees_eof(self) -> None:
        """Nothing more comes, and the other side has closed its half in order."""
        self._sees_ending("half-close")

    def sees_reset(self) -> None:
        """Nothing more comes, and the connection was reset."""
        self._sees_ending("reset")

    def sees_end(self) -> None:
        """Nothing more comes, and the connection is over, one way or the other."""
        self._sees_ending("half-close", "reset")

    def receives_data(self, expected: bytes | str) -> None:
        """The next bytes of the body are exactly these, whatever chunks they come in."""
        wanted = expected.encode() if isinstance(expected, str) else expected
        body = self._current_body()
        while len(body.data) - self._body_read < len(wanted) and not body.complete:
            if not self._read_more():
                break
            self._feed(body)
        got = bytes(body.data[self._body_read : self._body_read + len(wanted)])
        if got != wanted:
            self.conversation.fails(
                f"{self.name} expected body {_shown(wanted)}, got {_shown(got)}"
                f"{self._how_it_ended()}"
            )
        self._body_read += len(wanted)

    def receives_no_data(self) -> None:
        """No byte of the body has come beyond what was received."""
        body = self._current_body()
        self._read_at_once()
        self._feed(body)
        if len(body.data) > self._body_read or body.complete:
            rest = bytes(body.data[self._body_read :])
            self.conversation.fails(f"{self.name} got {_shown(rest)}, the end: {body.complete}")

    def receives_end(self) -> None:
        """The body ends here, as whole as its framing can say."""
        rest = self.receives_whole_body()
        if rest:
            self.conversation.fails(f"{self.name} expected the end of the body, got {_shown(rest)}")

    def sees_broken_body(self) -> bytes:
        """The connection ends and the body cannot be taken for a whole one. Returns the rest of it.

        A body that ends with the connection is broken only by a reset (RFC 9112 section 8).
        """
        body = self._current_body()
        while not body.complete and self._read_more():
            self._feed(body)
        if body.complete or (body.framing == "close" and self._ending != "reset"):
            self.conversation.fails(
                f"{self.name} takes a broken message for a whole one: {_shown(bytes(body.data))}"
                f"{self._how_it_ended()}"
            )
        return bytes(body.data[self._body_read :])

    def has_received(self) -> bool:
        """Whether anything has come that was not read yet, be it the end."""
        return self._read_at_once()

    # how it is read

    def _receives_head(self, framing: Callable[[Head], Framing]) -> Head:
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if not self._read_more():
                self.conversation.fails(
                    f"{self.name} expected a head and got {_shown(bytes(self._buffer))}"
                    f"{self._how_it_ended()}"
                )
        raw = bytes(self._buffer[: end + 4])
        del self._buffer[: end + 4]
        try:
            head = Head.parse(raw)
            self._body = BodyReader(framing(head))
        except MalformedError as error:
            self.conversation.fails(f"{self.name} got {error}")
        self._body_read = 0
        return head

    def receives_whole_body(self) -> bytes:
        """What is left of the body, which must end as its framing says."""
        body = self._current_body()
        self._feed(body)
        while not body.complete:
            if self._read_more():
                self._feed(body)
            elif body.framing == "close" and self._ending == "half-close":
                break
            else:
                self.conversation.fails(
                    f"{self.name} got a body that is not whole: {_shown(bytes(body.data))}"
                    f"{self._how_it_ended()}"
                )
        rest = bytes(body.data[self._body_read :])
        self._body_read = len(body.data)
        return rest

    def _current_body(self) -> BodyReader:
        if self._body is None:
            self.conversation.fails(f"{self.name} has received no head yet")
        self._feed(self._body)
        return self._body

    def _feed(self, body: BodyReader) -> None:
        try:
            body.feed(self._buffer)
        except MalformedError as error:
            self.conversation.fails(f"{self.name} got {error}")

    def _read_more(self) -> bool:
        """Reads once; False at the end of the connection."""
        if self._ending is not None:
            return False
        try:
            data = self.sock.recv(262144)
        except TimeoutError:
            self.conversation.fails(
                f"{self.name} waited {WAIT} s for more than {_shown(bytes(self._buffer))}"
            )
        except (ConnectionResetError, BrokenPipeError):
            self._ending = "reset"
            self.conversation.says(self.name, "sees a reset")
            return False
        if not data:
            self._ending = "half-close"
            self.conversation.says(self.name, "sees the half-close")
            return False
        self.conversation.says(self.name, "receives", data)
        self._buffer += data
        return True

    def _read_at_once(self) -> bool:
        """Reads what is there already; whether there is anything unread, the end included."""
        self.conversation.settle()
        self.sock.setblocking(False)
        try:
            while self._read_more():
                pass
        except BlockingIOError:
            pass
        finally:
            self.sock.settimeout(WAIT)
        return bool(self._buffer) or self._ending is not None

    def _sees_ending(self, *endings: str) -> None:
        if self._body is not None:
            self._feed(self._body)
        while self._read_more():
            pass
        if self._buffer:
            self.conversation.fails(
                f"{self.name} expected the end and got {_shown(bytes(self._buffer))}"
            )
        if self._ending not in endings:
            self.conversation.fails(
                f"{self.name} expected a {' or a '.join(endings)}{self._how_it_ended()}"
            )

    def _how_it_ended(self) -> str:
        return f", then a {self._ending}" if self._ending else ""


class Client(Endpoint):
    """A client of the edge."""

    def receives_head(self, to: str = "GET") -> Head:
        """The head of the next response, interim ones included; `to` is the request's method."""
        return self._receives_head(lambda head: head.response_framing(to))

    def receives_response(self, to: str = "GET") -> Message:
        """The next response, interim ones included, whole."""
        head = self.receives_head(to)
        return Message(head.raw, head.line, head.fields, self.receives_whole_body())

    def is_refused(self, status: int, to: str = "GET") -> Message:
        """The edge answers with its own error, says that it closes, and half-closes.

        RFC 9112 section 9.6: the answer is whole and the end is in order, although this side
        goes on sending what nobody asked for.
        """
        self.conversation.settle()
        self.keeps_sending(b"x" * 20_000)
        answer = self.receives_response(to)
        if answer.status != status or not answer.closes():
            self.conversation.fails(f"{self.name} expected {status} with close, got {answer.raw!r}")
        self.sees_eof()
        for _ in range(2):
            self.sends(b"still here")
            self.conversation.settle()
        return answer

    def is_gone(self) -> None:
        """Nothing answers here any more: what this side sends is met with a reset."""
        for _ in range(100):
            try:
                self.sock.send(b"x")
            except (ConnectionResetError, BrokenPipeError):
                return
            self.conversation.settle()
        self.conversation.fails(f"{self.name} could still send to a connection that is over")


class UpstreamConnection(Endpoint):
    """A connection that the edge opened to an upstream."""

    def receives_head(self) -> Head:
        """The head of the next request."""
        return self._receives_head(Head.request_framing)

    def receives_request(self) -> Message:
        """The next request, whole."""
        head = self.receives_head()
        return Message(head.raw, head.line, head.fields, self.receives_whole_body())

    def sees_broken_request(self) -> bytes:
        """The connection ends before a whole request has come. Returns what came of it."""
        while self._read_more():
            pass
        raw = bytes(self._buffer)
        self._buffer.clear()
        if is_whole_request(raw):
            self.conversation.fails(f"{self.name} got a whole request: {_shown(raw)}")
        return raw


class Upstream:
    """A scripted upstream: listens, and does nothing that the test does not say."""

    def __init__(
        self,
        conversation: Conversation,
        host: str = "127.0.0.1",
        *,
        port: int = 0,
        receive_buffer: int | None = None,
        send_buffer: int | None = None,
    ) -> None:
        self.conversation = conversation
        self.name = conversation.name("upstream")
        self._host = host
        self._options = {socket.SO_RCVBUF: receive_buffer, socket.SO_SNDBUF: send_buffer}
        self._connections = 0
        self._sock = self._bound(port)
        self.port: int = self._sock.getsockname()[1]
        self.listens()

    def joins(self, conversation: Conversation) -> None:
        """Takes part in a conversation, as one that nobody has connected to."""
        self.conversation = conversation
        self.name = conversation.name("upstream")
        self._connections = 0
        self._sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self._sock.accept()[0].close()
        self._sock.settimeout(WAIT)

    @property
    def target(self) -> str:
        """What a route says of it: host:port."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}:{self.port}"

    def listens(self) -> None:
        """Takes connections, for the first time or again."""
        if self._sock.fileno() < 0:
            self._sock = self._bound(self.port)
        self._sock.listen(128)

    def refuses(self) -> None:
        """Keeps the port and refuses connections."""
        self._sock.close()
        self._sock = self._bound(self.port)
        self.conversation.says(self.name, "refuses connections")

    def swallows(self) -> None:
        """From now on connecting here neither succeeds nor fails.

        Its queue of connections that nobody accepts is full, so the kernel drops what else knocks.
        """
        self._sock.listen(0)
        for _ in range(4):
            filler = socket.socket(self._sock.family)
            self.conversation.closes_at_end(filler.close)
            filler.setblocking(False)
            filler.connect_ex(self._sock.getsockname())
        self.conversation.says(self.name, "swallows connections")

    def accepts(self) -> UpstreamConnection:
        """The next connection from the edge."""
        try:
            sock, _ = self._sock.accept()
        except TimeoutError:
            self.conversation.fails(f"{self.name} waited {WAIT} s for a connection")
        self._connections += 1
        name = self.name if self._connections == 1 else f"{self.name} (#{self._connections})"
        self.conversation.says(name, "accepts")
        return UpstreamConnection(self.conversation, name, sock)

    def accepts_if_connected(self) -> UpstreamConnection | None:
        """A connection that the edge has opened already; None if there is none."""
        self.conversation.settle()
        self._sock.setblocking(False)
        try:
            return self.accepts()
        except BlockingIOError:
            return None
        finally:
            if self._sock.fileno() >= 0:
                self._sock.settimeout(WAIT)

    def accepts_nothing(self) -> None:
        """The edge has opened no connection that was not accepted."""
        connection = self.accepts_if_connected()
        if connection is not None:
            connection.receives_nothing()
            self.conversation.fails(f"{connection.name} was not expected")

    def _bound(self, port: int) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        self.conversation.closes_at_end(sock.close)
        sock.settimeout(WAIT)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for option, size in self._options.items():
            if size is not None:
                sock.setsockopt(socket.SOL_SOCKET, option, size)
        sock.bind((self._host, port))
        return sock


class Clock:
    """Monotonic seconds that only the test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Edge:
    """A worker in a thread of its own, and the database from which it is fed."""

    def __init__(self, conversation: Conversation, settings: Settings) -> None:
        self.conversation = conversation
        self.settings = settings
        self.clock = Clock()
        self.worker: Worker
        self.loop: asyncio.AbstractEventLoop
        self._left: asyncio.Event
        self._faults: list[str] = []
        self._late = 0.0
        self._begun: list[asyncio.Task[object]] = []  # a loop keeps no task alive
        self._ping, self._pong = _loopback_pair()
        self._started = threading.Event()
        self._stopping: Future[None] | None = None
        self._is_spent = True  # until nothing is left in it
        self._thread = threading.Thread(target=self._run, name="edge", daemon=True)

    def starts(self, pool: "list[Edge] | None" = None) -> None:
        """Returns when it serves. Raises what `Worker.start` raises; for `pool` see `joins`."""
        self._thread.start()
        self._started.wait(WAIT)
        self.joins(self.conversation, pool)
        self.calls(self._start())

    def joins(self, conversation: Conversation, pool: "list[Edge] | None") -> None:
        """Takes part in a conversation, and stops at its end.

        With a pool, it goes there instead if then nothing is left in it: it is as good as new.
        """
        self.conversation = conversation
        conversation.joins(self)
        conversation.closes_at_end(partial(self._rests, pool))
        conversation.closes_at_end(self._is_left)

    def _rests(self, pool: "list[Edge] | None") -> None:
        if pool is None or self._is_spent:
            self.begins_to_stop()
        else:
            self.conversation.leaves(self)
            pool.append(self)

    def stops(self) -> None:
        """Stops the worker; returns when it has. Raises what went wrong in its loop."""
        self.begins_to_stop()
        self.has_stopped()

    def begins_to_stop(self) -> None:
        """Stops the worker; `has_stopped` waits for it. Raises ConversationError as `stops`."""
        if self._stopping is None:
            self.conversation.leaves(self)
            self._stopping = asyncio.run_coroutine_threadsafe(self._stop(), self.loop)
            self._reports_faults()

    def has_stopped(self) -> None:
        """Returns when the worker has stopped. Raises what went wrong in it."""
        if self._stopping is not None:
            self._stopping.result(WAIT)
            self._thread.join(WAIT)
            self._reports_faults()

    def is_over(self) -> bool:
        """Whether it was told to stop and its thread has ended."""
        return self._stopping is not None and not self._thread.is_alive()

    def _is_left(self) -> None:
        """Everybody has gone, and every deadline passes: nothing may be in flight any more."""
        if self._stopping is not None:
            return
        self.conversation.says("clock", "passes every deadline")
        self.conversation.flush_loopback()
        self.calls(self._pass_every_deadline())
        metrics = self.worker.state.metrics
        left = {
            "open connections": metrics.connections_open,
            "open tunnels": metrics.tunnels_open,
            "clients in the budget": self.worker.state.budget.clients,
            "upstreams in the budget": self.worker.state.budget.upstreams,
            "requests in flight": sum(
                counters.in_flight for counters in (metrics.unrouted, *metrics.routes.values())
            ),
            "requests in flight on targets": sum(
                live.sole_target.in_flight
                for live in self.worker.state.route_states.values()
                if live.sole_target is not None
            ),
        }
        self._is_spent = any(left.values())
        if self._is_spent:
            self.conversation.fails(f"everybody has gone, and the edge still counts {left}")

    def _reports_faults(self) -> None:
        faults, self._faults = self._faults, []
        if faults:
            self.conversation.fails(f"the edge's loop reported {len(faults)} faults: {faults[:3]}")

    def connects(
        self,
        *,
        source: str | None = None,
        receive_buffer: int | None = None,
        send_buffer: int | None = None,
        address: int = 0,
    ) -> Client:
        """A new client. `source` is its own address, `address` which of the edge's it takes."""
        return connect(
            self.conversation,
            self.worker.addresses[address],
            source=source,
            receive_buffer=receive_buffer,
            send_buffer=send_buffer,
        )

    def routes(self, domain: str, *targets: str, **options: object) -> int:
        """Writes a route and has the edge serve it. Returns the version of the table."""
        return self.reloads(self.writes(domain, *targets, **options))

    def writes(self, domain: str, *targets: str, **options: object) -> int:
        """Writes a route and tells nobody. Returns the version of the table."""
        return RouteWriter(self.settings.db).set(domain, ",".join(targets), options or None)

    def unroutes(self, domain: str) -> int:
        """Removes a route and has the edge forget it. Returns the version of the table."""
        return self.reloads(RouteWriter(self.settings.db).remove(domain))

    def reloads(self, version: int | None = None) -> int:
        """Has the edge look at the database; `version` is what it must serve then."""
        served = self.calls(self.worker.routes.reload())
        if version is not None and served != version:
            self.conversation.fails(f"the edge serves version {served}, written was {version}")
        return served

    def advance(self, seconds: float) -> None:
        """Moves the clock and lets the edge look at its deadlines; returns when it has."""
        self.settle()
        self.conversation.says("clock", f"+{seconds} s")
        self.calls(self._advance(seconds))
        self.settle()

    def sweeps_late(self, seconds: float) -> None:
        """While it is held: its next look at the deadlines comes before its next look at sockets.

        A loop that was kept from running by the machine runs its timers first.
        """
        self._late = seconds

    def settle(self) -> None:
        """See `Conversation.settle`."""
        self.conversation.flush_loopback()
        self.calls(self._settle())

    @contextlib.contextmanager
    def held(
        self, begins: Callable[[], Coroutine[object, object, object]] | None = None
    ) -> Iterator[None]:
        """Keeps the edge from running: what is said meanwhile, it learns of all at once.

        What it `begins` then comes between its accepting a connection and its knowing of that.
        """
        reached, released = threading.Event(), threading.Event()

        def hold() -> None:
            reached.set()
            released.wait(WAIT)
            late, self._late = self._late, 0.0
            if late:
                self.clock.now += late
                self.worker.sweep()
            if begins is not None:
                self._begun.append(self.loop.create_task(begins()))

        self.settle()
        self.loop.call_soon_threadsafe(hold)
        reached.wait(WAIT)
        self.conversation.says("edge", "is held")
        try:
            yield
            self.conversation.flush_loopback()
        finally:
            released.set()
            self.conversation.says("edge", "goes on")

    def drains(self) -> "Future[bool]":
        """Begins to drain; the result comes when it is done."""
        self.conversation.says("edge", "drains")
        future = asyncio.run_coroutine_threadsafe(self.worker.drain(), self.loop)
        self.settle()
        return future

    def drains_target(
        self, target: str, timeout: float = 30, tunnel_timeout: float = 30
    ) -> "Future[DrainResult]":
        """Begins to drain a target; the result comes when it is done."""
        self.conversation.says("edge", f"drains {target}")
        draining = self.worker.drains.drain(target, timeout, tunnel_timeout)
        future = asyncio.run_coroutine_threadsafe(draining, self.loop)
        self.settle()
        return future

    def undrains_target(self, target: str) -> bool:
        """Ends the drain of a target; whether there was one."""

        async def undrain() -> bool:
            return self.worker.drains.undrain(target)

        self.conversation.says("edge", f"undrains {target}")
        return self.calls(undrain())

    def calls(self, coroutine: Coroutine[object, object, T]) -> T:
        """Runs a coroutine in the edge's loop and returns its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(WAIT)

    def metrics(self) -> dict[str, float]:
        """What the worker has counted: `name{label="value"}`, labels in order, -> value."""
        text = render(self.worker.state.metrics).decode()
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                labels = ",".join(
                    f'{name}="{value}"' for name, value in sorted(sample.labels.items())
                )
                found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
        return found

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._live())
        self._ping.close()
        self._pong.close()

    async def _live(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.loop.set_exception_handler(self._notes_fault)
        self._left = asyncio.Event()
        self._started.set()
        await self._left.wait()

    def _notes_fault(self, _: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        exception = context.get("exception")
        exc_info = exception if isinstance(exception, BaseException) else None
        logging.getLogger(__name__).error("%s", context, exc_info=exc_info)
        self._faults.append(f"{context.get('message')}: {exception!r}")

    async def _start(self) -> None:
        self.worker = Worker(self.settings, self.clock)
        await self.worker.start(listen(self.settings.http_addr, "FAIRLEAD_HTTP_ADDR"))

    async def _stop(self) -> None:
        try:
            if hasattr(self, "worker"):
                await self.worker.stop()
        finally:
            self._left.set()

    async def _advance(self, seconds: float) -> None:
        self.clock.now += seconds
        self.worker.sweep()

    async def _pass_every_deadline(self) -> None:
        await self._settle()
        for _ in range(3):
            await self._advance(10_000)
            await self._settle()
        self.worker.state.health.close()
        await self._settle()

    async def _settle(self) -> None:
        # libuv accepts one connection in a turn: dozens at once need more turns than the rest.
        accepted = -1
        # So do requests that came at once and are answered in turns (`client.MAX_PER_TURN`).
        while accepted != (accepted := self._accepted()) or any(
            client.waits_for_turn for client in self.worker.state.clients
        ):
            for _ in range(SETTLING_ROUNDS):
                await asyncio.sleep(0)
        self._ping.send(b".")
        self._pong.recv(1)

    def _accepted(self) -> int:
        metrics = self.worker.state.metrics
        return metrics.connections_accepted + metrics.connections_rejected


def connect(
    conversation: Conversation,
    address: tuple[str, int],
    *,
    source: str | None = None,
    receive_buffer: int | None = None,
    send_buffer: int | None = None,
) -> Client:
    """A new client of whatever listens at `address`. Raises OSError."""
    sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
    conversation.closes_at_end(sock.close)
    sock.settimeout(WAIT)
    for option, size in ((socket.SO_RCVBUF, receive_buffer), (socket.SO_SNDBUF, send_buffer)):
        if size is not None:
            sock.setsockopt(socket.SOL_SOCKET, option, size)
    if source is not None:
        sock.bind((source, 0))
    sock.connect(address)
    return Client(conversation, conversation.name("client"), sock)


def flow(sender: Endpoint, receiver: Endpoint, data: bytes) -> bytes:
    """Sends `data` while the other end reads; returns what arrived when all of it was sent.

    Both at once, because neither a kernel nor the edge holds more than a part of it.
    """
    sender.conversation.says(sender.name, f"streams {len(data)} bytes to {receiver.name}")
    received = bytearray(receiver.takes_what_came())
    view = memoryview(data)
    for sock in (sender.sock, receiver.sock):
        sock.setblocking(False)
    try:
        poll = select.poll()  # select() takes no descriptor from 1024 on
        poll.register(sender.sock, select.POLLOUT)
        poll.register(receiver.sock, select.POLLIN)
        while view:
            ready = {descriptor for descriptor, _ in poll.poll(WAIT * 1000)}
            if not ready:
                sender.conversation.fails(f"{receiver.name} got only {len(received)} bytes")
            if sender.sock.fileno() in ready:
                view = view[sender.sock.send(view[: 2**20]) :]
            if receiver.sock.fileno() in ready:
                received += receiver.sock.recv(2**20)
    finally:
        for sock in (sender.sock, receiver.sock):
            sock.settimeout(WAIT)
    return bytes(received)


def settings_for(**fields: object) -> Settings:
    """Settings of a test: free ports, no look at the table that the test did not ask for."""
    settings = Settings(
        http_addr=(Address("127.0.0.1", 0),),
        poll_interval=3600,
    )
    return replace(settings, **fields)  # type: ignore[arg-type]  # the test names the fields


def _loopback_pair() -> tuple[socket.socket, socket.socket]:
    """A TCP connection of a test with itself; `flush_loopback` says what for."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    for sock in (one, other):
        sock.settimeout(WAIT)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one, other


def _shown(data: bytes) -> str:
    if len(data) <= SHOWN:
        return repr(data)
    return f"{data[: SHOWN // 2]!r}...{data[-SHOWN // 2 :]!r} ({len(data)} bytes)"


@dataclass(frozen=True)
class Exchange:
    """One request and its response, as the two sides got them."""

    connection: UpstreamConnection
    request: Message
    response: Message


def exchange(
    client: Client,
    upstream: Upstream | UpstreamConnection,
    asked: bytes | None = None,
    answered: bytes | None = None,
) -> Exchange:
    """A whole exchange: on a new connection of an `Upstream`, or on one that is open.

    `asked` is GET / for app.test and `answered` a 200 if not given.
    """
    asked = request("GET /") if asked is None else asked
    client.sends(asked)
    connection = upstream.accepts() if isinstance(upstream, Upstream) else upstream
    forwarded = connection.receives_request()
    connection.sends(ok("hello") if answered is None else answered)
    answer = client.receives_response(to=forwarded.method)
    return Exchange(connection, forwarded, answer)

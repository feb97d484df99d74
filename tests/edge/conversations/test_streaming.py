"""Bodies pass in the pieces in which they come, and a reader that stops stops the writer."""

import contextlib
import fcntl
import os
import socket
import struct
import termios
import tracemalloc
from array import array
from functools import cache
from pathlib import Path

import pytest

from tests.harness import Client, Conversation, Edge, Endpoint, Upstream, UpstreamConnection, flow
from tests.messages import chunk, ok, request, response


def most_in_a_buffer(which: str) -> int:
    """Bytes to which the kernel may let a buffer of TCP grow: "rmem" or "wmem"."""
    return int(Path(f"/proc/sys/net/ipv4/tcp_{which}").read_text().split()[2])


@cache
def more_than_kernels_hold() -> bytes:
    """Between the two ends of the test are two connections. No eight bytes are twice in it."""
    count = (2 * most_in_a_buffer("rmem") + 2 * most_in_a_buffer("wmem")) // 8 + 2**20
    return array("Q", range(count)).tobytes()


MOST_HELD = 2**20
"""Bytes that the edge may hold for one reader that has stopped (1 MiB)."""

ENDLESS = 200_000_000
"""Bytes that are more than any sum of buffers."""

TINY_CHUNKS = chunk(b"x") * 10_000
"""Content of one byte each."""

SMALL = 262_144
"""Bytes of the kernel's buffers on the sides of the test: a few segments of the loopback interface,
64 KiB each. With less, every one of them waits for a timer of TCP."""


def upgraded(client: Client, upstream: Upstream) -> UpstreamConnection:
    """The upstream's side of an open tunnel."""
    client.sends(request("GET /", "Connection: upgrade", "Upgrade: raw"))
    connection = upstream.accepts()
    connection.receives_head()
    connection.sends(response("101 Switching Protocols", "Connection: upgrade", "Upgrade: raw"))
    client.receives_head()
    return connection


def asked(client: Client, upstream: Upstream) -> UpstreamConnection:
    """The upstream connection that has received a request and owes the answer."""
    client.sends(request("GET /"))
    connection = upstream.accepts()
    connection.receives_request()
    return connection


def memory_taken_while(sender: Endpoint, sends: bytes) -> int:
    """Bytes of Python objects more than before, when `sender` has sent until it was blocked."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        assert sender.sends_until_blocked(sends, at_most=ENDLESS) < ENDLESS
        return tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()


def held_by_edge(sender: Endpoint, sent: int, receiver: Endpoint) -> int:
    """Bytes that the edge has read from `sender` and not written to `receiver`.

    What lies in the four queues of the kernel is taken off, so the sizes of its buffers, which it
    chooses itself for the edge's two sockets, do not matter.
    """
    return sent - queued(sender, edges_end(sender)) - queued(edges_end(receiver), receiver)


def queued(writer: Endpoint | int, reader: Endpoint | int) -> int:
    """Bytes in the kernel between two ends of a connection."""
    return _in_queue(writer, termios.TIOCOUTQ) + _in_queue(reader, termios.FIONREAD)


def _in_queue(end: Endpoint | int, which: int) -> int:
    descriptor = end if isinstance(end, int) else end.sock.fileno()
    (size,) = struct.unpack("i", fcntl.ioctl(descriptor, which, bytes(4)))
    return int(size)


def edges_end(endpoint: Endpoint) -> int:
    """The descriptor of the edge's end of this connection: it is in this process, too."""
    wanted = endpoint.sock.getpeername(), endpoint.sock.getsockname()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            copy = os.dup(int(entry.name))
        except OSError:
            continue
        try:
            with socket.socket(fileno=copy) as sock:
                if (sock.getsockname(), sock.getpeername()) == wanted:
                    return int(entry.name)
        except OSError:
            # Not a socket, or not connected; where nothing was made of it, it is still ours.
            with contextlib.suppress(OSError):
                os.close(copy)
    return endpoint.conversation.fails(f"{endpoint.name} is not connected to the edge")


@pytest.fixture
def client(edge: Edge) -> Client:
    """A client with small buffers."""
    return edge.connects(receive_buffer=SMALL, send_buffer=SMALL)


@pytest.fixture
def upstream(conversation: Conversation) -> Upstream:
    """The target of app.test, with small buffers."""
    return Upstream(conversation, receive_buffer=SMALL, send_buffer=SMALL)


class TestBackpressure:
    """RFC 9112 section 9.3.2 and RFC 9110 section 17.5: every accumulation has a bound."""

    @pytest.mark.parametrize(
        ("fields", "piece"),
        [
            ([f"Content-Length: {ENDLESS}"], b"x" * 65536),
            (["Transfer-Encoding: chunked"], chunk(b"x" * 65536)),
            ([], b"x" * 65536),
        ],
    )
    def test_a_client_that_stops_reading_stops_the_upstream(
        self, client: Client, upstream: Upstream, fields: list[str], piece: bytes
    ) -> None:
        connection = asked(client, upstream)
        connection.sends(response("200 OK", *fields))
        client.receives_head()
        sent = connection.sends_until_blocked(piece, at_most=ENDLESS)
        assert sent < ENDLESS
        assert held_by_edge(connection, sent, client) <= MOST_HELD

    @pytest.mark.parametrize(
        ("fields", "piece"),
        [
            (f"Content-Length: {ENDLESS}", b"x" * 65536),
            ("Transfer-Encoding: chunked", chunk(b"x" * 65536)),
        ],
    )
    def test_an_upstream_that_stops_reading_stops_the_client(
        self, client: Client, upstream: Upstream, fields: str, piece: bytes
    ) -> None:
        client.sends(request("POST /", fields))
        connection = upstream.accepts()
        connection.receives_head()
        sent = client.sends_until_blocked(piece, at_most=ENDLESS)
        assert sent < ENDLESS
        assert held_by_edge(client, sent, connection) <= MOST_HELD

    def test_tiny_chunks_of_a_response_cost_no_more_memory(
        self, client: Client, upstream: Upstream
    ) -> None:
        """An object of Python for each of them would be 200 bytes for one."""
        connection = asked(client, upstream)
        connection.sends(response("200 OK", "Transfer-Encoding: chunked"))
        client.receives_head()
        assert memory_taken_while(connection, TINY_CHUNKS) <= 2 * MOST_HELD

    def test_tiny_chunks_of_a_request_cost_no_more_memory(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("POST /", "Transfer-Encoding: chunked"))
        connection = upstream.accepts()
        connection.receives_head()
        assert memory_taken_while(client, TINY_CHUNKS) <= 2 * MOST_HELD

    def test_a_client_that_stops_reading_stops_a_tunnel(
        self, client: Client, upstream: Upstream
    ) -> None:
        connection = upgraded(client, upstream)
        sent = connection.sends_until_blocked(b"x" * 65536, at_most=ENDLESS)
        assert sent < ENDLESS
        assert held_by_edge(connection, sent, client) <= MOST_HELD

    def test_an_upstream_that_stops_reading_stops_a_tunnel(
        self, client: Client, upstream: Upstream
    ) -> None:
        connection = upgraded(client, upstream)
        sent = client.sends_until_blocked(b"x" * 65536, at_most=ENDLESS)
        assert sent < ENDLESS
        assert held_by_edge(client, sent, connection) <= MOST_HELD

    def test_one_direction_of_a_tunnel_does_not_stop_the_other(
        self, client: Client, upstream: Upstream
    ) -> None:
        connection = upgraded(client, upstream)
        connection.sends_until_blocked(b"x" * 65536, at_most=ENDLESS)
        for word in (b"one", b"two"):
            client.sends(word)
            connection.receives(word)

    def test_a_body_for_which_no_connection_is_there_yet_is_bounded(
        self, client: Client, upstream: Upstream
    ) -> None:
        """While the edge still connects, the client's body has nowhere to go."""
        upstream.swallows()
        client.sends(request("POST /", f"Content-Length: {ENDLESS}"))
        sent = client.sends_until_blocked(b"x" * 65536, at_most=ENDLESS)
        assert sent < ENDLESS
        assert sent - queued(client, edges_end(client)) <= MOST_HELD

    def test_pipelined_requests_behind_a_slow_answer_are_bounded(
        self, client: Client, upstream: Upstream
    ) -> None:
        asked(client, upstream)
        sent = client.sends_until_blocked(request("GET /more") * 1000, at_most=ENDLESS)
        assert sent - queued(client, edges_end(client)) <= MOST_HELD

    def test_pipelined_requests_whose_answers_are_not_read_are_bounded(
        self, client: Client, upstream: Upstream
    ) -> None:
        """Errors of the edge's own cost a client nothing to ask for, and no upstream slows it."""
        questions = request("GET /", host="unknown.test") * 1000
        assert memory_taken_while(client, questions) <= 2 * MOST_HELD
        upstream.accepts_nothing()

    def test_an_upstream_that_has_not_taken_a_whole_request_gets_no_other_one(
        self, client: Client, upstream: Upstream
    ) -> None:
        """RFC 9112 section 9.3: it has answered, but the rest of the body is still to be sent."""
        client.sends(request("POST /", "Transfer-Encoding: chunked"))
        connection = upstream.accepts()
        connection.receives_head()
        sent = 0
        while held_by_edge(client, sent, connection) < 100_000:
            piece = chunk(b"x" * 65536)
            client.sends(piece)
            client.conversation.settle()
            sent += len(piece)
        client.sends(chunk(""))
        client.conversation.settle()
        connection.sends(ok("enough"))
        assert client.receives_response().text == "enough"
        client.sends(request("GET /"))
        fresh = upstream.accepts()
        fresh.receives_request()
        fresh.sends(ok("hello"))
        assert client.receives_response().text == "hello"

    def test_after_a_stop_everything_arrives(self, client: Client, upstream: Upstream) -> None:
        body = more_than_kernels_hold()
        connection = asked(client, upstream)
        connection.sends(response("200 OK", f"Content-Length: {len(body)}"))
        client.receives_head()
        sent = connection.sends_until_blocked(body, at_most=len(body))
        assert sent < len(body)
        received = flow(connection, client, body[sent:])
        received += client.takes(len(body) - len(received))
        assert received == body

    def test_after_a_stop_an_upload_arrives(self, client: Client, upstream: Upstream) -> None:
        body = more_than_kernels_hold()
        client.sends(request("POST /", f"Content-Length: {len(body)}"))
        connection = upstream.accepts()
        connection.receives_head()
        sent = client.sends_until_blocked(body, at_most=len(body))
        assert sent < len(body)
        received = flow(client, connection, body[sent:])
        received += connection.takes(len(body) - len(received))
        assert received == body
        connection.sends(ok("all of it"))
        assert client.receives_response().text == "all of it"


class TestStreams:
    """RFC 9110 section 7.6: what comes is passed on as it comes."""

    @pytest.mark.parametrize(
        "fields",
        [
            ["Content-Type: text/event-stream", "Transfer-Encoding: chunked"],
            ["Content-Type: text/html", "Transfer-Encoding: chunked"],
            ["Content-Type: application/octet-stream", "Content-Length: 1000000"],
            ["Content-Type: text/plain"],
        ],
    )
    def test_a_head_passes_without_its_body(
        self, client: Client, upstream: Upstream, fields: list[str]
    ) -> None:
        connection = asked(client, upstream)
        connection.sends(response("200 OK", *fields))
        assert client.receives_head()["Content-Type"] == fields[0].split(": ")[1]

    def test_events_pass_one_by_one(self, client: Client, upstream: Upstream) -> None:
        connection = asked(client, upstream)
        connection.sends(
            response("200 OK", "Content-Type: text/event-stream", "Transfer-Encoding: chunked")
        )
        client.receives_head()
        for number in range(20):
            event = f"id: {number}\ndata: hello\n\n"
            connection.sends(chunk(event))
            client.receives_data(event)
            client.receives_no_data()
        connection.sends(chunk(""))
        client.receives_end()

    def test_a_piece_of_a_chunk_passes_at_once(self, client: Client, upstream: Upstream) -> None:
        connection = asked(client, upstream)
        connection.sends(response("200 OK", "Transfer-Encoding: chunked", body=b"a\r\n01234"))
        client.receives_head()
        client.receives_data("01234")
        connection.sends(b"56789")
        client.receives_data("56789")
        connection.sends(b"\r\n0\r\n\r\n")
        client.receives_end()

    @pytest.mark.parametrize("fields", [["Content-Length: 30"], []])
    def test_pieces_without_chunks_pass_at_once(
        self, client: Client, upstream: Upstream, fields: list[str]
    ) -> None:
        connection = asked(client, upstream)
        connection.sends(response("200 OK", *fields))
        client.receives_head()
        for number in range(3):
            connection.sends(b"piece %4d" % number)
            client.receives_data(b"piece %4d" % number)

    def test_an_upload_passes_piece_by_piece(self, client: Client, upstream: Upstream) -> None:
        client.sends(request("POST /", "Content-Length: 40"))
        connection = upstream.accepts()
        connection.receives_head()
        for number in range(4):
            client.sends(b"piece %4d" % number)
            connection.receives_data(b"piece %4d" % number)
        connection.receives_end()
        connection.sends(ok("done"))
        assert client.receives_response().text == "done"

    def test_a_chunked_upload_passes_chunk_by_chunk(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("POST /", "Transfer-Encoding: chunked"))
        connection = upstream.accepts()
        connection.receives_head()
        for number in range(10):
            client.sends(chunk(f"piece {number}"))
            connection.receives_data(f"piece {number}")
            connection.receives_no_data()
        client.sends(chunk(""))
        connection.receives_end()
        connection.sends(ok("done"))
        assert client.receives_response().text == "done"

    def test_chunks_pass_both_ways_at_the_same_time(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("POST /", "Transfer-Encoding: chunked"))
        connection = upstream.accepts()
        connection.receives_head()
        connection.sends(response("200 OK", "Transfer-Encoding: chunked"))
        client.receives_head()
        for number in range(10):
            client.sends(chunk(f"question {number}"))
            connection.receives_data(f"question {number}")
            connection.sends(chunk(f"answer {number}"))
            client.receives_data(f"answer {number}")
        client.sends(chunk(""))
        connection.receives_end()
        connection.sends(chunk(""))
        client.receives_end()

    def test_a_body_that_comes_byte_by_byte_is_whole(
        self, client: Client, upstream: Upstream
    ) -> None:
        connection = asked(client, upstream)
        whole = response(
            "200 OK",
            "Transfer-Encoding: chunked",
            body=b"5\r\nhello\r\n1;x\r\n!\r\n0\r\nT: u\r\n\r\n",
        )
        connection.sends_in_pieces(whole)
        assert client.receives_response().text == "hello!"

    @pytest.mark.parametrize("size", [1, 255, 65_536, 5_000_000])
    def test_bodies_of_any_size_are_whole(
        self, client: Client, upstream: Upstream, size: int
    ) -> None:
        body = (bytes(range(251)) * (size // 251 + 1))[:size]
        connection = asked(client, upstream)
        connection.sends(response("200 OK", f"Content-Length: {size}"))
        client.receives_head()
        received = flow(connection, client, body)
        assert received + client.takes(size - len(received)) == body

    def test_a_large_body_that_came_with_its_head_is_whole(
        self, client: Client, upstream: Upstream
    ) -> None:
        body = bytes(range(256)) * 1000
        connection = asked(client, upstream)
        connection.sends(ok(body))
        assert client.receives_response().body == body

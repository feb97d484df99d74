"""Proves how whole response heads are read and rewritten, by either codec."""

import pytest

from edge.wire.framing import CHUNKED, UNTIL_CLOSE, FramingError
from edge.wire.response_head import ResponseHead
from edge.wire.response_reader import JOIN_LIMIT
from tests.edge.wire.twins import ID_LINE, needs_compiled, response_reader_of
from tests.messages import DATE, response

HEAD = b"HTTP/1.1 200 OK\r\nDate: now\r\nServer: x\r\nContent-Length: 5\r\nX-A: \xff b\r\n\r\n"

ORDINARY = {
    "one with a length": response("200 OK", DATE, "Content-Length: 5", body="hello"),
    "one in chunks": response("200 OK", DATE, "Transfer-Encoding: chunked"),
    "one without an end": response("200 OK", DATE),
    "one without a body": response("304 Not Modified", DATE, "Content-Length: 5"),
    "one without content": response("204 No Content", DATE),
    "that of node": response("200 OK", DATE, "Connection: keep-alive", "Keep-Alive: timeout=5"),
    "the last of a connection": response("404 Not Found", DATE, "Connection: close"),
}


def read_head(codec: str, data: bytes, hide_server: bool = False) -> ResponseHead:
    """Of a response that is there."""
    read = response_reader_of(codec, hide_server).read(data, b"")
    assert read is not None
    assert read[1] == b""
    return read[0]


def test_what_goes_on_is_ready_for_a_client_that_stays(codec: str) -> None:
    read = response_reader_of(codec).read(HEAD + b"hello", ID_LINE)
    assert read is not None
    head, start = read
    assert start == HEAD[:-2] + ID_LINE + b"hello"
    assert (head.size, head.fields, head.status) == (len(HEAD), HEAD[:-2], 200)
    assert (head.has_date, head.keep_alive, head.keep_alive_seconds) == (True, True, None)
    assert head.length(b"GET") == head.passthrough_length == head.framing_length == 5
    assert head.length(b"HEAD") == 0


@pytest.mark.parametrize(
    ("data", "start"),
    [
        (HEAD, HEAD[:-2] + ID_LINE),
        (HEAD + b"hell", HEAD[:-2] + ID_LINE),
        (HEAD + b"hello!", b""),
        (HEAD.replace(b"Date", b"Data") + b"hello", b""),
        (b"HTTP/1.1 100 Continue\r\n\r\n", b""),
        (
            b"HTTP/1.1 200 OK\r\nDate: now\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nDate: now\r\nTransfer-Encoding: chunked\r\n" + ID_LINE,
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-encoding: Chunked\r\nDate: now\r\n\r\n5\r\n",
            b"HTTP/1.1 200 OK\r\nDate: now\r\nTransfer-Encoding: chunked\r\n" + ID_LINE,
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-encoding: chunked\r\n\r\n", b""),
        (
            b"HTTP/1.1 204 No\r\nDate: now\r\nContent-Length: 5\r\n\r\n",
            b"HTTP/1.1 204 No\r\nDate: now\r\n" + ID_LINE,
        ),
    ],
)
def test_the_beginning_for_the_client(codec: str, data: bytes, start: bytes) -> None:
    read = response_reader_of(codec).read(data, ID_LINE)
    assert read is not None
    assert read[1] == start


@pytest.mark.parametrize("size", [JOIN_LIMIT, JOIN_LIMIT + 1])
def test_a_large_body_is_not_joined_with_its_head(codec: str, size: int) -> None:
    head = HEAD.replace(b": 5", b": %d" % size)
    read = response_reader_of(codec).read(head + b"x" * size, ID_LINE)
    assert read is not None
    assert len(read[1]) == len(head) - 2 + len(ID_LINE) + (size if size == JOIN_LIMIT else 0)


@pytest.mark.parametrize("octet", [*range(9), *range(11, 13), *range(14, 32), 127])
def test_a_control_octet_is_refused(codec: str, octet: int) -> None:
    for place in (b"X-A: ", b"X-A", b" OK", b"\xff b", b"HTTP/1.1 "):
        with pytest.raises(FramingError):
            response_reader_of(codec).read(HEAD.replace(place, place + b"%c" % octet), b"")


def test_the_server_is_hidden_where_the_edge_is_told_to(codec: str) -> None:
    assert b"Server" not in read_head(codec, HEAD, hide_server=True).fields
    assert b"\r\nServer: x\r\n" in read_head(codec, HEAD).fields


@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1"])
def test_the_fields_of_the_hop_end_here(codec: str, version: bytes) -> None:
    head = read_head(
        codec,
        version + b" 204\r\nConnection: close, X-Hop\r\nKeep-Alive: timeout=7\r\nX-Hop: 1\r\n"
        b"Content-Length: 0\r\nTE: a\r\nX-Request-Id: b\r\nX-Kept: c\r\n\r\n",
    )
    assert head.fields == b"HTTP/1.1 204 \r\nX-Kept: c\r\n"
    assert not head.keep_alive
    assert head.keep_alive_seconds == 7
    assert head.passthrough_length == -1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("timeout=5, max=100", 5),
        ("max=1,TIMEOUT=123456", 123456),
        ("timeout=x, timeout=9", 9),
        ("timeout=1234567", None),
        ("timeout = 5", None),
        ("timeout=", None),
        ("", None),
    ],
)
def test_how_long_the_upstream_waits(codec: str, value: str, seconds: int | None) -> None:
    head = read_head(codec, response("200 OK", f"Keep-Alive: {value}"))
    assert head.keep_alive_seconds == seconds


def test_a_body_without_a_length_is_chunked_or_ends_with_the_connection(codec: str) -> None:
    chunked = read_head(codec, response("200 OK", DATE, "Transfer-Encoding: chunked"))
    assert chunked.length(b"GET") == CHUNKED
    assert chunked.passthrough_length == -1
    assert b"Transfer" not in chunked.fields
    assert read_head(codec, response("200 OK", DATE)).length(b"GET") == UNTIL_CLOSE


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 5", "Content-Length: 5"),
        ("Content-Length: +5",),
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: gzip",),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
    ],
)
@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "304 Not Modified"])
def test_doubtful_framing_is_refused(codec: str, lines: tuple[str, ...], status: str) -> None:
    with pytest.raises(FramingError):
        response_reader_of(codec).read(response(status, DATE, *lines), b"")


def test_limits(codec: str) -> None:
    assert response_reader_of(codec, max_head=len(HEAD), max_fields=4).read(HEAD, b"") is not None
    with pytest.raises(FramingError, match="too many"):
        response_reader_of(codec, max_fields=3).read(HEAD, b"")
    with pytest.raises(FramingError, match="too large"):
        response_reader_of(codec, max_head=len(HEAD) - 1).read(HEAD, b"")


def test_a_head_that_is_not_whole_is_none(codec: str) -> None:
    for end in range(len(HEAD)):
        assert response_reader_of(codec).read(HEAD[:end], b"") is None


@needs_compiled
@pytest.mark.parametrize("kind", ORDINARY)
def test_an_ordinary_response_does_not_go_back_to_python(kind: str) -> None:
    from edge.wire import _codec

    reader = response_reader_of("compiled")
    assert isinstance(reader, _codec.ResponseReader)
    assert reader.take(ORDINARY[kind], ID_LINE) is not None

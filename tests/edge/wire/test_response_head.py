"""Proves the response side of heads, alone; hostile ones are in tests/edge/hostile."""

import pytest

from edge.wire.framing import CHUNKED, FramingError
from edge.wire.response_head import check_incomplete_response, parse_response_head

HEAD = b"HTTP/1.1 200 OK\r\nDate: now\r\nServer: x\r\nContent-Length: 5\r\nX-A: \xff b\r\n\r\n"


def test_no_prefix_of_a_good_head_is_refused() -> None:
    for end in range(len(HEAD)):
        check_incomplete_response(HEAD[:end], 1024)


@pytest.mark.parametrize("octet", [*range(9), *range(11, 13), *range(14, 32), 127])
def test_a_control_octet_is_refused_whole_and_in_pieces(octet: int) -> None:
    head = HEAD.replace(b"X-A: ", b"X-A: %c" % octet)
    with pytest.raises(FramingError):
        parse_response_head(head, 100, False)
    with pytest.raises(FramingError):
        check_incomplete_response(head[:-2], 1024)


@pytest.mark.parametrize(
    "start", [b"HTTP/2 200", b"HTTP/1.1 2000", b"HTTP/1.1  200", b"http/1.1 200", b"HTTP/1.1 099"]
)
def test_what_cannot_become_a_status_line_is_refused_at_once(start: bytes) -> None:
    with pytest.raises(FramingError, match="status line"):
        check_incomplete_response(start, 1024)


def test_a_head_without_end_is_refused_at_its_limit() -> None:
    head = b"HTTP/1.1 200 OK\r\nX: " + b"a" * 1000
    check_incomplete_response(head, len(head))
    with pytest.raises(FramingError, match="too large"):
        check_incomplete_response(head, len(head) - 1)


def test_what_is_forwarded_is_ready_for_a_client_that_stays() -> None:
    head = parse_response_head(HEAD, 100, False)
    assert head.fields == HEAD[:-2]
    assert (head.status, head.has_date, head.keep_alive) == (200, True, True)
    assert head.length(b"GET") == head.passthrough_length == 5
    assert head.length(b"HEAD") == 0


def test_the_server_is_hidden_where_the_edge_is_told_to() -> None:
    assert b"Server" not in parse_response_head(HEAD, 100, True).fields


def test_the_fields_of_the_hop_end_here() -> None:
    head = parse_response_head(
        b"HTTP/1.0 204\r\nConnection: close, X-Hop\r\nKeep-Alive: timeout=7\r\nX-Hop: 1\r\n"
        b"Content-Length: 0\r\nTE: a\r\nX-Request-Id: b\r\nX-Kept: c\r\n\r\n",
        100,
        False,
    )
    assert head.fields == b"HTTP/1.1 204 \r\nX-Kept: c\r\n"
    assert not head.keep_alive
    assert head.keep_alive_seconds == 7
    assert head.passthrough_length == -1


def test_a_body_without_a_length_is_chunked_or_ends_with_the_connection() -> None:
    start = b"HTTP/1.1 200 OK\r\nDate: now\r\n"
    chunked = parse_response_head(start + b"Transfer-Encoding: chunked\r\n\r\n", 100, False)
    assert chunked.length(b"GET") == CHUNKED
    assert chunked.passthrough_length == -1
    assert parse_response_head(start + b"\r\n", 100, False).length(b"GET") < 0


def test_more_fields_than_the_limit_are_refused() -> None:
    parse_response_head(HEAD, 4, False)
    with pytest.raises(FramingError, match="too many"):
        parse_response_head(HEAD, 3, False)

"""Proves what `edge.wire.response_head` says of heads that are not whole yet.

Whole ones are in test_response_reader.py, hostile ones in tests/edge/hostile.
"""

import pytest

from edge.wire.framing import FramingError
from edge.wire.response_head import check_incomplete_response

HEAD = b"HTTP/1.1 200 OK\r\nDate: now\r\nServer: x\r\nContent-Length: 5\r\nX-A: \xff b\r\n\r\n"


def test_no_prefix_of_a_good_head_is_refused() -> None:
    for end in range(len(HEAD)):
        check_incomplete_response(HEAD[:end], 1024)


@pytest.mark.parametrize("octet", [*range(9), *range(11, 13), *range(14, 32), 127])
def test_a_control_octet_is_refused_before_the_head_is_whole(octet: int) -> None:
    with pytest.raises(FramingError):
        check_incomplete_response(HEAD.replace(b"X-A: ", b"X-A: %c" % octet)[:-2], 1024)


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

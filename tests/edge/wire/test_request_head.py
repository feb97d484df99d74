"""Proves what `edge.wire.request_head` says of heads that are not whole yet, and of their lines."""

import pytest

from edge.errors import HttpError
from edge.wire.request_head import check_incomplete_head, match_request_line


@pytest.mark.parametrize("octet", [*range(9), *range(11, 13), *range(14, 32), 127])
def test_a_control_octet_is_refused_before_the_head_is_whole(octet: int) -> None:
    with pytest.raises(HttpError):
        check_incomplete_head(
            b"GET / HTTP/1.1\r\nHost: a.test\r\nX: a%cb\r\n" % octet, 0, 8192, 32768
        )


def test_no_prefix_of_a_good_head_is_refused() -> None:
    whole = b"GET / HTTP/1.1\r\nHost: a.test\r\nX: \xff a\tb\r\n\r\n"
    for end in range(len(whole)):
        check_incomplete_head(whole[:end], max(0, end - 1), 8192, 32768)


def test_no_prefix_of_a_head_with_a_long_method_and_the_longest_target_is_refused() -> None:
    line = b"M" * 50 + b" /" + b"a" * 8191 + b" HTTP/1.1\r\n"
    match = match_request_line(line)
    assert match is not None
    assert len(match[2]) <= 8192
    check_incomplete_head(line[:-2], 0, 8192, 32768)

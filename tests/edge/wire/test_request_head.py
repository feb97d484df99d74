"""Proves the request side of `edge.wire.request_head`, alone and with `edge.wire.forwarding`."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import HttpError
from edge.wire.forwarding import Peer, compose_fields
from edge.wire.request_head import check_incomplete_head, match_request_line, parse_request_fields
from tests.messages import Head

SMALL = settings(max_examples=200, derandomize=True, deadline=None)
REMOVED = ("keep-alive", "proxy-connection", "te", "trailer", "x-forwarded-for", "forwarded")


@SMALL
@given(
    st.lists(st.binary(max_size=12).map(lambda b: bytes(c for c in b if c > 32 and c != 127))),
    st.sampled_from(REMOVED),
    st.sampled_from([str.upper, str.lower, lambda name: name.replace("-", "_")]),
)
def test_fields_keep_order_and_bytes_and_no_field_of_the_hop_survives(
    values: list[bytes], name: str, spelling: object
) -> None:
    assert callable(spelling)
    lines = [b"X-%d: %b\r\n" % pair for pair in enumerate(values)]
    removed = f"{spelling(name)}: evil-mark\r\n".encode()
    start = b"GET / HTTP/1.1\r\n"
    section = b"\r\nHost: a.test\r\n" + removed + b"".join(lines) + b"\r\n"
    whole = start[:-2] + section
    for end in range(len(whole)):
        check_incomplete_head(whole[:end], max(0, end - 1), 8192, 32768)
    sent = compose_fields(
        parse_request_fields(section, 1, 1000), b"a.test", b"a.test", Peer("192.0.2.1", ())
    )
    assert b"".join(lines) in sent
    assert b"evil-mark" not in sent
    assert Head.parse(b"GET / HTTP/1.1\r\n" + sent + b"\r\n").all("Host") == ["a.test"]


@pytest.mark.parametrize("octet", [*range(9), *range(10, 32), 127])
def test_a_control_octet_is_refused_whole_and_in_pieces(octet: int) -> None:
    section = b"\r\nHost: a.test\r\nX: a%cb\r\n\r\n" % octet
    with pytest.raises(HttpError):
        parse_request_fields(section, 1, 100)
    with pytest.raises(HttpError):
        check_incomplete_head(b"GET / HTTP/1.1" + section[:-2], 0, 8192, 32768)


def test_no_prefix_of_a_head_with_a_long_method_and_the_longest_target_is_refused() -> None:
    line = b"M" * 50 + b" /" + b"a" * 8191 + b" HTTP/1.1\r\n"
    match = match_request_line(line)
    assert match is not None
    assert len(match[2]) <= 8192
    check_incomplete_head(line[:-2], 0, 8192, 32768)

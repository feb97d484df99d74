"""Proves `edge.wire.local_reply`."""

import pytest

from edge.wire.local_reply import prefers_json, response, trace_content
from edge.wire.request_head import parse_request_fields


@pytest.mark.parametrize(
    ("accept", "json"),
    [
        (b"", False),
        (b"*/*", False),
        (b"application/json", True),
        (b"application/json;q=0", False),
        (b"application/json;q=x", False),
        (b"text/plain;q=0.5, application/*", True),
    ],
)
def test_json_is_sent_only_to_those_who_prefer_it(accept: bytes, json: bool) -> None:
    assert prefers_json(accept) is json


def test_an_answer_to_head_has_the_length_and_no_content() -> None:
    whole = (
        b"HTTP/1.1 413 Content Too Large\r\nA: b\r\nContent-Length: 2\r\nX-Request-Id: 7\r\n\r\n"
    )
    id_line = b"X-Request-Id: 7\r\n\r\n"
    assert response(413, [b"A: b"], id_line, b"xy", with_content=False) == whole
    assert response(413, [b"A: b"], id_line, b"xy", with_content=True) == whole + b"xy"


def test_a_trace_shows_the_way_of_a_request_and_nothing_that_it_carried() -> None:
    fields = parse_request_fields(
        b"\r\nhost: a.test\r\nCookie: secret\r\nAuthorization: secret\r\nVia: 1.1 b\r\n\r\n", 1, 100
    )
    assert trace_content(b"/x", fields) == (
        b"TRACE /x HTTP/1.1\r\nHost: a.test\r\nVia: 1.1 b\r\n\r\n"
    )

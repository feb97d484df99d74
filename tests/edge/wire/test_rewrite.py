"""Proves `edge.wire.rewrite`."""

import pytest

from edge.errors import HttpError
from edge.wire.request_head import parse_request_fields
from edge.wire.rewrite import authorization, is_last_hop, parse_max_forwards, rewritten_head

ID_LINE = b"X-Request-Id: 7\r\n\r\n"
SECTION = b"Host: a.test\r\nAUTHORIZATION: Basic eA==\r\nMax-Forwards: 5\r\nA: b\r\n"


def test_what_nothing_changes_stays_as_it_is() -> None:
    assert rewritten_head(b"GET", b"/x", SECTION, ID_LINE) == (
        b"GET /x HTTP/1.1\r\n" + SECTION + ID_LINE
    )


@pytest.mark.parametrize("method", [b"OPTIONS", b"TRACE"])
def test_max_forwards_is_counted_down(method: bytes) -> None:
    head = rewritten_head(method, b"/", SECTION, ID_LINE, max_forwards=b"5")
    assert b"\r\nMax-Forwards: 4\r\n" in head
    assert head.lower().count(b"max-forwards") == 1


def test_max_forwards_means_nothing_to_other_methods() -> None:
    head = rewritten_head(b"GET", b"/", SECTION, ID_LINE, max_forwards=b"x")
    assert head.endswith(SECTION + ID_LINE)


def test_authorization_goes_in_any_spelling_and_takes_nothing_along() -> None:
    head = rewritten_head(b"GET", b"/", SECTION, ID_LINE, drop_authorization=True)
    assert head == (
        b"GET / HTTP/1.1\r\nHost: a.test\r\nMax-Forwards: 5\r\nA: b\r\nX-Request-Id: 7\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("method", "value", "last"),
    [(b"TRACE", b"0", True), (b"OPTIONS", b"0", True), (b"TRACE", b"1", False)],
)
def test_the_last_hop_is_where_the_count_is_0(method: bytes, value: bytes, last: bool) -> None:
    assert is_last_hop(method, value) is last
    assert is_last_hop(b"GET", value) is False


@pytest.mark.parametrize("value", [b"", b"-1", b"+1", b"1.0", b"1,1", b"1234567890"])
def test_a_max_forwards_that_is_no_small_number_is_refused(value: bytes) -> None:
    with pytest.raises(HttpError) as raised:
        parse_max_forwards(value)
    assert raised.value.status == 400


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        (b"", b""),
        (b"authorization:  Basic eA== \r\n", b"Basic eA=="),
        (b"Authorization: a\r\nAuthorization: b\r\n", b"a, b"),
        (b"X-Authorization: a\r\n", b""),
    ],
)
def test_the_value_of_authorization(lines: bytes, value: bytes) -> None:
    fields = parse_request_fields(b"\r\nHost: a.test\r\n" + lines + b"\r\n", 1, 100)
    assert authorization(fields) == value

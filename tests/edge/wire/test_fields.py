"""Proves what request and response heads read alike."""

import pytest

from edge.wire.fields import connection_options, list_members, without


@pytest.mark.parametrize(
    ("values", "members"),
    [
        ([], []),
        ([b""], []),
        ([b"a"], [b"a"]),
        ([b"a, b ,\tc"], [b"a", b"b", b"c"]),
        ([b",a,,", b" b"], [b"a", b"b"]),
    ],
)
def test_a_list_is_read_over_all_its_lines_without_empty_members(
    values: list[bytes], members: list[bytes]
) -> None:
    assert list_members(values) == members


@pytest.mark.parametrize(
    ("value", "options"),
    [
        (b"", frozenset()),
        (b"Close", frozenset({b"close"})),
        (b"keep-alive, X-Secret,", frozenset({b"keep-alive", b"x-secret"})),
        (b"a b", None),
        (b"close, (", None),
    ],
)
def test_an_option_of_connection_is_a_token(value: bytes, options: frozenset[bytes] | None) -> None:
    assert connection_options(value) == options


def test_fields_are_taken_out_however_they_are_spelled() -> None:
    section = b"\r\nX-Secret: 1\r\nx_secret: 2\r\nX-Secrets: 3\r\nX-SECRET:"
    assert without(section, {b"x-secret"}) == b"\r\nX-Secrets: 3"

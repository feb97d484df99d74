"""Proves `edge.wire.request_id`."""

from itertools import islice

import pytest

from edge.wire.request_id import MAX_LENGTH, id_in, line_for, new_lines


def test_no_two_ids_are_alike_not_even_those_of_two_processes() -> None:
    lines = [*islice(new_lines(), 1000), *islice(new_lines(), 1000)]
    assert len(set(lines)) == 2000
    assert min(len(id_in(line)) for line in lines) >= 16


def test_a_line_ends_the_head_and_carries_a_token() -> None:
    line = next(new_lines())
    assert line == b"X-Request-Id: %b\r\n\r\n" % id_in(line).encode()
    assert line_for([id_in(line).encode()]) == line


@pytest.mark.parametrize(
    ("said", "believed"),
    [
        ((), False),
        ((b"",), False),
        ((b"a",), True),
        ((b"!#$%&'*+-.^_`|~09AZaz",), True),
        ((b"x" * MAX_LENGTH,), True),
        ((b"x" * (MAX_LENGTH + 1),), False),
        ((b"a b",), False),
        ((b"a,b",), False),
        ((b"a\xe9",), False),
        ((b"a", b"a"), False),
    ],
)
def test_only_one_token_of_bounded_length_is_an_id(said: tuple[bytes, ...], believed: bool) -> None:
    assert bool(line_for(said)) is believed

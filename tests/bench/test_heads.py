"""The heads of real traffic: valid, different, and the same for one seed."""

from collections.abc import Callable

import pytest

from bench.heads import heads, odd_heads
from edge.wire.request_head import match_request_line, parse_request_fields

HOST = "shop.example.test"
SETS = pytest.mark.parametrize("make", [heads, odd_heads])


@SETS
def test_no_two_of_a_set_are_alike_and_a_seed_makes_the_same_again(
    make: Callable[[int, str, int], list[bytes]],
) -> None:
    made = make(1, HOST, 500)
    assert len(set(made)) == 500
    assert made == make(1, HOST, 500)
    assert not set(made) & set(make(2, HOST, 500))


@SETS
def test_the_edge_takes_all_of_them(make: Callable[[int, str, int], list[bytes]]) -> None:
    for head in make(1, HOST, 500):
        line = match_request_line(head)
        assert line is not None
        assert line[2].startswith(b"/varied/")
        fields = parse_request_fields(head[head.index(b"\r\n") :], 1, 100)
        assert fields.host == HOST


def test_cookies_and_heads_have_the_lengths_of_the_internet() -> None:
    made = heads(1, HOST, 2000)
    cookies = [
        len(line.partition(b": ")[2])
        for head in made
        for line in head.split(b"\r\n")
        if line.startswith(b"Cookie: ")
    ]
    assert 200 <= min(cookies) < 300
    assert 1300 < max(cookies) <= 1500
    assert 1200 < sum(map(len, made)) / len(made) < 1600


def test_the_odd_ones_differ_in_order_and_casing() -> None:
    made = odd_heads(1, HOST, 500)
    names = [tuple(line.partition(b":")[0] for line in head.split(b"\r\n")[1:-2]) for head in made]
    assert {name[0].lower() for name in names} >= {b"host", b"cookie", b"accept", b"user-agent"}
    assert {b"Host", b"host", b"HOST"} <= {name for each in names for name in each}

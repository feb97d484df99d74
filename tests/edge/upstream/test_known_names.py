"""What is known of names beyond the process that has looked them up."""

import os
from collections.abc import Iterator

import pytest

from edge.upstream import known_names
from edge.upstream.known_names import MAX_ADDRESSES, MAX_NAMES, KnownName, KnownNames, from_json


@pytest.fixture
def descriptor() -> Iterator[int]:
    made = known_names.make_descriptor()
    yield made
    os.close(made)


def test_what_was_said_last_counts_and_none_is_none() -> None:
    names = KnownNames()
    names.learn([KnownName("a", 2.0, ("192.0.2.1",)), KnownName("b", 2.0, ("192.0.2.2",))])
    names.learn([KnownName("a", 1.0, ("192.0.2.9",)), KnownName("b", 3.0, ())])
    assert names.addresses("a", since=0.0) == ("192.0.2.1",)
    assert names.addresses("a", since=2.0) == ()
    assert names.addresses("b", since=0.0) == ()


def test_it_is_bounded_and_keeps_what_was_used_last() -> None:
    names = KnownNames()
    for number in range(MAX_NAMES):
        names.learn([KnownName(str(number), 1.0, ("192.0.2.1",) * (MAX_ADDRESSES + 1))])
    names.learn([KnownName("0", 2.0, ("192.0.2.1",)), KnownName("new", 2.0, ("192.0.2.1",))])
    assert names.addresses("0", since=0.0)
    assert not names.addresses("1", since=0.0)
    assert len(names.addresses("2", since=0.0)) == MAX_ADDRESSES
    assert len(names.as_json()) == MAX_NAMES


def test_it_is_left_in_memory_over_what_was_there(descriptor: int) -> None:
    names, next_ones = KnownNames(), KnownNames()
    names.learn(KnownName(str(each), 1.0, ("192.0.2.1", "2001:db8::1")) for each in range(9))
    names.save(descriptor)
    names.learn(KnownName(str(each), 2.0, ()) for each in range(8))
    names.save(descriptor)
    next_ones.load(descriptor)
    assert from_json(next_ones.as_json()) == [KnownName("8", 1.0, ("192.0.2.1", "2001:db8::1"))]
    assert from_json([("8", 1.0, ["192.0.2.1"])]) == [KnownName("8", 1.0, ("192.0.2.1",))]

"""Proves `edge.wire.forwarded` against RFC 7239."""

import pytest

from edge.wire.forwarded import earlier_elements, element


@pytest.mark.parametrize(
    ("address", "host", "expected"),
    [
        ("192.0.2.1", b"app.test", b"for=192.0.2.1;host=app.test;proto=http"),
        ("192.0.2.1", b"app.test:8080", b'for=192.0.2.1;host="app.test:8080";proto=http'),
        ("2001:db8::1", b"[::1]:80", b'for="[2001:db8::1]";host="[::1]:80";proto=http'),
        ("192.0.2.1", b'a"b\\c', b'for=192.0.2.1;host="a\\"b\\\\c";proto=http'),
        ("192.0.2.1", b"", b'for=192.0.2.1;host="";proto=http'),
    ],
)
def test_what_is_no_token_is_quoted(address: str, host: bytes, expected: bytes) -> None:
    assert element(address, host, b"http") == expected


@pytest.mark.parametrize(
    "sound",
    [
        b"for=192.0.2.1",
        b'For="[2001:db8::1]:4711"',
        b"for=192.0.2.60;proto=http; by=203.0.113.43",
        b"for=192.0.2.43, for=198.51.100.17",
        b'for="_gazonk";ext="a, \\"b\\" ; c"',
    ],
)
def test_a_sound_field_is_kept_as_it_is(sound: bytes) -> None:
    assert earlier_elements({b"forwarded": [sound]}) == [sound]


def test_several_lines_are_one_list() -> None:
    assert earlier_elements({b"forwarded": [b"for=a", b"", b"for=b"]}) == [b"for=a, for=b"]


@pytest.mark.parametrize(
    "malformed",
    [b"", b"for", b"for=", b'for="a', b"for=a,", b"for=a;;by=b", b"for=[::1]", b"for=192.0.2.1:80"],
)
def test_a_malformed_field_is_dropped(malformed: bytes) -> None:
    assert earlier_elements({b"forwarded": [malformed]}) == []


def test_without_one_the_older_fields_are_read() -> None:
    said = {
        b"x-forwarded-for": [b"192.0.2.1, 2001:db8::1", b"somebody"],
        b"x-forwarded-host": [b"app.test:443"],
        b"x-forwarded-proto": [b"https, http"],
    }
    assert earlier_elements(said) == [
        b'for=192.0.2.1;host="app.test:443";proto=https',
        b'for="[2001:db8::1]"',
        b"for=unknown",
    ]


def test_the_older_fields_without_an_address_say_nothing() -> None:
    assert earlier_elements({b"x-forwarded-proto": [b"https"]}) == []


def test_the_older_fields_may_name_an_address_only() -> None:
    assert earlier_elements({b"x-forwarded-for": [b"192.0.2.1"]}) == [b"for=192.0.2.1"]

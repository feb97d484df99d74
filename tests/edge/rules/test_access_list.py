"""Which addresses an access list admits."""

import pytest

from edge.rules.access_list import AccessList


@pytest.mark.parametrize(
    ("allow", "deny", "admitted", "refused"),
    [
        ([], [], ["192.0.2.1", "2001:db8::1"], []),
        (
            ["10.0.0.0/8", "192.0.2.7/32"],
            [],
            ["10.0.0.0", "10.255.255.255", "192.0.2.7"],
            ["9.255.255.255", "11.0.0.0", "192.0.2.6", "192.0.2.8", "::1", "::a00:1"],
        ),
        (["2001:db8::/32"], [], ["2001:db8::1"], ["2001:db9::1", "10.0.0.1"]),
        ([], ["10.0.0.0/8"], ["11.0.0.1", "::1"], ["10.1.2.3"]),
        (["10.0.0.0/8"], ["10.1.0.0/16"], ["10.2.0.1"], ["10.1.0.1", "192.0.2.1"]),
        (["10.1.0.0/16"], ["10.0.0.0/8"], [], ["10.1.0.1"]),
        (["0.0.0.0/0"], ["0.0.0.0/1"], ["128.0.0.1"], ["127.255.255.255", "::1"]),
        (["::/0"], ["::1/128"], ["::2"], ["::1", "10.0.0.1"]),
    ],
)
def test_an_address_is_judged(
    allow: list[str], deny: list[str], admitted: list[str], refused: list[str]
) -> None:
    access = AccessList(allow, deny)
    assert [each for each in admitted + refused if access.admits(each)] == admitted


def test_ipv4_in_ipv6_is_ipv4() -> None:
    assert not AccessList([], ["10.0.0.0/8"]).admits("::ffff:10.1.2.3")
    assert AccessList(["10.0.0.0/8"], []).admits("::ffff:a01:203")

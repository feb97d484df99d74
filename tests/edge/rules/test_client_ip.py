"""Proves what is counted as one client, and in which form addresses are compared."""

from ipaddress import ip_address

import pytest

from edge.rules.client_ip import client_name, parse_client


def test_ipv4_in_ipv6_is_ipv4() -> None:
    assert parse_client("::ffff:192.0.2.1") == parse_client("192.0.2.1") == ip_address("192.0.2.1")
    assert client_name("::ffff:192.0.2.1") == client_name("192.0.2.1")
    assert client_name("::ffff:192.0.2.1") != client_name("::ffff:192.0.2.2")
    assert client_name("192.0.2.1") != client_name("192.0.2.2")


def test_a_customers_64_is_one_client() -> None:
    assert client_name("2001:db8:0:1::1") == client_name("2001:db8:0:1:ffff::2")
    assert client_name("2001:db8:0:1::1") != client_name("2001:db8:0:2::1")
    assert client_name("fe80::1%eth0") == client_name("fe80::1")
    assert parse_client("2001:db8:0:1::1") != parse_client("2001:db8:0:1:ffff::2")


@pytest.mark.parametrize("text", ["", "unix", "192.0.2.1:80", "[::1]", "192.0.2.01"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        client_name(text)

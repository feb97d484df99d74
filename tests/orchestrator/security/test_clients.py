"""Proves whose limit counts (security checklist, number 6)."""

from ipaddress import ip_network

from starlette.datastructures import Headers

from orchestrator.security.clients import Clients, client_key


def headers(**fields: str) -> Headers:
    return Headers({name.replace("_", "-"): text for name, text in fields.items()})


class TestClientAddress:
    """Whose limit counts."""

    clients = Clients([ip_network("10.0.0.0/8")])

    def test_nobody_but_a_trusted_proxy_is_believed(self) -> None:
        given = headers(x_forwarded_for="192.0.2.7")
        assert self.clients.address("198.51.100.1", given) == "198.51.100.1"
        assert self.clients.address("10.0.0.1", given) == "192.0.2.7"
        assert self.clients.address("::ffff:10.0.0.1", given) == "192.0.2.7"

    def test_what_a_client_has_put_before_is_not_believed(self) -> None:
        given = headers(x_forwarded_for="203.0.113.9, 192.0.2.7, 10.0.0.2")
        assert self.clients.address("10.0.0.1", given) == "192.0.2.7"

    def test_nonsense_ends_the_chain(self) -> None:
        assert (
            self.clients.address("10.0.0.1", headers(x_forwarded_for="192.0.2.7, x")) == "10.0.0.1"
        )
        assert self.clients.address("10.0.0.1", headers()) == "10.0.0.1"

    def test_an_endless_zone_is_nonsense(self) -> None:
        given = headers(x_forwarded_for=f"fe80::1%{'a' * 60_000}")
        assert self.clients.address("10.0.0.1", given) == "10.0.0.1"
        given = headers(x_forwarded_for="fe80::1%eth0")
        assert self.clients.address("10.0.0.1", given) == "fe80::1%eth0"

    def test_all_that_come_from_no_address_are_one(self) -> None:
        assert client_key("") == client_key("unix") == client_key("\ud800")
        assert client_key("") != client_key("192.0.2.1") != client_key("192.0.2.2")

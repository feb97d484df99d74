"""Proves who may ask the orchestrator (security checklist, number 6)."""

import stat
from ipaddress import ip_network
from pathlib import Path

import pytest
from starlette.datastructures import Headers

from orchestrator.errors import OrchestratorError
from orchestrator.security.auth import Authorizer, client_key, token_of_file

TOKEN = "the-token-of-the-tests"
HERE = "127.0.0.1:8081"


def headers(host: str = HERE, **fields: str) -> Headers:
    given = {"host": host, **{name.replace("_", "-"): text for name, text in fields.items()}}
    return Headers(given)


def status(access: Authorizer, peer: str, fields: Headers, *, websocket: bool = False) -> int:
    refusal = access.check(peer, fields, websocket=websocket)
    return 200 if refusal is None else refusal.status


MADE = Authorizer(TOKEN, token_configured=False, origins=("https://panel.test",))
SET = Authorizer(TOKEN, token_configured=True)


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
def test_a_direct_client_on_this_machine_needs_no_token_while_none_was_set(peer: str) -> None:
    assert status(MADE, peer, headers()) == 200
    assert status(SET, peer, headers()) == 401


@pytest.mark.parametrize("peer", ["", "192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "unix"])
def test_others_need_the_token(peer: str) -> None:
    assert status(MADE, peer, headers()) == 401
    assert status(MADE, peer, headers(authorization=f"Bearer {TOKEN}")) == 200


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer ", f"Basic {TOKEN}", f"Bearer {TOKEN}x"])
def test_a_wrong_token_is_refused_even_where_none_is_needed(given: str) -> None:
    assert status(MADE, "127.0.0.1", headers(authorization=given)) == 401
    assert status(SET, "127.0.0.1", headers(authorization=given)) == 401


def test_two_authorizations_are_none() -> None:
    line = (b"authorization", f"Bearer {TOKEN}".encode())
    assert status(SET, "127.0.0.1", Headers(raw=[(b"host", b"localhost"), line, line])) == 401


@pytest.mark.parametrize(
    "name", ["forwarded", "via", "x_real_ip", "x_forwarded_for", "x_forwarded_x"]
)
def test_a_client_behind_a_proxy_is_not_on_this_machine(name: str) -> None:
    assert status(MADE, "127.0.0.1", headers(**{name: "127.0.0.1"})) == 401


@pytest.mark.parametrize(
    "host", ["evil.test", "evil.test:8081", "", "127.0.0.1.evil.test", "a@127.0.0.1"]
)
def test_a_foreign_host_is_dns_rebinding(host: str) -> None:
    assert status(MADE, "127.0.0.1", headers(host)) == 401


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:8081", "box.test"]
)
def test_names_of_our_own_are_no_foreign_host(host: str) -> None:
    access = Authorizer(TOKEN, token_configured=False, hosts=("box.test",))
    assert status(access, "127.0.0.1", headers(host)) == 200


def test_two_hosts_are_foreign() -> None:
    raw = [(b"host", b"localhost"), (b"host", b"evil.test")]
    assert status(MADE, "127.0.0.1", Headers(raw=raw)) == 401


@pytest.mark.parametrize(
    "origin", ["http://evil.test", "null", "http://127.0.0.1:9999", "file://", "https://panel.test"]
)
def test_a_foreign_origin_is_refused_whoever_sends_it(origin: str) -> None:
    assert status(MADE, "127.0.0.1", headers(origin=origin)) == 403
    given = headers(origin=origin, authorization=f"Bearer {TOKEN}")
    assert status(MADE, "127.0.0.1", given) == 403


def test_the_same_origin_is_not_foreign() -> None:
    assert status(MADE, "127.0.0.1", headers(origin=f"http://{HERE}")) == 200
    token = f"Bearer {TOKEN}"
    panel = headers("panel.test", origin="https://panel.test", authorization=token)
    assert status(MADE, "192.0.2.1", panel) == 200


def test_websockets_may_come_from_the_origins_that_are_allowed() -> None:
    allowed = headers(origin="https://panel.test")
    assert status(MADE, "127.0.0.1", allowed, websocket=True) == 200
    assert status(MADE, "127.0.0.1", headers(origin="https://evil.test"), websocket=True) == 403


def test_metrics_are_for_this_machine_or_the_token() -> None:
    assert SET.can_read_metrics("127.0.0.1", headers())
    assert not SET.can_read_metrics("127.0.0.1", headers("evil.test"))
    assert not SET.can_read_metrics("192.0.2.1", headers())
    assert SET.can_read_metrics("192.0.2.1", headers(authorization=f"bearer {TOKEN}"))


class TestClientAddress:
    """Whose limit counts."""

    access = Authorizer(TOKEN, token_configured=True, trusted_proxies=[ip_network("10.0.0.0/8")])

    def test_nobody_but_a_trusted_proxy_is_believed(self) -> None:
        given = headers(x_forwarded_for="192.0.2.7")
        assert self.access.client_address("198.51.100.1", given) == "198.51.100.1"
        assert self.access.client_address("10.0.0.1", given) == "192.0.2.7"
        assert self.access.client_address("::ffff:10.0.0.1", given) == "192.0.2.7"

    def test_what_a_client_has_put_before_is_not_believed(self) -> None:
        given = headers(x_forwarded_for="203.0.113.9, 192.0.2.7, 10.0.0.2")
        assert self.access.client_address("10.0.0.1", given) == "192.0.2.7"

    def test_nonsense_ends_the_chain(self) -> None:
        assert (
            self.access.client_address("10.0.0.1", headers(x_forwarded_for="192.0.2.7, x"))
            == "10.0.0.1"
        )
        assert self.access.client_address("10.0.0.1", headers()) == "10.0.0.1"

    def test_an_endless_zone_is_nonsense(self) -> None:
        given = headers(x_forwarded_for=f"fe80::1%{'a' * 60_000}")
        assert self.access.client_address("10.0.0.1", given) == "10.0.0.1"
        given = headers(x_forwarded_for="fe80::1%eth0")
        assert self.access.client_address("10.0.0.1", given) == "fe80::1%eth0"

    def test_all_that_come_from_no_address_are_one(self) -> None:
        assert client_key("") == client_key("unix") == client_key("\ud800")
        assert client_key("") != client_key("192.0.2.1") != client_key("192.0.2.2")


class TestToken:
    """The file beside the database."""

    def test_it_is_made_once_for_the_owner_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "a.token"
        token = token_of_file(path)
        assert len(token) >= 43
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert token_of_file(path) == token
        assert [each.name for each in tmp_path.iterdir()] == ["a.token"]

    def test_a_file_that_others_could_read_is_closed(self, tmp_path: Path) -> None:
        path = tmp_path / "a.token"
        token = token_of_file(path)
        path.chmod(0o644)
        assert token_of_file(path) == token
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_a_link_and_an_empty_file_are_refused_with_what_to_do(self, tmp_path: Path) -> None:
        path = tmp_path / "a.token"
        path.write_text("\n")
        with pytest.raises(OrchestratorError, match="remove it"):
            token_of_file(path)
        path.unlink()
        path.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(OrchestratorError, match="FAIRLEAD_API_TOKEN"):
            token_of_file(path)

"""Proves who may use an API (security checklist, number 6)."""

import asyncio
import os
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from edge.api.access import PEER, Access, grant_of
from edge.api.openapi import Operation
from edge.api.permission import OPERATOR, Grant, Scope
from edge.peer import Peer

TOKEN = "the-token-of-the-tests"
HERE = "127.0.0.1:8081"
NOBODY = 65534


class Made:
    """Tokens that were made, one for each scope."""

    async def find(self, token: str) -> Grant | None:
        if token == "limited":
            return Grant(token, frozenset({Scope.READ}), frozenset({"hello"}))
        try:
            return Grant(token, frozenset({Scope(token)}))
        except ValueError:
            return None


def connection(
    peer: str = "127.0.0.1",
    host: str = HERE,
    *,
    user: int | None = None,
    kind: str = "http",
    repeated: tuple[tuple[str, str], ...] = (),
    **fields: str,
) -> HTTPConnection:
    given = [("host", host), *((name.replace("_", "-"), text) for name, text in fields.items())]
    given += repeated
    scope: dict[str, Any] = {
        "type": kind,
        "client": (peer, 1) if peer else None,
        "headers": [(name.encode(), text.encode("latin-1")) for name, text in given],
        "state": {} if user is None else {PEER: Peer(1, user, frozenset({user}))},
    }
    return HTTPConnection(scope)


def operation(scope: Scope = Scope.READ, *, by_app: bool = False) -> Operation:
    return Operation(method="GET", path="/x", summary="X.", permission=scope, by_app=by_app)


def status(access: Access, asked: HTTPConnection, wanted: Operation | None = None) -> int:
    try:
        asyncio.run(access.admit(asked, wanted or operation()))
    except HTTPException as error:
        has_challenge = error.headers == {"WWW-Authenticate": "Bearer"}
        return error.status_code if has_challenge is (error.status_code == 401) else 0
    return 200


SET = Access(TOKEN, tokens=Made(), origins=("https://panel.test",))
BEARER = f"Bearer {TOKEN}"


@pytest.mark.parametrize(
    "peer", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1", "192.0.2.1", "2001:db8::1", ""]
)
def test_every_address_needs_a_token(peer: str) -> None:
    for access in (SET, Access("")):
        for scope in set(Scope) - {Scope.METRICS}:
            assert status(access, connection(peer), operation(scope)) == 401
    assert status(SET, connection(peer, authorization=BEARER)) == 200


@pytest.mark.parametrize(
    "given",
    ["", "Bearer", "Bearer ", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer s\xe9cret", TOKEN,
     f"Bearer {'x' * 4000}"],
)  # fmt: skip
def test_a_wrong_token_is_refused_also_where_none_is_needed(given: str) -> None:
    for wanted in (operation(), operation(Scope.METRICS)):
        assert status(SET, connection(authorization=given), wanted) == 401
        assert status(Access(""), connection(authorization=given), wanted) == 401


def test_two_authorizations_are_none() -> None:
    twice = (("authorization", BEARER), ("authorization", BEARER))
    assert status(SET, connection(repeated=twice)) == 401


def test_the_scheme_is_written_as_one_likes() -> None:
    assert status(SET, connection(authorization=f"bearer  {TOKEN}")) == 200


@pytest.mark.parametrize("scope", list(Scope))
def test_a_token_is_good_for_its_scopes_and_an_admins_for_all(scope: Scope) -> None:
    assert status(SET, connection(authorization=BEARER), operation(scope)) == 200
    assert status(SET, connection(authorization="Bearer admin"), operation(scope)) == 200
    for other in set(Scope) - {Scope.ADMIN}:
        found = status(SET, connection(authorization=f"Bearer {other}"), operation(scope))
        assert found == (200 if other is scope else 403)


def test_a_token_that_is_limited_to_apps_reaches_only_what_looks_at_the_app() -> None:
    limited = connection(authorization="Bearer limited")
    assert status(SET, limited) == 403
    assert status(SET, limited, operation(by_app=True)) == 200
    assert grant_of(limited).covers("hello")
    assert not grant_of(limited).covers("other")


def test_at_the_socket_the_user_decides_and_no_token() -> None:
    for user in (0, os.geteuid()):
        asked = connection("", user=user)
        assert status(SET, asked, operation(Scope.ADMIN)) == 200
        assert grant_of(asked) == OPERATOR
    assert status(SET, connection("", user=NOBODY)) == 403
    assert status(SET, connection("", user=NOBODY, authorization=BEARER)) == 403


class TestMetrics:
    """Open to direct clients on this machine, as Prometheus's users expect."""

    wanted = operation(Scope.METRICS)

    @pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
    def test_a_direct_client_here_needs_no_token_unless_all_do(self, peer: str) -> None:
        assert status(SET, connection(peer), self.wanted) == 200
        assert status(Access(TOKEN, open_metrics=False), connection(peer), self.wanted) == 401

    @pytest.mark.parametrize("peer", ["", "192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "unix"])
    def test_others_need_one(self, peer: str) -> None:
        assert status(SET, connection(peer), self.wanted) == 401
        assert status(SET, connection(peer, authorization="Bearer metrics"), self.wanted) == 200

    @pytest.mark.parametrize(
        "name", ["forwarded", "via", "x_real_ip", "x_forwarded_for", "x_forwarded_x"]
    )
    def test_a_client_behind_a_proxy_is_not_here(self, name: str) -> None:
        proxied = connection(repeated=((name.replace("_", "-"), "127.0.0.1"),))
        assert status(SET, proxied, self.wanted) == 401

    @pytest.mark.parametrize(
        "host", ["evil.test", "evil.test:8081", "", "127.0.0.1.evil.test", "a@127.0.0.1"]
    )
    def test_a_foreign_host_is_dns_rebinding(self, host: str) -> None:
        assert status(SET, connection(host=host), self.wanted) == 401

    @pytest.mark.parametrize(
        "host", ["localhost", "LOCALHOST:1", "127.0.0.1", "[::1]:8081", "box.test"]
    )
    def test_names_of_our_own_are_no_foreign_host(self, host: str) -> None:
        access = Access(TOKEN, hosts=("box.test",))
        assert status(access, connection(host=host), self.wanted) == 200

    def test_two_hosts_are_foreign(self) -> None:
        twice = connection(host="localhost", repeated=(("host", "evil.test"),))
        assert status(SET, twice, self.wanted) == 401


class TestOrigin:
    """A page gives itself away."""

    @pytest.mark.parametrize(
        "origin",
        ["http://evil.test", "null", "http://127.0.0.1:9999", "file://", "https://panel.test"],
    )
    def test_a_foreign_one_is_refused_whatever_it_has(self, origin: str) -> None:
        for wanted in (operation(), operation(Scope.METRICS)):
            assert status(SET, connection(origin=origin), wanted) == 403
            given = connection(origin=origin, authorization=BEARER)
            assert status(SET, given, wanted) == 403

    def test_two_are_foreign(self) -> None:
        own = ("origin", f"http://{HERE}")
        assert status(SET, connection(repeated=(own, own), authorization=BEARER)) == 403

    def test_the_same_is_not_foreign_and_needs_the_token_too(self) -> None:
        assert status(SET, connection(origin=f"http://{HERE}")) == 401
        panel = connection(
            "192.0.2.1", "panel.test", origin="https://panel.test", authorization=BEARER
        )
        assert status(SET, panel) == 200

    def test_websockets_may_come_from_those_that_are_allowed(self) -> None:
        allowed = connection(kind="websocket", origin="https://panel.test", authorization=BEARER)
        assert status(SET, allowed) == 200
        evil = connection(kind="websocket", origin="https://evil.test", authorization=BEARER)
        assert status(SET, evil) == 403

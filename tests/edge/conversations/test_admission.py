"""Who is let in on a route: networks, rates, redirects, passwords."""

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from threading import Event

import pytest

from edge.proxy import basic_auth
from edge.routing.store_writer import RouteWriter
from edge.rules import password
from edge.rules.password import MIN_COST, hash_password
from tests.harness import WAIT, Client, Edge, Upstream, exchange
from tests.messages import Message, ok, request

ALICE = hash_password("open sesame", cost=MIN_COST)
TRUSTING = (ip_network("127.0.0.0/8"),)


def asked(client: Client, *fields: str, line: str = "GET /", host: str = "app.test") -> Message:
    """The answer to a request that no upstream is to see."""
    client.sends(request(line, *fields, host=host))
    return client.receives_response(to=line.split(" ")[0])


def forwarded(client: Client, upstream: Upstream, *fields: str, line: str = "GET /") -> Message:
    """What an upstream gets of a request that is let in."""
    return exchange(client, upstream, request(line, *fields), ok("hi", "Connection: close")).request


class TestNetworks:
    """RFC 9110 section 15.5.4."""

    def test_only_allowed_clients_come_in(self, edge: Edge, upstream: Upstream) -> None:
        edge.routes("app.test", upstream.target, allow=["127.0.0.2/32", "2001:db8::/32"])
        answer = asked(edge.connects())
        assert answer.status == 403
        assert "127.0.0" not in answer.text
        upstream.accepts_nothing()
        forwarded(edge.connects(source="127.0.0.2"), upstream)

    def test_a_denied_client_stays_out_though_it_is_allowed(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, allow=["127.0.0.0/8"], deny=["127.0.0.3/32"])
        assert asked(edge.connects(source="127.0.0.3")).status == 403
        forwarded(edge.connects(), upstream)

    def test_a_refused_client_keeps_its_connection(self, edge: Edge, upstream: Upstream) -> None:
        edge.routes("app.test", upstream.target, deny=["127.0.0.1/32"])
        client = edge.connects()
        assert not asked(client).closes()
        edge.routes("app.test", upstream.target)
        forwarded(client, upstream)

    def test_a_refused_body_is_not_taken_for_a_request(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, deny=["127.0.0.1/32"])
        client = edge.connects()
        client.sends(request("POST /", "Content-Length: 100", body="GET / HTTP/1.1\r\n"))
        client.is_refused(403)

    @pytest.mark.settings(trusted_proxies=TRUSTING)
    def test_behind_a_trusted_proxy_the_client_is_the_one_that_it_names(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, allow=["192.0.2.0/24"])
        client = edge.connects()
        assert asked(client, "X-Forwarded-For: 198.51.100.1").status == 403
        assert asked(client).status == 403
        forwarded(client, upstream, "X-Forwarded-For: 10.0.0.1, 192.0.2.9")

    def test_what_others_say_of_themselves_is_not_believed(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, allow=["192.0.2.0/24"])
        assert asked(edge.connects(), "X-Forwarded-For: 192.0.2.9").status == 403


class TestRate:
    """RFC 6585 section 4; RFC 9110 section 10.2.3."""

    def test_more_than_the_burst_is_429_until_the_next_token(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, rate=0.25, burst=2)
        client = edge.connects()
        forwarded(client, upstream)
        forwarded(client, upstream)
        answer = asked(client)
        assert answer.status == 429
        assert answer["Retry-After"] == "4"
        edge.advance(2.5)
        assert asked(client)["Retry-After"] == "2"
        edge.advance(1.5)
        forwarded(client, upstream)
        assert asked(client).status == 429

    def test_clients_and_routes_are_counted_apart(self, edge: Edge, upstream: Upstream) -> None:
        edge.routes("app.test", upstream.target, rate=1)
        edge.routes("other.test", upstream.target, rate=1)
        client = edge.connects()
        forwarded(client, upstream)
        assert asked(client).status == 429
        assert asked(edge.connects()).status == 429  # another connection is no other client
        forwarded(edge.connects(source="127.0.0.2"), upstream)
        done = exchange(
            client, upstream, request("GET /", host="other.test"), ok("hi", "Connection: close")
        )
        assert done.response.status == 200

    def test_a_changed_route_goes_on_counting(self, edge: Edge, upstream: Upstream) -> None:
        edge.routes("app.test", upstream.target, rate=1, burst=1)
        client = edge.connects()
        forwarded(client, upstream)
        edge.routes("app.test", upstream.target, rate=1, burst=1, max_body=1000)
        assert asked(client).status == 429

    def test_refusals_are_counted_and_logged_as_any_answer(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, rate=1)
        client = edge.connects()
        forwarded(client, upstream)
        asked(client)
        assert edge.metrics()['fairlead_http_requests_total{code="4xx",route="app.test"}'] == 1


class TestRedirect:
    """RFC 9110 sections 15.4.2, 15.4.9 and 10.2.2."""

    @pytest.mark.parametrize(
        ("redirect", "host", "target", "location"),
        [
            ("https://", "app.test", "/a?b=c", "https://app.test/a?b=c"),
            ("https://", "APP.test:8080", "/", "https://app.test/"),
            ("http://other.test", "app.test", "/a/b", "http://other.test/a/b"),
            ("https://other.test:8443", "app.test", "/?x", "https://other.test:8443/?x"),
            ("https://", "app.test", "http://app.test/x", "https://app.test/x"),
            ("https://", "app.test", '/"><script>', "https://app.test/%22%3E%3Cscript%3E"),
        ],
    )
    def test_path_and_query_are_kept(
        self, edge: Edge, upstream: Upstream, redirect: str, host: str, target: str, location: str
    ) -> None:
        edge.routes("app.test", upstream.target, redirect=redirect)
        answer = asked(edge.connects(), line=f"GET {target}", host=host)
        assert (answer.status, answer["Location"], answer.body) == (301, location, b"")
        upstream.accepts_nothing()

    @pytest.mark.parametrize(("method", "status"), [("GET", 301), ("HEAD", 301), ("PUT", 308)])
    def test_other_methods_keep_theirs(
        self, edge: Edge, upstream: Upstream, method: str, status: int
    ) -> None:
        edge.routes("app.test", upstream.target, redirect="https://")
        client = edge.connects()
        for _ in range(2):
            assert asked(client, line=f"{method} /").status == status

    def test_a_body_that_nobody_reads_ends_the_connection(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, redirect="https://")
        client = edge.connects()
        client.sends(request("POST /", "Content-Length: 100", body="some"))
        assert client.is_refused(308)["Location"] == "https://app.test/"

    @pytest.mark.settings(trusted_proxies=TRUSTING)
    def test_a_request_that_is_there_already_goes_on(self, edge: Edge, upstream: Upstream) -> None:
        edge.routes("app.test", upstream.target, redirect="https://")
        client = edge.connects()
        assert asked(client, "X-Forwarded-Proto: http").status == 301
        assert asked(client).status == 301
        forwarded(client, upstream, "X-Forwarded-Proto: https")

    def test_the_client_alone_cannot_say_that_it_is_there(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, redirect="https://")
        assert asked(edge.connects(), "X-Forwarded-Proto: https").status == 301


def credentials(user: str = "alice", secret: str = "open sesame") -> str:
    return "Authorization: Basic " + b64encode(f"{user}:{secret}".encode()).decode()


@pytest.fixture
def guarded(edge: Edge, upstream: Upstream) -> Edge:
    """An edge whose app.test lets alice in."""
    edge.routes("app.test", upstream.target, basic_auth={"alice": ALICE})
    return edge


class Checks:
    """The checks of passwords, counted; while `closed`, they wait."""

    def __init__(self) -> None:
        self.count = 0
        self.begun = Event()
        self._opened = Event()
        self._opened.set()
        self._verify = password.verify

    def close(self) -> None:
        self._opened.clear()

    def open(self) -> None:
        self._opened.set()

    def fits(self, text: str, secret: bytes) -> bool:
        self.count += 1
        self.begun.set()
        self._opened.wait(WAIT)
        return self._verify(text, secret)


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Checks]:
    checks = Checks()
    monkeypatch.setattr(password, "verify", checks.fits)
    monkeypatch.setattr(basic_auth, "THROTTLE_FACTOR", 0.0)
    yield checks
    checks.open()


class TestBasicAuthentication:
    """RFC 7617; RFC 9110 section 11."""

    @pytest.mark.parametrize(
        "fields",
        [
            (),
            (credentials(secret="wrong"),),
            (credentials(user="bob"),),
            (credentials(user="Alice"),),
            (credentials(secret=""),),
            ("Authorization: Basic",),
            ("Authorization: Basic !!!",),
            ("Authorization: Basic YWxpY2U=",),
            ("Authorization: Bearer YWxpY2U6b3BlbiBzZXNhbWU=",),
            (credentials(), credentials()),
            ("Authorization: Basic " + b64encode(b"alice:\xff").decode(),),
        ],
    )
    def test_without_the_right_password_it_is_401_with_a_challenge(
        self, guarded: Edge, upstream: Upstream, checks: Checks, fields: tuple[str, ...]
    ) -> None:
        client = guarded.connects()
        for _ in range(2):
            answer = asked(client, *fields)
            assert answer.status == 401
            assert answer["WWW-Authenticate"] == 'Basic realm="app.test", charset="UTF-8"'
        upstream.accepts_nothing()

    def test_the_right_one_is_let_in_and_stays_here(
        self, guarded: Edge, upstream: Upstream, checks: Checks
    ) -> None:
        client = guarded.connects()
        seen = forwarded(client, upstream, "X-First: 1", credentials(), "X-Last: 2")
        assert "Authorization" not in seen
        assert (seen["X-First"], seen["X-Last"], seen["Host"]) == ("1", "2", "app.test")
        assert "authorization" not in forwarded(
            client, upstream, credentials().replace("Authorization: Basic", "AUTHORIZATION: basic ")
        )

    def test_a_password_is_checked_once(
        self, guarded: Edge, upstream: Upstream, checks: Checks
    ) -> None:
        for _ in range(3):
            forwarded(guarded.connects(), upstream, credentials())
            assert asked(guarded.connects(), credentials(secret="wrong")).status == 401
        assert checks.count == 2

    def test_a_route_without_it_passes_the_field_on(self, edge: Edge, upstream: Upstream) -> None:
        seen = forwarded(edge.connects(), upstream, credentials())
        assert f"Authorization: {seen['Authorization']}" == credentials()

    def test_a_body_waits_while_the_password_is_checked(
        self, guarded: Edge, upstream: Upstream, checks: Checks
    ) -> None:
        checks.close()
        client = guarded.connects()
        client.sends(request("POST /", credentials(), "Content-Length: 8", body="half"))
        upstream.accepts_nothing()
        client.sends(b"more")
        checks.open()
        connection = upstream.accepts()
        assert connection.receives_request().text == "halfmore"
        connection.sends(ok("fine"))
        assert client.receives_response().text == "fine"

    def test_requests_with_one_password_wait_for_one_check(
        self, guarded: Edge, upstream: Upstream, checks: Checks
    ) -> None:
        checks.close()
        clients = [guarded.connects() for _ in range(3)]
        for client in clients:
            client.sends(request("GET /", credentials(secret="wrong")))
            guarded.settle()
        checks.open()
        assert [client.receives_response().status for client in clients] == [401] * 3
        assert checks.count == 1

    def test_a_client_that_leaves_meanwhile_is_forgotten(
        self, guarded: Edge, upstream: Upstream, checks: Checks
    ) -> None:
        checks.close()
        leaver, stayer = guarded.connects(), guarded.connects()
        for client in (leaver, stayer):
            client.sends(request("GET /", credentials()))
            guarded.settle()
        leaver.resets()
        guarded.settle()
        checks.open()
        connection = upstream.accepts()
        connection.receives_request()
        connection.sends(ok("fine"))
        assert stayer.receives_response().text == "fine"
        connection.receives_nothing()
        upstream.accepts_nothing()

    def test_a_check_that_takes_too_long_is_503(
        self, guarded: Edge, upstream: Upstream, checks: Checks
    ) -> None:
        checks.close()
        client = guarded.connects()
        client.sends(request("GET /", credentials()))
        guarded.advance(basic_auth.CHECK_TIMEOUT)
        answer = client.receives_response()
        assert (answer.status, answer["Retry-After"]) == (503, "1")
        checks.open()
        forwarded(client, upstream, credentials())

    def test_too_many_checks_at_once_are_503(
        self, guarded: Edge, checks: Checks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(basic_auth, "MAX_CHECKS", 2)
        checks.close()
        clients = [guarded.connects() for _ in range(3)]
        for number, client in enumerate(clients):
            client.sends(request("GET /", credentials(secret=str(number))))
            guarded.settle()
        assert clients.pop().receives_response().status == 503
        checks.open()
        assert [client.receives_response().status for client in clients] == [401] * 2

    def test_too_many_that_wait_for_one_check_are_503(
        self, guarded: Edge, checks: Checks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(basic_auth, "MAX_WAITING", 2)
        checks.close()
        clients = [guarded.connects() for _ in range(3)]
        for client in clients:
            client.sends(request("GET /", credentials(secret="wrong")))
            guarded.settle()
        assert clients.pop().receives_response().status == 503
        checks.open()
        assert [client.receives_response().status for client in clients] == [401] * 2

    def test_who_guesses_too_often_is_429(
        self, guarded: Edge, upstream: Upstream, checks: Checks
    ) -> None:
        client = guarded.connects()
        for number in range(20):
            forwarded(client, upstream, credentials())  # the right one costs nothing
            assert asked(client, credentials(secret=str(number))).status == 401
        answer = asked(client, credentials(secret="another"))
        assert (answer.status, answer["Retry-After"]) == (429, "3")
        assert asked(client, credentials(secret="0")).status == 401  # known to be wrong
        forwarded(client, upstream, credentials())
        assert asked(guarded.connects(source="127.0.0.2"), credentials(secret="x")).status == 401
        guarded.advance(3)
        assert asked(client, credentials(secret="another")).status == 401
        assert checks.count == 23

    def test_a_changed_password_counts_at_once(
        self, guarded: Edge, upstream: Upstream, checks: Checks
    ) -> None:
        client = guarded.connects()
        forwarded(client, upstream, credentials())
        other = hash_password("other", cost=MIN_COST)
        guarded.routes("app.test", upstream.target, basic_auth={"alice": other})
        assert asked(client, credentials()).status == 401
        forwarded(client, upstream, credentials(secret="other"))

    def test_what_was_not_asked_for_the_longest_is_forgotten_first(
        self, guarded: Edge, checks: Checks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(basic_auth, "MAX_REMEMBERED", 2)
        client = guarded.connects()
        for secret in ("a", "b", "a", "c", "a", "b"):
            assert asked(client, credentials(secret=secret)).status == 401
        assert checks.count == 4  # a, b, c, and b again

    def test_a_check_that_fails_is_503_and_no_verdict(
        self, guarded: Edge, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fails(text: str, secret: bytes) -> bool:
            raise MemoryError

        client = guarded.connects()
        with monkeypatch.context() as patched:
            patched.setattr(password, "verify", fails)
            assert asked(client, credentials()).status == 503
        forwarded(client, upstream, credentials())

    def test_the_edge_may_stop_while_passwords_are_checked(
        self, make_edge: Callable[..., Edge], upstream: Upstream, checks: Checks
    ) -> None:
        edge = make_edge()
        edge.routes("app.test", upstream.target, basic_auth={"alice": ALICE})
        checks.close()
        clients = [edge.connects() for _ in range(2)]
        for number, client in enumerate(clients):
            client.sends(request("GET /", credentials(secret=str(number))))
            edge.settle()
        assert checks.begun.wait(WAIT)
        edge.begins_to_stop()
        checks.open()
        edge.has_stopped()

    def test_it_is_no_hash_of_the_password_that_is_remembered(
        self, guarded: Edge, upstream: Upstream, checks: Checks
    ) -> None:
        forwarded(guarded.connects(), upstream, credentials())
        assert "sesame" not in repr(vars(guarded.worker.state.authenticator))


class TestOrder:
    """The order that docs/behaviour.md promises; each of them hides those after it."""

    def test_the_earlier_decision_counts(self, edge: Edge, upstream: Upstream) -> None:
        everything = {
            "deny": ["127.0.0.2/32"],
            "rate": 0.001,
            "burst": 1,
            "redirect": "https://",
            "maintenance": True,
            "basic_auth": {"alice": ALICE},
            "pause": 30,
        }
        edge.routes("app.test", upstream.target, **everything)
        assert asked(edge.connects(source="127.0.0.2")).status == 403
        statuses = []
        for number, name in enumerate(("deny", "rate", "redirect", "maintenance", "basic_auth")):
            client = edge.connects(source=f"127.0.1.{number}")
            if name == "rate":
                asked(client)
            if name != "deny":
                statuses.append(asked(client).status)
            version = RouteWriter(edge.settings.db).change(
                "app.test", {name: None, "burst": None} if name == "rate" else {name: None}
            )
            edge.reloads(version)
        assert statuses == [429, 301, 503, 401]
        client = edge.connects()
        client.sends(request("GET /"))
        client.receives_nothing()
        edge.routes("app.test", upstream.target)
        upstream.accepts().receives_request()

    def test_json_clients_get_json(self, edge: Edge, upstream: Upstream) -> None:
        edge.routes("app.test", upstream.target, deny=["127.0.0.1/32"])
        answer = asked(edge.connects(), "Accept: application/json")
        assert json.loads(answer.body)["status"] == 403

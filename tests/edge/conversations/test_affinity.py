"""Clients that come back to the same target: by their address, or by a cookie."""

import re
from collections.abc import Callable
from ipaddress import ip_network

import pytest

from tests.harness import Client, Conversation, Edge, Upstream, UpstreamConnection
from tests.messages import Head, chunk, ok, request, response

COOKIE = re.compile(r"(fairlead=[0-9a-f]{16}); Path=([^;]+); HttpOnly; SameSite=Lax")

# What the loopback interface offers as clients: with 30 of them, and two targets whose ports are
# drawn, all on one side is a chance of one to 500,000,000.
SOURCES = [f"127.0.0.{number}" for number in range(2, 32)]


@pytest.fixture
def other(conversation: Conversation) -> Upstream:
    """A second upstream."""
    return Upstream(conversation)


class Pair:
    """Two upstreams, one of which gets a request; the test sees which one."""

    def __init__(self, client: Client, one: Upstream, other: Upstream) -> None:
        self._client = client
        self._servers = (one, other)
        self._refusing: Upstream | None = None

    def asks(
        self, *fields: str, path: str = "/", answer: bytes | None = None, host: str = "app.test"
    ) -> tuple[Upstream, Head]:
        """The upstream that got the request, and the head of its answer."""
        self._client.sends(request(f"GET {path}", *fields, host=host))
        server, connection = self._first_connection()
        connection.receives_request()
        connection.sends(ok("hello", "Connection: close") if answer is None else answer)
        connection.closes()
        return server, self._client.receives_response()

    def _first_connection(self) -> tuple[Upstream, UpstreamConnection]:
        for _ in range(100):
            for server in self._servers:
                if server is not self._refusing:
                    connection = server.accepts_if_connected()
                    if connection is not None:
                        return server, connection
        return self._client.conversation.fails("no upstream got the request")

    def loses(self, server: Upstream) -> None:
        """From now on `server` refuses."""
        server.refuses()
        self._refusing = server

    def finds_again(self, server: Upstream) -> None:
        """`server` is back."""
        server.listens()
        self._refusing = None

    def besides(self, server: Upstream) -> Upstream:
        """The one that is not `server`."""
        return self._servers[0] if server is self._servers[1] else self._servers[1]


@pytest.fixture
def pair(client: Client, upstream: Upstream, other: Upstream) -> Pair:
    """Both upstreams, asked by `client`."""
    return Pair(client, upstream, other)


def cookie_in(head: Head) -> str:
    """The cookie that the edge sets, as a client sends it back."""
    found = COOKIE.fullmatch(head["Set-Cookie"])
    assert found is not None
    return found[1]


class TestClientHash:
    """RFC 9110 section 3.7: a gateway may distribute load, in whatever way."""

    def test_each_client_has_its_target_on_every_connection_and_both_have_clients(
        self, edge: Edge, upstream: Upstream, other: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, other.target, balance="client_hash")
        first, second = (
            [
                Pair(edge.connects(source=source), upstream, other).asks()[0].name
                for source in SOURCES
            ]
            for _ in range(2)
        )
        assert first == second
        assert set(first) == {upstream.name, other.name}

    def test_a_target_that_refuses_is_replaced_until_it_is_back(
        self, edge: Edge, client: Client, upstream: Upstream, other: Upstream, pair: Pair
    ) -> None:
        edge.routes("app.test", upstream.target, other.target, balance="client_hash")
        home, _ = pair.asks()
        pair.loses(home)
        for _ in range(3):
            assert pair.asks()[0] is pair.besides(home)
        pair.finds_again(home)
        edge.advance(31)
        assert pair.asks()[0] is home

    @pytest.mark.settings(trusted_proxies=(ip_network("127.0.0.1"),))
    def test_behind_a_trusted_proxy_the_client_counts_and_not_the_proxy(
        self, edge: Edge, upstream: Upstream, other: Upstream, pair: Pair
    ) -> None:
        edge.routes("app.test", upstream.target, other.target, balance="client_hash")
        homes = [pair.asks(f"X-Forwarded-For: 192.0.2.{number}")[0] for number in range(30)]
        assert len(set(homes)) == 2
        assert pair.asks("X-Forwarded-For: 192.0.2.7")[0] is homes[7]


class TestCookie:
    """RFC 6265: state that the client brings back."""

    @pytest.fixture(autouse=True)
    def route(self, edge: Edge, upstream: Upstream, other: Upstream) -> None:
        edge.routes("app.test", upstream.target, other.target, balance="cookie")

    def test_the_first_response_sets_a_cookie_that_tells_no_address(self, pair: Pair) -> None:
        server, answer = pair.asks()
        found = COOKIE.fullmatch(answer["Set-Cookie"])
        assert found is not None
        assert found[2] == "/"
        assert str(server.port) not in found[1]

    def test_with_the_cookie_requests_stay_where_they_were_and_get_no_other_one(
        self, pair: Pair
    ) -> None:
        server, answer = pair.asks()
        cookie = cookie_in(answer)
        for _ in range(4):
            again, answer = pair.asks(f"Cookie: a=b; {cookie}; c=d")
            assert again is server
            assert "Set-Cookie" not in answer

    def test_without_it_they_take_turns(self, pair: Pair) -> None:
        first, answer = pair.asks()
        second, other_answer = pair.asks()
        assert first is not second
        assert cookie_in(answer) != cookie_in(other_answer)
        assert pair.asks(f"Cookie: {cookie_in(other_answer)}")[0] is second
        assert pair.asks(f"Cookie: {cookie_in(answer)}")[0] is first

    def test_where_its_target_refuses_another_one_takes_over_with_a_new_cookie(
        self, edge: Edge, pair: Pair
    ) -> None:
        server, answer = pair.asks()
        old = cookie_in(answer)
        pair.loses(server)
        substitute, answer = pair.asks(f"Cookie: {old}")
        assert substitute is pair.besides(server)
        new = cookie_in(answer)
        assert new != old
        pair.finds_again(server)
        edge.advance(31)
        again, answer = pair.asks(f"Cookie: {new}")
        assert again is substitute
        assert "Set-Cookie" not in answer

    def test_a_cookie_for_a_target_that_left_the_route_is_set_anew(
        self, edge: Edge, client: Client, upstream: Upstream, other: Upstream, pair: Pair
    ) -> None:
        server, answer = pair.asks()
        third = Upstream(client.conversation)
        stays = pair.besides(server)
        edge.routes("app.test", stays.target, third.target, balance="cookie")
        _, renewed = Pair(client, stays, third).asks(f"Cookie: {cookie_in(answer)}")
        assert cookie_in(renewed) != cookie_in(answer)

    def test_a_stranger_s_value_is_only_ignored(self, pair: Pair) -> None:
        _, answer = pair.asks("Cookie: fairlead=0123456789abcdef")
        cookie_in(answer)
        _, answer = pair.asks("Cookie: fairlead=" + "x" * 5000)
        cookie_in(answer)

    @pytest.mark.parametrize("options", [{}, {"strip": True}])
    def test_its_path_is_the_prefix_of_the_route_as_the_client_knows_it(
        self,
        edge: Edge,
        upstream: Upstream,
        other: Upstream,
        pair: Pair,
        options: dict[str, object],
    ) -> None:
        targets = (upstream.target, other.target)
        edge.routes("app.test/shop", *targets, balance="cookie", **options)
        outer, answer = pair.asks()
        pair.asks(path="/shop/x")
        inner, inner_answer = pair.asks(path="/shop/x")
        assert inner is not outer
        found = COOKIE.fullmatch(inner_answer["Set-Cookie"])
        assert found is not None
        assert found[2] == "/shop"
        # A browser sends both, the one with the longer path first (RFC 6265 section 5.4).
        both = f"Cookie: {cookie_in(inner_answer)}; {cookie_in(answer)}"
        for _ in range(2):
            assert pair.asks(both, path="/shop/x")[0] is inner
            assert pair.asks(both)[0] is outer

    @pytest.mark.parametrize(
        "answer",
        [
            response("200 OK", "Transfer-Encoding: chunked", body=chunk("a") + chunk("")),
            response("200 OK", body="until the end"),
            response("304 Not Modified", "ETag: a"),
            response("500 Internal Server Error", "Content-Length: 0", "Set-Cookie: own=1"),
        ],
    )
    def test_every_kind_of_response_carries_it(self, pair: Pair, answer: bytes) -> None:
        _, head = pair.asks(answer=answer)
        cookies = head.all("Set-Cookie")
        assert len([each for each in cookies if COOKIE.fullmatch(each)]) == 1
        assert ("own=1" in cookies) == (b"own=1" in answer)

    def test_interim_responses_do_not_and_the_final_one_does(
        self, client: Client, upstream: Upstream, other: Upstream
    ) -> None:
        client.sends(request("GET /"))
        connection = upstream.accepts_if_connected() or other.accepts()
        connection.receives_request()
        connection.sends(response("103 Early Hints", "Link: </a>") + ok("hello"))
        assert "Set-Cookie" not in client.receives_response()
        cookie_in(client.receives_response())

    def test_a_body_that_comes_late_does_not_lose_it(
        self, client: Client, upstream: Upstream, other: Upstream
    ) -> None:
        client.sends(request("POST /", "Content-Length: 4"))
        connection = upstream.accepts_if_connected() or other.accepts()
        connection.receives_head()
        client.sends(b"body")
        connection.receives_data("body")
        connection.sends(ok("hello"))
        cookie_in(client.receives_response())

    def test_a_websocket_gets_it_with_the_switch(self, pair: Pair) -> None:
        switch = response("101 Switching Protocols", "Connection: Upgrade", "Upgrade: websocket")
        _, head = pair.asks("Connection: Upgrade", "Upgrade: websocket", answer=switch)
        assert head.status == 101
        assert head["Upgrade"] == "websocket"
        assert cookie_in(head)

    def test_errors_of_the_edge_set_none(
        self, client: Client, upstream: Upstream, other: Upstream
    ) -> None:
        upstream.refuses()
        other.refuses()
        client.sends(request("GET /"))
        answer = client.receives_response()
        assert answer.status == 502
        assert "Set-Cookie" not in answer

    def test_a_route_with_one_target_sets_none(
        self, edge: Edge, upstream: Upstream, pair: Pair
    ) -> None:
        edge.routes("app.test", upstream.target, balance="cookie")
        assert "Set-Cookie" not in pair.asks()[1]

    def test_a_secret_makes_other_values(
        self,
        edge: Edge,
        make_edge: Callable[..., Edge],
        upstream: Upstream,
        other: Upstream,
        pair: Pair,
    ) -> None:
        values = {cookie_in(pair.asks()[1]) for _ in range(2)}
        keyed = make_edge(affinity_secret="not to be guessed")
        keyed.reloads()
        with_secret = Pair(keyed.connects(), upstream, other)
        assert not values & {cookie_in(with_secret.asks()[1]) for _ in range(2)}

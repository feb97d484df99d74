"""Which route a request takes, over sockets; the pure rules are tested with `RouteTable`."""

import pytest

from tests.harness import Client, Conversation, Edge, Upstream, exchange
from tests.messages import ok, request


def taken(edge: Edge, upstream: Upstream, line: str, host: str) -> str:
    """The target in the request that this upstream gets."""
    done = exchange(
        edge.connects(), upstream, request(line, host=host), ok("hi", "Connection: close")
    )
    assert done.response.text == "hi"
    return done.request.target


class TestHosts:
    """RFC 9110 sections 4.2.3 and 7.2: a host is one name in any case."""

    def test_each_host_has_its_own_target(
        self, edge: Edge, upstream: Upstream, conversation: Conversation
    ) -> None:
        other = Upstream(conversation)
        edge.routes("other.test", other.target)
        taken(edge, upstream, "GET /", "app.test")
        taken(edge, other, "GET /", "other.test")

    @pytest.mark.parametrize("host", ["APP.TEST", "App.Test.", "app.test:1234", "aPP.test.:80"])
    def test_case_port_and_trailing_dot_do_not_matter(
        self, edge: Edge, upstream: Upstream, host: str
    ) -> None:
        taken(edge, upstream, "GET /", host)

    def test_a_wildcard_takes_subdomains_of_any_depth(
        self, edge: Edge, conversation: Conversation
    ) -> None:
        wild = Upstream(conversation)
        edge.routes("*.wild.test", wild.target)
        taken(edge, wild, "GET /", "a.wild.test")
        taken(edge, wild, "GET /", "a.b.wild.test")
        client = edge.connects()
        client.sends(request("GET /", host="wild.test"))
        assert client.receives_response().status == 404

    def test_exact_before_longer_wildcard_before_shorter_before_all(
        self, edge: Edge, conversation: Conversation
    ) -> None:
        exact, longer, shorter, every = (Upstream(conversation) for _ in range(4))
        edge.routes("*", every.target)
        edge.routes("*.test", shorter.target)
        edge.routes("*.x.test", longer.target)
        edge.routes("a.x.test", exact.target)
        taken(edge, exact, "GET /", "a.x.test")
        taken(edge, longer, "GET /", "b.x.test")
        taken(edge, shorter, "GET /", "x.test")
        taken(edge, every, "GET /", "elsewhere.example")

    def test_one_connection_may_ask_for_several_hosts(
        self, edge: Edge, client: Client, upstream: Upstream, conversation: Conversation
    ) -> None:
        other = Upstream(conversation)
        edge.routes("other.test", other.target)
        first = exchange(client, upstream)
        second = exchange(client, other, request("GET /", host="other.test"))
        assert exchange(client, first.connection).request["Host"] == "app.test"
        again = exchange(client, second.connection, request("GET /", host="other.test"))
        assert again.request["Host"] == "other.test"


class TestUnknownHosts:
    """RFC 9110 section 15.5.5."""

    @pytest.mark.parametrize("host", ["unknown.test", "app.test.evil", "xapp.test", "127.0.0.1"])
    def test_an_unknown_host_is_404(self, client: Client, upstream: Upstream, host: str) -> None:
        client.sends(request("GET /", host=host))
        assert client.receives_response().status == 404
        upstream.accepts_nothing()

    def test_the_connection_goes_on_after_a_404(self, client: Client, upstream: Upstream) -> None:
        client.sends(request("GET /", host="unknown.test"))
        answer = client.receives_response()
        assert answer.status == 404
        assert not answer.closes()
        assert exchange(client, upstream).response.status == 200

    def test_a_body_for_an_unknown_host_is_never_taken_for_a_request(
        self, client: Client, upstream: Upstream
    ) -> None:
        inner = request("GET /smuggled")
        sent = request("POST /", f"Content-Length: {len(inner)}", host="unknown.test", body=inner)
        client.sends(sent)
        assert client.receives_response().status == 404
        upstream.accepts_nothing()

    @pytest.mark.parametrize("fields", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
    def test_a_404_is_readable_while_a_body_still_comes(
        self, client: Client, upstream: Upstream, fields: str
    ) -> None:
        client.sends(request("POST /", fields, host="unknown.test"))
        client.keeps_sending(b"x" * 10_000)
        assert client.receives_response().status == 404
        upstream.accepts_nothing()


class TestPrefixes:
    """RFC 3986 section 3.3: a prefix ends where a segment ends."""

    def test_the_longest_prefix_wins(
        self, edge: Edge, upstream: Upstream, conversation: Conversation
    ) -> None:
        api, deeper = Upstream(conversation), Upstream(conversation)
        edge.routes("app.test/api", api.target)
        edge.routes("app.test/api/v2", deeper.target)
        for target in ("/", "/apix", "/ap", "/API", "/x/api"):
            assert taken(edge, upstream, f"GET {target}", "app.test") == target
        for target in ("/api", "/api/", "/api?x=/api/v2", "/api/v", "/api/v2x"):
            assert taken(edge, api, f"GET {target}", "app.test") == target
        for target in ("/api/v2", "/api/v2/x", "/api/v2?y"):
            assert taken(edge, deeper, f"GET {target}", "app.test") == target

    def test_a_host_without_a_fitting_prefix_falls_to_the_wildcard(
        self, edge: Edge, conversation: Conversation
    ) -> None:
        narrow, wide = Upstream(conversation), Upstream(conversation)
        edge.routes("shop.test/api", narrow.target)
        edge.routes("*", wide.target)
        taken(edge, narrow, "GET /api/x", "shop.test")
        taken(edge, wide, "GET /other", "shop.test")

    def test_a_host_without_a_fitting_prefix_is_404_where_nothing_else_fits(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        edge.routes("shop.test/api", upstream.target)
        client.sends(request("GET /other", host="shop.test"))
        assert client.receives_response().status == 404

    @pytest.mark.parametrize(
        ("asked", "seen"),
        [
            ("/api/x", "/x"),
            ("/api", "/"),
            ("/api/", "/"),
            ("/api?x=1", "/?x=1"),
            ("/api/?x=1", "/?x=1"),
            ("/api//x", "/x"),
            ("/api/api/x", "/api/x"),
            ("/api/y/%2e%2e/x", "/x"),
        ],
    )
    def test_a_prefix_can_be_stripped(
        self, edge: Edge, conversation: Conversation, asked: str, seen: str
    ) -> None:
        api = Upstream(conversation)
        edge.routes("app.test/api", api.target, strip=True)
        assert taken(edge, api, f"GET {asked}", "app.test") == seen

    def test_absolute_form_is_routed_by_its_path(
        self, edge: Edge, conversation: Conversation
    ) -> None:
        api = Upstream(conversation)
        edge.routes("app.test/api", api.target, strip=True)
        assert taken(edge, api, "GET http://app.test/api/x", "app.test") == "/x"

    def test_options_for_the_whole_server_takes_no_prefix(
        self, edge: Edge, upstream: Upstream, conversation: Conversation
    ) -> None:
        edge.routes("app.test/api", Upstream(conversation).target)
        assert taken(edge, upstream, "OPTIONS *", "app.test") == "*"


class TestTargets:
    """What a route may name as its target."""

    def test_an_ipv6_target_is_served(self, edge: Edge, conversation: Conversation) -> None:
        six = Upstream(conversation, "::1")
        edge.routes("six.test", six.target)
        taken(edge, six, "GET /", "six.test")

    def test_a_named_target_is_served(self, edge: Edge, conversation: Conversation) -> None:
        named = Upstream(conversation)
        edge.routes("named.test", f"localhost:{named.port}")
        client = edge.connects()
        client.sends(request("GET /", host="named.test"))
        connection = named.accepts()
        connection.receives_request()
        connection.sends(ok("hi"))
        assert client.receives_response().text == "hi"

    def test_a_name_that_does_not_resolve_is_502(self, edge: Edge) -> None:
        edge.routes("gone.test", "does-not-exist.invalid:80")
        client = edge.connects()
        client.sends(request("GET /", host="gone.test"))
        assert client.receives_response().status == 502

"""What of a request the upstream gets to see, and what the edge adds."""

from ipaddress import ip_network

import pytest

from edge.settings.syntax import Address
from tests.harness import Client, Edge, Upstream, connect, exchange
from tests.messages import Message, ok, request


def forwarded(client: Client, upstream: Upstream, *fields: str, line: str = "GET /") -> Message:
    """What the upstream gets of a request with these fields."""
    return exchange(client, upstream, request(line, *fields)).request


class TestHopByHop:
    """RFC 9110 sections 7.6.1 and 11.7.2."""

    @pytest.mark.parametrize(
        "field",
        [
            "Connection: keep-alive",
            "Keep-Alive: timeout=5",
            "Proxy-Connection: keep-alive",
            "TE: trailers",
            "TE: gzip",
            "Trailer: X-Checksum",
            "Upgrade: websocket",
            "Proxy-Authorization: Basic c2VjcmV0",
            "proxy-authorization: Basic c2VjcmV0",
            "KEEP-ALIVE: timeout=5",
        ],
    )
    def test_a_field_of_the_hop_is_not_forwarded(
        self, client: Client, upstream: Upstream, field: str
    ) -> None:
        name = field.split(":")[0]
        assert name not in forwarded(client, upstream, field)

    @pytest.mark.parametrize(
        "connection",
        ["X-Hop", "x-hop", "X-HOP", "keep-alive, X-Hop", "X-Hop,X-Other", " , X-Hop ,,"],
    )
    def test_what_connection_names_is_not_forwarded(
        self, client: Client, upstream: Upstream, connection: str
    ) -> None:
        seen = forwarded(
            client, upstream, "X-Hop: 1", "X-Hops: 2", f"Connection: {connection}", "x-hop: 3"
        )
        assert "X-Hop" not in seen
        assert "Connection" not in seen
        assert seen["X-Hops"] == "2"

    def test_several_connection_fields_are_one_list(
        self, client: Client, upstream: Upstream
    ) -> None:
        seen = forwarded(
            client, upstream, "Connection: X-One", "X-One: 1", "X-Two: 2", "Connection: X-Two"
        )
        assert "X-One" not in seen
        assert "X-Two" not in seen

    @pytest.mark.parametrize(
        "name",
        [
            "Host",
            "host",
            "Content-Length",
            "Transfer-Encoding",
            "Via",
            "Forwarded",
            "X-Forwarded-For",
            "x-forwarded-host",
            "X-Forwarded-Proto",
            "X-Real-IP",
        ],
    )
    def test_connection_cannot_take_away_what_protects(
        self, edge: Edge, upstream: Upstream, name: str
    ) -> None:
        client = edge.connects()
        client.sends(request("GET /", f"Connection: close, {name}", "X-Forwarded-For: 1.2.3.4"))
        client.is_refused(400)
        upstream.accepts_nothing()

    def test_a_chunked_body_is_framed_anew(self, client: Client, upstream: Upstream) -> None:
        sent = request(
            "POST /",
            "Transfer-Encoding: chunked",
            "TE: trailers",
            "Trailer: X-Sum",
            body=b"3;ext=1\r\none\r\n003\r\ntwo\r\n0\r\nX-Sum: 6\r\n\r\n",
        )
        seen = exchange(client, upstream, sent).request
        assert seen.text == "onetwo"
        assert seen.all("Transfer-Encoding") == ["chunked"]
        assert "Content-Length" not in seen
        assert "Trailer" not in seen

    def test_a_request_without_a_body_gets_no_framing(
        self, client: Client, upstream: Upstream
    ) -> None:
        seen = forwarded(client, upstream)
        assert "Transfer-Encoding" not in seen
        assert "Content-Length" not in seen

    def test_an_empty_body_keeps_its_length(self, client: Client, upstream: Upstream) -> None:
        seen = forwarded(client, upstream, "Content-Length: 0", line="POST /")
        assert seen["Content-Length"] == "0"

    def test_the_clients_close_is_not_the_upstreams(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        done = exchange(client, upstream, request("GET /", "Connection: close"))
        assert not done.request.closes()
        assert exchange(edge.connects(), done.connection).response.status == 200

    def test_credentials_for_the_origin_pass(self, client: Client, upstream: Upstream) -> None:
        """RFC 9110 section 11.6.2."""
        seen = forwarded(client, upstream, "Authorization: Basic c2VjcmV0", "Cookie: a=b")
        assert seen["Authorization"] == "Basic c2VjcmV0"
        assert seen["Cookie"] == "a=b"


class TestForwardingFieldsOfAnUntrustedClient:
    """RFC 7239 section 8.1, and the practice around X-Forwarded-*."""

    def test_they_say_who_asked_for_what(self, client: Client, upstream: Upstream) -> None:
        seen = forwarded(client, upstream)
        assert seen["X-Forwarded-For"] == "127.0.0.1"
        assert seen["X-Real-IP"] == "127.0.0.1"
        assert seen["X-Forwarded-Host"] == "app.test"
        assert seen["X-Forwarded-Proto"] == "http"
        assert "Forwarded" not in seen

    def test_the_port_of_the_host_is_part_of_it(self, client: Client, upstream: Upstream) -> None:
        seen = exchange(client, upstream, request("GET /", host="App.test:8080")).request
        assert seen["Host"] == "App.test:8080"
        assert seen["X-Forwarded-Host"] == "App.test:8080"

    @pytest.mark.parametrize(
        "name",
        [
            "X-Forwarded-For",
            "x-forwarded-for",
            "X_Forwarded_For",
            "X-Forwarded_For",
            "x_FORWARDED-for",
            "X-Forwarded-Host",
            "X_Forwarded_Host",
            "X-Forwarded-Proto",
            "X_FORWARDED_PROTO",
            "X-Forwarded-Port",
            "X_Forwarded_Port",
            "X-Forwarded-Prefix",
            "X-Forwarded-Server",
            "X-Forwarded-Ssl",
            "Forwarded",
            "FORWARDED",
            "X-Real-IP",
            "X_Real_IP",
            "x-real_ip",
        ],
    )
    def test_what_the_client_says_in_any_spelling_is_replaced(
        self, client: Client, upstream: Upstream, name: str
    ) -> None:
        seen = forwarded(client, upstream, f"{name}: evil", f"{name.upper()}: evil2")
        assert b"evil" not in seen.raw
        spelled = name.lower().replace("_", "-")
        assert [each for each in seen.names if each.replace("_", "-") == spelled] in ([spelled], [])
        assert seen["X-Forwarded-For"] == "127.0.0.1"

    def test_the_address_is_that_of_the_connection(self, edge: Edge, upstream: Upstream) -> None:
        client = edge.connects(source="127.0.0.9")
        assert forwarded(client, upstream)["X-Forwarded-For"] == "127.0.0.9"

    @pytest.mark.settings(http_addr=(Address("::1", 0),))
    def test_an_ipv6_address_has_no_brackets_and_no_port(
        self, client: Client, upstream: Upstream
    ) -> None:
        seen = forwarded(client, upstream)
        assert seen["X-Forwarded-For"] == "::1"
        assert seen["X-Real-IP"] == "::1"

    @pytest.mark.settings(http_addr=(Address("", 0),))
    def test_all_addresses_are_both_families_and_each_client_keeps_its_own(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        (port,) = {port for _, port in edge.worker.addresses}
        for host in ("127.0.0.1", "::1"):
            client = connect(edge.conversation, (host, port))
            done = exchange(client, upstream, answered=ok("hi", "Connection: close"))
            assert done.request["X-Forwarded-For"] == host

    @pytest.mark.settings(trusted_proxies=(ip_network("127.0.0.2/32"),))
    def test_only_the_trusted_network_is_believed(self, edge: Edge, upstream: Upstream) -> None:
        seen = forwarded(edge.connects(), upstream, "X-Forwarded-For: 192.0.2.1")
        assert seen["X-Forwarded-For"] == "127.0.0.1"

    def test_two_clients_do_not_share_their_fields(self, edge: Edge, upstream: Upstream) -> None:
        """The same bytes of a head, from two addresses."""
        one = exchange(edge.connects(source="127.0.0.4"), upstream)
        other = exchange(edge.connects(source="127.0.0.5"), one.connection)
        assert one.request["X-Forwarded-For"] == "127.0.0.4"
        assert other.request["X-Forwarded-For"] == "127.0.0.5"


@pytest.mark.settings(trusted_proxies=(ip_network("127.0.0.0/24"), ip_network("10.0.0.0/8")))
class TestForwardingFieldsOfATrustedProxy:
    """RFC 7239 section 5, and the practice around X-Forwarded-*."""

    def test_its_address_is_appended_to_what_came(self, client: Client, upstream: Upstream) -> None:
        seen = forwarded(client, upstream, "X-Forwarded-For: 192.0.2.1")
        assert seen["X-Forwarded-For"] == "192.0.2.1, 127.0.0.1"

    def test_several_lines_are_one_list(self, client: Client, upstream: Upstream) -> None:
        seen = forwarded(
            client, upstream, "X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 192.0.2.2,10.0.0.1"
        )
        assert list(seen.tokens("X-Forwarded-For")) == [
            "192.0.2.1",
            "192.0.2.2",
            "10.0.0.1",
            "127.0.0.1",
        ]

    def test_host_and_proto_are_kept(self, client: Client, upstream: Upstream) -> None:
        seen = forwarded(
            client, upstream, "X-Forwarded-Host: shop.test", "X-Forwarded-Proto: https"
        )
        assert seen["X-Forwarded-Host"] == "shop.test"
        assert seen["X-Forwarded-Proto"] == "https"

    def test_host_and_proto_are_set_if_they_are_missing(
        self, client: Client, upstream: Upstream
    ) -> None:
        seen = forwarded(client, upstream)
        assert seen["X-Forwarded-Host"] == "app.test"
        assert seen["X-Forwarded-Proto"] == "http"

    @pytest.mark.parametrize(
        ("said", "found"),
        [
            (("X-Real-IP: 192.0.2.7",), "127.0.0.1"),
            (("X-Real-IP: 192.0.2.7", "X-Forwarded-For: 192.0.2.1"), "192.0.2.1"),
            (("X-Real-IP: 192.0.2.7", "X-Real-IP: 192.0.2.1"), "127.0.0.1"),
        ],
    )
    def test_real_ip_is_found_by_the_chain_whatever_was_sent(
        self, client: Client, upstream: Upstream, said: tuple[str, ...], found: str
    ) -> None:
        seen = forwarded(client, upstream, *said)
        assert seen.all("X-Real-IP") == [found]
        assert b"192.0.2.7" not in seen.raw

    def test_real_ip_is_the_last_address_that_is_not_trusted(
        self, client: Client, upstream: Upstream
    ) -> None:
        seen = forwarded(client, upstream, "X-Forwarded-For: 198.51.100.1, 192.0.2.1, 10.1.2.3")
        assert seen["X-Real-IP"] == "192.0.2.1"

    def test_a_trusted_proxy_is_known_by_its_address_in_ipv6_too(
        self, client: Client, upstream: Upstream
    ) -> None:
        seen = forwarded(client, upstream, "X-Forwarded-For: 192.0.2.1, ::ffff:10.1.2.3")
        assert seen["X-Real-IP"] == "192.0.2.1"

    @pytest.mark.parametrize("unknown", ["unknown", "192.0.2.1:1234", "_hidden", "1.2.3", "\xe4"])
    def test_the_chain_ends_where_somebody_wrote_no_address(
        self, client: Client, upstream: Upstream, unknown: str
    ) -> None:
        seen = forwarded(client, upstream, f"X-Forwarded-For: 192.0.2.9, {unknown}, 10.1.2.3")
        assert seen["X-Real-IP"] == "10.1.2.3"
        assert seen["X-Forwarded-For"] == f"192.0.2.9, {unknown}, 10.1.2.3, 127.0.0.1"

    def test_where_all_are_trusted_the_first_one_is_the_client(
        self, client: Client, upstream: Upstream
    ) -> None:
        seen = forwarded(client, upstream, "X-Forwarded-For: 10.9.9.9, 10.1.2.3")
        assert seen["X-Real-IP"] == "10.9.9.9"

    def test_a_spelling_with_underscores_is_never_believed(
        self, client: Client, upstream: Upstream
    ) -> None:
        seen = forwarded(client, upstream, "X_Forwarded_For: 192.0.2.66", "X_Real_IP: 192.0.2.66")
        assert b"192.0.2.66" not in seen.raw

    def test_what_connection_names_is_refused_here_too(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("GET /", "X-Forwarded-For: 192.0.2.1", "Connection: X-Forwarded-For"))
        client.is_refused(400)
        upstream.accepts_nothing()


class TestForwarded:
    """RFC 7239: the standard field, beside the older ones."""

    @pytest.mark.settings(forwarded=True)
    def test_what_an_untrusted_client_says_is_replaced(
        self, client: Client, upstream: Upstream
    ) -> None:
        seen = forwarded(client, upstream, "Forwarded: for=192.0.2.7", "X-Forwarded-For: 192.0.2.8")
        assert seen["Forwarded"] == "for=127.0.0.1;host=app.test;proto=http"
        assert seen["X-Forwarded-For"] == "127.0.0.1"

    @pytest.mark.settings(forwarded=True)
    def test_an_absolute_target_says_which_host_was_asked_for(
        self, client: Client, upstream: Upstream
    ) -> None:
        seen = forwarded(client, upstream, line="GET http://app.test:81/")
        assert seen["Forwarded"] == 'for=127.0.0.1;host="app.test:81";proto=http'

    @pytest.mark.settings(forwarded=True, http_addr=(Address("::1", 0),))
    def test_ipv6_is_quoted(self, edge: Edge, upstream: Upstream) -> None:
        seen = exchange(edge.connects(), upstream).request
        assert seen["Forwarded"] == 'for="[::1]";host=app.test;proto=http'

    @pytest.mark.settings(forwarded=True, trusted_proxies=(ip_network("127.0.0.1/32"),))
    @pytest.mark.parametrize(
        ("said", "earlier"),
        [
            (("Forwarded: for=192.0.2.7;proto=https",), "for=192.0.2.7;proto=https, "),
            (("Forwarded: for=a", "Forwarded: for=b"), "for=a, for=b, "),
            (("X-Forwarded-For: 192.0.2.7", "X-Request-Id: 1"), "for=192.0.2.7, "),
            (('Forwarded: for="open',), ""),
            ((), ""),
        ],
    )
    def test_what_a_trusted_proxy_says_is_continued(
        self, client: Client, upstream: Upstream, said: tuple[str, ...], earlier: str
    ) -> None:
        seen = forwarded(client, upstream, *said)
        assert seen["Forwarded"] == f"{earlier}for=127.0.0.1;host=app.test;proto=http"

    @pytest.mark.settings(trusted_proxies=(ip_network("127.0.0.1/32"),))
    def test_switched_off_it_passes_as_it_is(self, client: Client, upstream: Upstream) -> None:
        done = exchange(client, upstream, request("GET /", "Forwarded: for=a"))
        assert done.request["Forwarded"] == "for=a"
        assert "Forwarded" not in exchange(client, done.connection).request


class TestVia:
    """RFC 9110 section 7.6.3."""

    def test_it_names_protocol_and_edge(self, client: Client, upstream: Upstream) -> None:
        assert forwarded(client, upstream)["Via"] == "1.1 fairlead"

    def test_it_is_appended_to_what_came(self, client: Client, upstream: Upstream) -> None:
        seen = forwarded(client, upstream, "Via: 1.0 fred", "Via: 1.1 p.example (x)")
        assert ", ".join(seen.all("Via")) == "1.0 fred, 1.1 p.example (x), 1.1 fairlead"

    def test_it_says_in_which_version_the_request_came(
        self, client: Client, upstream: Upstream
    ) -> None:
        assert forwarded(client, upstream, line="GET / HTTP/1.0")["Via"] == "1.0 fairlead"


class TestMaxForwards:
    """RFC 9110 sections 7.6.2 and 9.3.8."""

    @pytest.mark.parametrize("method", ["OPTIONS", "TRACE"])
    @pytest.mark.parametrize(("came", "goes"), [("1", "0"), ("10", "9"), ("100", "99")])
    def test_it_is_decremented(
        self, client: Client, upstream: Upstream, method: str, came: str, goes: str
    ) -> None:
        seen = forwarded(client, upstream, f"Max-Forwards: {came}", line=f"{method} /")
        assert seen["Max-Forwards"] == goes

    def test_other_methods_keep_it(self, client: Client, upstream: Upstream) -> None:
        assert forwarded(client, upstream, "Max-Forwards: 0")["Max-Forwards"] == "0"

    def test_options_at_zero_is_answered_here(self, client: Client, upstream: Upstream) -> None:
        client.sends(request("OPTIONS /", "Max-Forwards: 0"))
        answer = client.receives_response()
        assert (answer.status, answer.body) == (200, b"")
        upstream.accepts_nothing()
        assert exchange(client, upstream).response.status == 200

    def test_trace_at_zero_is_answered_here_and_leaks_nothing(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(
            request(
                "TRACE /path?q",
                "Max-Forwards: 0",
                "Via: 1.1 other",
                "Cookie: secret=1",
                "Authorization: Basic secret",
                "X-Api-Key: secret",
            )
        )
        answer = client.receives_response()
        assert answer.status == 200
        assert answer["Content-Type"] == "message/http"
        assert b"secret" not in answer.raw + answer.body
        lines = answer.text.rstrip("\r\n").split("\r\n")
        assert lines[0] == "TRACE /path?q HTTP/1.1"
        names = {line.split(":")[0].lower() for line in lines[1:]}
        assert "host" in names
        assert names <= {"host", "via", "max-forwards"}
        upstream.accepts_nothing()

    def test_trace_at_zero_names_those_before_it(self, client: Client, upstream: Upstream) -> None:
        client.sends(request("TRACE / HTTP/1.0", "Max-Forwards: 0"))
        answer = client.receives_response()
        assert answer.text.split("\r\n")[0] == "TRACE / HTTP/1.0"
        assert "via" not in answer.text.lower()
        upstream.accepts_nothing()

    def test_a_body_with_an_answer_from_here_is_never_taken_for_a_request(
        self, client: Client, upstream: Upstream
    ) -> None:
        inner = request("GET /smuggled")
        fields = ("Max-Forwards: 0", f"Content-Length: {len(inner)}")
        client.sends(request("OPTIONS /", *fields, body=inner))
        assert client.receives_response().status == 200
        upstream.accepts_nothing()

    @pytest.mark.parametrize("value", ["-1", "x", "1.5", "0x1", "1, 2", ""])
    def test_what_is_no_number_is_refused(
        self, client: Client, upstream: Upstream, value: str
    ) -> None:
        client.sends(request("OPTIONS /", f"Max-Forwards: {value}"))
        client.is_refused(400)
        upstream.accepts_nothing()

    def test_two_of_them_are_refused(self, client: Client, upstream: Upstream) -> None:
        client.sends(request("TRACE /", "Max-Forwards: 1", "Max-Forwards: 0"))
        client.is_refused(400)
        upstream.accepts_nothing()


class TestTransparency:
    """RFC 9110 sections 5.3 and 7.6."""

    def test_fields_keep_their_order_and_spelling(self, client: Client, upstream: Upstream) -> None:
        fields = ["X-b: 1", "x-B: 2", "Accept: a", "X-B: 3", "accept: b"]
        seen = forwarded(client, upstream, *fields)
        kept = [f"{name}: {value}" for name, value in seen.fields if f"{name}: {value}" in fields]
        assert kept == fields

    def test_unknown_methods_and_fields_pass(self, client: Client, upstream: Upstream) -> None:
        seen = forwarded(client, upstream, "X-!#$%&'*+.^_`|~9: odd", line="BREW /pot")
        assert seen.method == "BREW"
        assert seen["X-!#$%&'*+.^_`|~9"] == "odd"

    @pytest.mark.parametrize(
        ("line", "value"),
        [
            ("X: \xff\x80\xe4", "\xff\x80\xe4"),
            ("X:", ""),
            ("X:  ", ""),
            ("X: a\tb", "a\tb"),
            ("X: a:b: c", "a:b: c"),
            ("X: " + "y" * 20000, "y" * 20000),
            ('X: "quoted, \\" and more"', '"quoted, \\" and more"'),
        ],
    )
    def test_values_pass_as_they_are(
        self, client: Client, upstream: Upstream, line: str, value: str
    ) -> None:
        assert forwarded(client, upstream, line)["X"] == value

    def test_the_host_field_comes_first(self, client: Client, upstream: Upstream) -> None:
        """RFC 9110 section 7.2: good practice, and some servers insist."""
        assert forwarded(client, upstream, "A: b").names[0] == "host"

    def test_a_field_proxy_does_not_reach_cgi(self, client: Client, upstream: Upstream) -> None:
        """CVE-2016-5385: CGI would make HTTP_PROXY of it."""
        assert "Proxy" not in forwarded(client, upstream, "Proxy: http://evil.test/")

    def test_binary_bodies_pass(self, client: Client, upstream: Upstream) -> None:
        body = bytes(range(256)) * 40
        sent = request("PUT /", f"Content-Length: {len(body)}", body=body)
        assert exchange(client, upstream, sent).request.body == body

    def test_every_request_of_a_connection_is_rewritten(
        self, client: Client, upstream: Upstream
    ) -> None:
        """A head that equals the one before may be remembered, but not its neighbours'."""
        connection = exchange(client, upstream, request("GET /1", "A: 1")).connection
        for target, field in (("/2", "A: 1"), ("/3", "B: 2"), ("/1", "A: 1"), ("/1", "B: 2")):
            seen = exchange(client, connection, request(f"GET {target}", field)).request
            assert seen.target == target
            name, value = field.split(": ")
            assert seen[name] == value
            assert seen["X-Forwarded-For"] == "127.0.0.1"
            assert seen["Via"] == "1.1 fairlead"


class TestHostOption:
    """RFC 9110 section 7.2: which Host the target sees."""

    def test_the_clients_host_is_kept(self, client: Client, upstream: Upstream) -> None:
        assert forwarded(client, upstream)["Host"] == "app.test"

    def test_a_route_can_send_the_targets_instead(self, edge: Edge, upstream: Upstream) -> None:
        edge.routes("app.test", upstream.target, host="target")
        seen = forwarded(edge.connects(), upstream)
        assert seen["Host"] == upstream.target
        assert seen["X-Forwarded-Host"] == "app.test"


class TestRepeats:
    """RFC 9110 section 9.2.2: a request is sent once, unless it is surely safe to repeat."""

    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_a_request_on_a_fresh_connection_is_never_repeated(
        self, client: Client, upstream: Upstream, method: str
    ) -> None:
        client.sends(request(f"{method} /", "Content-Length: 2", body="hi"))
        connection = upstream.accepts()
        connection.receives_request()
        connection.closes()
        assert client.receives_response().status == 502
        upstream.accepts_nothing()

    def test_a_request_is_not_repeated_once_a_byte_of_the_answer_came(
        self, client: Client, upstream: Upstream
    ) -> None:
        connection = exchange(client, upstream).connection
        client.sends(request("GET /"))
        connection.receives_request()
        connection.sends(b"HTTP/1.1 2")
        connection.closes()
        assert client.receives_response().status == 502
        upstream.accepts_nothing()

    def test_a_request_is_not_repeated_once_an_interim_response_came(
        self, client: Client, upstream: Upstream
    ) -> None:
        connection = exchange(client, upstream).connection
        client.sends(request("GET /"))
        connection.receives_request()
        connection.sends(b"HTTP/1.1 102 Processing\r\n\r\n")
        assert client.receives_response().status == 102
        connection.closes()
        assert client.receives_response().status == 502
        upstream.accepts_nothing()

    def test_an_idempotent_request_is_repeated_once_and_no_more(
        self, client: Client, upstream: Upstream
    ) -> None:
        connection = exchange(client, upstream).connection
        client.sends(request("GET /again"))
        assert connection.receives_request().target == "/again"
        connection.resets()
        second = upstream.accepts()
        assert second.receives_request().target == "/again"
        second.resets()
        assert client.receives_response().status == 502
        upstream.accepts_nothing()

    def test_the_repeated_request_is_the_same(self, client: Client, upstream: Upstream) -> None:
        connection = exchange(client, upstream).connection
        client.sends(request("DELETE /x?y", "A: b", "Via: 1.1 other"))
        first = connection.receives_request()
        connection.closes()
        second = upstream.accepts()
        assert second.receives_request().raw == first.raw
        second.sends(ok("deleted"))
        assert client.receives_response().text == "deleted"

    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"])
    def test_these_methods_are_idempotent(
        self, client: Client, upstream: Upstream, method: str
    ) -> None:
        connection = exchange(client, upstream).connection
        client.sends(request(f"{method} /"))
        connection.receives_request()
        connection.resets()
        second = upstream.accepts()
        assert second.receives_request().method == method
        second.sends(b"HTTP/1.1 204 No Content\r\n\r\n")
        assert client.receives_response(to=method).status == 204

    @pytest.mark.parametrize("method", ["POST", "PATCH", "LOCK", "BREW", "get"])
    def test_any_other_method_is_not_repeated(
        self, client: Client, upstream: Upstream, method: str
    ) -> None:
        connection = exchange(client, upstream).connection
        client.sends(request(f"{method} /"))
        connection.receives_request()
        connection.resets()
        assert client.receives_response().status == 502
        upstream.accepts_nothing()

    def test_a_request_whose_body_is_gone_is_not_repeated(
        self, client: Client, upstream: Upstream
    ) -> None:
        connection = exchange(client, upstream).connection
        client.sends(request("PUT /", "Content-Length: 1000000", body=b"x" * 300_000))
        connection.receives_head()
        connection.receives_data(b"x" * 300_000)
        connection.resets()
        answer = client.receives_response()
        assert answer.status == 502
        assert answer.closes()
        upstream.accepts_nothing()

"""How the edge reads requests: what it takes, what it refuses, and how the connection goes on."""

import pytest

from tests.harness import Client, Edge, Upstream, exchange
from tests.messages import chunk, chunks, ok, request, response


def refused(edge: Edge, upstream: Upstream, sent: bytes, status: int = 400) -> None:
    """The edge answers `sent` with `status` and a lingering close; the upstream sees nothing."""
    client = edge.connects()
    client.sends(sent)
    client.is_refused(status, to=sent.split(b" ")[0].decode("latin-1"))
    upstream.accepts_nothing()


class TestOctets:
    """RFC 9112 sections 2.2 and 5.2; RFC 9110 section 5.5."""

    @pytest.mark.parametrize("octet", [*range(0x09), *range(0x0A, 0x20), 0x7F])
    def test_a_control_in_a_field_value_is_refused(
        self, edge: Edge, upstream: Upstream, octet: int
    ) -> None:
        sent = b"GET / HTTP/1.1\r\nHost: app.test\r\nX: a%cb\r\n\r\n" % octet
        refused(edge, upstream, sent)

    @pytest.mark.parametrize("octet", [0x00, 0x09, 0x0B, 0x0D, 0x1F, 0x7F])
    def test_a_control_in_a_field_name_is_refused(
        self, edge: Edge, upstream: Upstream, octet: int
    ) -> None:
        sent = b"GET / HTTP/1.1\r\nHost: app.test\r\nX%cY: a\r\n\r\n" % octet
        refused(edge, upstream, sent)

    def test_lines_that_end_with_a_bare_lf_are_refused(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        refused(edge, upstream, b"GET / HTTP/1.1\nHost: app.test\n\n")

    def test_one_bare_lf_among_good_lines_is_refused(self, edge: Edge, upstream: Upstream) -> None:
        refused(edge, upstream, b"GET / HTTP/1.1\r\nHost: app.test\nX: y\r\n\r\n")

    def test_a_bare_lf_is_refused_before_the_head_is_complete(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(b"GET / HTTP/1.1\r\nHost: app.test\nX: y")
        client.is_refused(400)
        upstream.accepts_nothing()

    def test_a_first_field_line_led_by_whitespace_is_refused(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        refused(edge, upstream, b"GET / HTTP/1.1\r\n Host: app.test\r\n\r\n")
        refused(edge, upstream, b"GET / HTTP/1.1\r\n X: y\r\nHost: app.test\r\n\r\n")

    @pytest.mark.parametrize("fold", [b" ", b"\t", b"  \t"])
    def test_a_folded_field_is_refused(self, edge: Edge, upstream: Upstream, fold: bytes) -> None:
        sent = b"GET / HTTP/1.1\r\nHost: app.test\r\nX: a\r\n" + fold + b"b\r\n\r\n"
        refused(edge, upstream, sent)

    def test_a_few_empty_lines_before_a_request_are_ignored(
        self, client: Client, upstream: Upstream
    ) -> None:
        assert exchange(client, upstream, b"\r\n\r\n" + request("GET /")).response.status == 200

    def test_an_empty_line_after_a_body_is_ignored(
        self, client: Client, upstream: Upstream
    ) -> None:
        """RFC 9112 section 2.2: old clients send a CRLF after the body of a POST."""
        posted = request("POST /", "Content-Length: 2", body="hi")
        first = exchange(client, upstream, posted + b"\r\n")
        assert first.request.body == b"hi"
        assert exchange(client, first.connection).response.status == 200

    def test_empty_lines_without_end_are_refused(self, client: Client, upstream: Upstream) -> None:
        client.sends(b"\r\n" * 2000)
        client.is_refused(400)
        upstream.accepts_nothing()


class TestRequestLine:
    """RFC 9112 sections 2.3 and 3; RFC 9110 section 15.6.6."""

    @pytest.mark.parametrize(
        "line",
        [
            b"GET / HTTP/1.1 ",
            b"GET  / HTTP/1.1",
            b"GET /  HTTP/1.1",
            b"GET\t/ HTTP/1.1",
            b"GET /\tHTTP/1.1",
            b" GET / HTTP/1.1",
            b"GET /a b HTTP/1.1",
            b"GET /a\x00b HTTP/1.1",
            b"GET /a\x7fb HTTP/1.1",
            b"GET /\xc3\xa4 HTTP/1.1",
            b"GET /a#b HTTP/1.1",
            b"GET HTTP/1.1",
            b"GET",
            b"/ HTTP/1.1",
            b"G(T / HTTP/1.1",
            b"G\xc4T / HTTP/1.1",
            b"G:T / HTTP/1.1",
            b"GET / http/1.1",
            b"GET / HTTP/1.1x",
            b"GET / HTTP/1.10",
            b"GET / HTTP/01.1",
            b"GET / HTTP/1,1",
            b"GET / HTTP/11",
            b"GET / HTTP/1",
            b"GET / HTTP/",
            b"GET / HTTPS/1.1",
            b"GET / HTTP /1.1",
            b"GET / HTTP/ 1.1",
            b"GET /",
            b"HTTP/1.1 200 OK",
        ],
    )
    def test_a_malformed_request_line_is_refused(
        self, edge: Edge, upstream: Upstream, line: bytes
    ) -> None:
        refused(edge, upstream, line + b"\r\nHost: app.test\r\n\r\n")

    @pytest.mark.parametrize("version", ["0.9", "1.2", "1.9", "2.0", "3.0", "9.9"])
    def test_a_version_that_is_not_spoken_here_is_named_so(
        self, edge: Edge, upstream: Upstream, version: str
    ) -> None:
        refused(edge, upstream, request(f"GET / HTTP/{version}"), status=505)

    def test_the_preface_of_http2_is_refused(self, edge: Edge, upstream: Upstream) -> None:
        """RFC 9113 section 3.4."""
        client = edge.connects()
        client.sends(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")
        client.is_refused(505)
        upstream.accepts_nothing()

    def test_the_greeting_of_tls_is_refused(self, client: Client, upstream: Upstream) -> None:
        client.sends(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(80))
        client.is_refused(400)
        upstream.accepts_nothing()

    @pytest.mark.parametrize("version", ["1.0", "1.1"])
    def test_both_versions_of_http1_are_forwarded_as_1_1(
        self, client: Client, upstream: Upstream, version: str
    ) -> None:
        """RFC 9110 section 2.5: an intermediary sends its own version."""
        done = exchange(client, upstream, request(f"GET / HTTP/{version}"))
        assert done.request.line == "GET / HTTP/1.1"
        assert done.response.version == "HTTP/1.1"

    @pytest.mark.parametrize("method", ["A", "get", "X-1", "!#$%&'*+-.^_`|~", "PROPFIND", "M" * 60])
    def test_any_token_is_a_method(self, client: Client, upstream: Upstream, method: str) -> None:
        assert exchange(client, upstream, request(f"{method} /")).request.method == method


@pytest.mark.settings(max_target=100, max_head=2000, max_fields=10)
class TestSizes:
    """RFC 9112 section 3; RFC 6585 section 5."""

    def test_a_target_of_the_limit_passes(self, client: Client, upstream: Upstream) -> None:
        target = "/" + "a" * 99
        assert exchange(client, upstream, request(f"GET {target}")).request.target == target

    def test_a_target_one_over_the_limit_is_414(self, edge: Edge, upstream: Upstream) -> None:
        refused(edge, upstream, request("GET /" + "a" * 100), status=414)

    def test_the_limit_holds_for_absolute_form_too(self, edge: Edge, upstream: Upstream) -> None:
        refused(edge, upstream, request("GET http://app.test/" + "a" * 100), status=414)

    def test_a_target_over_every_limit_is_414_and_not_431(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        refused(edge, upstream, request("GET /" + "a" * 5000), status=414)

    def test_a_target_that_never_ends_is_refused_while_it_is_read(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(b"GET /" + b"a" * 300)
        client.is_refused(414)
        upstream.accepts_nothing()

    def test_a_method_that_never_ends_is_refused_while_it_is_read(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(b"G" * 3000)
        answer = client.receives_response()
        assert answer.status in (400, 414, 431)
        assert answer.closes()
        upstream.accepts_nothing()

    def test_a_head_of_the_limit_passes(self, client: Client, upstream: Upstream) -> None:
        padding = 2000 - len(request("GET /", "X: "))
        sent = request("GET /", "X: " + "a" * padding)
        assert len(sent) == 2000
        assert exchange(client, upstream, sent).request["X"] == "a" * padding

    def test_a_head_one_over_the_limit_is_431(self, edge: Edge, upstream: Upstream) -> None:
        padding = 2001 - len(request("GET /", "X: "))
        refused(edge, upstream, request("GET /", "X: " + "a" * padding), status=431)

    def test_a_field_that_never_ends_is_refused_while_it_is_read(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("GET /", "X: " + "a" * 3000)[:-4])
        client.is_refused(431)
        upstream.accepts_nothing()

    def test_as_many_fields_as_allowed_pass(self, client: Client, upstream: Upstream) -> None:
        fields = [f"X{number}: y" for number in range(9)]
        assert exchange(client, upstream, request("GET /", *fields)).response.status == 200

    def test_one_field_too_many_is_431(self, edge: Edge, upstream: Upstream) -> None:
        fields = [f"X{number}: y" for number in range(10)]
        refused(edge, upstream, request("GET /", *fields), status=431)

    def test_a_body_does_not_count_as_head(self, client: Client, upstream: Upstream) -> None:
        body = b"b" * 5000
        sent = request("POST /", "Content-Length: 5000", body=body)
        assert exchange(client, upstream, sent).request.body == body


class TestFields:
    """RFC 9112 section 5.1."""

    @pytest.mark.parametrize(
        "line",
        [
            b"X : y",
            b"X\t: y",
            b": y",
            b"X",
            b"X y: z",
            b"X(: y",
            b'"X": y',
            b"X\xc4: y",
            b"X/Y: z",
            b"X@Y: z",
            b"Content-Length : 5",
            b"Transfer-Encoding : chunked",
        ],
    )
    def test_a_malformed_field_is_refused(
        self, edge: Edge, upstream: Upstream, line: bytes
    ) -> None:
        refused(edge, upstream, b"GET / HTTP/1.1\r\nHost: app.test\r\n" + line + b"\r\n\r\n")

    @pytest.mark.parametrize("line", ["X:y", "X: y", "X:\ty \t", "X:      y"])
    def test_whitespace_around_a_value_is_not_part_of_it(
        self, client: Client, upstream: Upstream, line: str
    ) -> None:
        assert exchange(client, upstream, request("GET /", line)).request["X"] == "y"


class TestHost:
    """RFC 9112 section 3.2; RFC 9110 section 7.2."""

    @pytest.mark.parametrize(
        "lines",
        [
            [],
            ["Host: app.test", "Host: app.test"],
            ["Host: app.test", "Host: other.test"],
            ["Host: app.test", "host: app.test"],
            ["Host:"],
            ["Host: "],
            ["Host: app.test, other.test"],
            ["Host: app.test other.test"],
            ["Host: user@app.test"],
            ["Host: user:secret@app.test"],
            ["Host: app.test/path"],
            ["Host: http://app.test"],
            ["Host: app.test?x"],
            ["Host: app.test#x"],
            ["Host: app.test:"],
            ["Host: app.test:port"],
            ["Host: app.test:-1"],
            ["Host: app.test:+80"],
            ["Host: app.test: 80"],
            ["Host: app.test:65536"],
            ["Host: app.test:99999999999999999999"],
            ["Host: app.test:80:80"],
            ["Host: :80"],
            ["Host: [::1"],
            ["Host: ::1"],
            ["Host: [::1]x"],
            ["Host: [zz::1]"],
            ["Host: app\\test"],
            ["Host: app.test;x"],
            ['Host: "app.test"'],
            ["Host: \xe4pp.test"],
            ["Host: app..test"],
            ["Host: .app.test"],
            ["Host: " + "a" * 300],
            ["Host: app.test", "Ho_st: other.test", "Host_: x", "HOST: app.test"],
        ],
    )
    def test_anything_but_one_valid_host_is_refused(
        self, edge: Edge, upstream: Upstream, lines: list[str]
    ) -> None:
        edge.routes("*", upstream.target)
        refused(edge, upstream, request("GET /", *lines, host=None))

    @pytest.mark.parametrize(
        "host",
        ["app.test", "APP.Test", "app.test.", "app.test:80", "app.test:0", "app.test:65535"],
    )
    def test_host_and_port_in_any_case_are_one_host(
        self, client: Client, upstream: Upstream, host: str
    ) -> None:
        assert exchange(client, upstream, request("GET /", host=host)).request["Host"] == host

    @pytest.mark.parametrize(
        "host", ["127.0.0.1", "127.0.0.1:8080", "[::1]", "[::1]:80", "a_b.test"]
    )
    def test_addresses_and_underscores_are_hosts(
        self, edge: Edge, upstream: Upstream, host: str
    ) -> None:
        edge.routes("*", upstream.target)
        done = exchange(edge.connects(), upstream, request("GET /", host=host))
        assert done.request["Host"] == host

    def test_http_1_0_without_host_cannot_be_routed(self, edge: Edge, upstream: Upstream) -> None:
        edge.routes("*", upstream.target)
        refused(edge, upstream, request("GET / HTTP/1.0", host=None))

    def test_http_1_0_with_host_is_routed(self, client: Client, upstream: Upstream) -> None:
        assert exchange(client, upstream, request("GET / HTTP/1.0")).response.status == 200


class TestTargetForms:
    """RFC 9112 sections 3.2.1 to 3.2.4; RFC 9110 sections 7.7 and 9.3.6."""

    @pytest.mark.parametrize(
        "target",
        [
            "/a/../b/./c//d",
            "/%2e%2E/%2f%5c%00",
            "/a;b=c?d=e&f=%20&g=?/",
            "/?",
            "/??",
            "//app.test/path",
            "/http://other.test/",
            "/\\a|b^c`d{e}\"<f>'[]",
            "/a%zz",
            "/" + "a" * 2000,
        ],
    )
    def test_path_and_query_pass_untouched(
        self, client: Client, upstream: Upstream, target: str
    ) -> None:
        assert exchange(client, upstream, request(f"GET {target}")).request.target == target

    @pytest.mark.parametrize(
        ("target", "forwarded"),
        [
            ("http://app.test/x?y", "/x?y"),
            ("https://app.test/x", "/x"),
            ("HTTP://app.test/", "/"),
            ("http://app.test", "/"),
            ("http://app.test?x", "/?x"),
        ],
    )
    def test_the_authority_of_an_absolute_form_replaces_host(
        self, client: Client, upstream: Upstream, target: str, forwarded: str
    ) -> None:
        done = exchange(client, upstream, request(f"GET {target}", host="other.test"))
        assert done.request.target == forwarded
        assert done.request["Host"] == "app.test"
        assert done.request["X-Forwarded-Host"] == "app.test"

    def test_the_port_of_an_absolute_form_is_kept(self, client: Client, upstream: Upstream) -> None:
        done = exchange(client, upstream, request("GET http://app.test:81/", host="other.test"))
        assert done.request["Host"] == "app.test:81"

    def test_an_absolute_form_replaces_the_host_of_one_request_only(
        self, client: Client, upstream: Upstream
    ) -> None:
        """The fields may be remembered, being the same bytes; what replaced them may not."""
        connection = exchange(client, upstream).connection
        client.sends(request("GET http://unknown.test/"))
        assert client.receives_response().status == 404
        for line, host in (
            ("GET /", "app.test"),
            ("GET http://APP.test:80/", "APP.test:80"),
            ("GET /", "app.test"),
        ):
            seen = exchange(client, connection, request(line)).request
            assert seen["Host"] == host
            assert seen["X-Forwarded-Host"] == host

    def test_the_host_field_does_not_route_an_absolute_form(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("GET http://unknown.test/", host="app.test"))
        assert client.receives_response().status == 404
        upstream.accepts_nothing()

    @pytest.mark.parametrize(
        "sent",
        [
            request("GET http://app.test/", host=None),
            request("GET http://app.test/", "Host: app.test"),
            request("GET http://app.test/", host="user@app.test"),
            request("GET http://user@app.test/"),
            request("GET http://user:secret@app.test/"),
            request("GET http:///path"),
            request("GET http://"),
            request("GET http://app.test:99999/"),
            request("GET http://app.test:/"),
            request("GET http:app.test/"),
            request("GET ftp://app.test/"),
            request("GET ws://app.test/"),
            request("GET app.test/"),
            request("GET app.test:80"),
            request("GET ?x"),
            request("GET *"),
            request("POST *"),
            request("GET http://app.test,other.test/"),
            request("GET http://app.test\\@other.test/"),
        ],
    )
    def test_a_target_in_no_form_of_its_method_is_refused(
        self, edge: Edge, upstream: Upstream, sent: bytes
    ) -> None:
        edge.routes("*", upstream.target)
        refused(edge, upstream, sent)

    def test_an_asterisk_passes_with_options(self, client: Client, upstream: Upstream) -> None:
        assert exchange(client, upstream, request("OPTIONS *")).request.line == "OPTIONS * HTTP/1.1"

    def test_options_for_an_authority_alone_is_sent_with_an_asterisk(
        self, client: Client, upstream: Upstream
    ) -> None:
        """RFC 9112 section 3.2.4."""
        done = exchange(client, upstream, request("OPTIONS http://app.test", host="x.test"))
        assert done.request.target == "*"
        assert done.request["Host"] == "app.test"

    @pytest.mark.parametrize("target", ["app.test:443", "app.test", "/", "http://app.test/"])
    def test_connect_is_not_implemented(self, edge: Edge, upstream: Upstream, target: str) -> None:
        answer_to = request(f"CONNECT {target}")
        refused(edge, upstream, answer_to, status=501)


class TestContentLength:
    """RFC 9112 section 6.3, step 5; RFC 9110 section 8.6."""

    @pytest.mark.parametrize(
        "lines",
        [
            ["Content-Length: -1"],
            ["Content-Length: +5"],
            ["Content-Length: 0x5"],
            ["Content-Length: 5a"],
            ["Content-Length: 5 5"],
            ["Content-Length: 5, 5"],
            ["Content-Length: 5,"],
            ["Content-Length: ,5"],
            ["Content-Length: '5'"],
            ['Content-Length: "5"'],
            ["Content-Length: 5.0"],
            ["Content-Length: 1e1"],
            ["Content-Length: 1_0"],
            ["Content-Length: five"],
            ["Content-Length: \xb2"],
            ["Content-Length: 5;x"],
            ["Content-Length:"],
            ["Content-Length: "],
            ["Content-Length: 18446744073709551616"],
            ["Content-Length: 18446744073709551621"],
            ["Content-Length: 9223372036854775808"],
            ["Content-Length: " + "9" * 400],
            ["Content-Length: 5", "Content-Length: 5"],
            ["Content-Length: 5", "Content-Length: 6"],
            ["Content-Length: 5", "content-length: 0"],
            ["Content_Length: 5"],
            ["Content-Length: 5", "Content_Length: 6"],
        ],
    )
    def test_a_doubtful_length_is_refused(
        self, edge: Edge, upstream: Upstream, lines: list[str]
    ) -> None:
        refused(edge, upstream, request("POST /", *lines, body="hello"))

    @pytest.mark.parametrize(("value", "body"), [("0", ""), ("5", "hello"), ("007", "bonjour")])
    def test_digits_are_a_length(
        self, client: Client, upstream: Upstream, value: str, body: str
    ) -> None:
        sent = request("POST /", f"Content-Length: {value}", body=body)
        done = exchange(client, upstream, sent)
        assert done.request.text == body
        assert exchange(client, done.connection).response.status == 200


class TestTransferEncoding:
    """RFC 9112 sections 6.1 and 6.3, steps 3 and 4."""

    @pytest.mark.parametrize(
        "lines",
        [
            ["Transfer-Encoding: chunked", "Content-Length: 5"],
            ["Content-Length: 5", "Transfer-Encoding: chunked"],
            ["Transfer-Encoding: identity", "Content-Length: 5"],
            ["Transfer-Encoding: gzip"],
            ["Transfer-Encoding: gzip, chunked"],
            ["Transfer-Encoding: chunked, gzip"],
            ["Transfer-Encoding: chunked, chunked"],
            ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
            ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
            ["Transfer-Encoding: identity", "Transfer-Encoding: chunked"],
            ["Transfer-Encoding: identity"],
            ["Transfer-Encoding: chunked, identity"],
            ["Transfer-Encoding: xchunked"],
            ["Transfer-Encoding: chunkedx"],
            ["Transfer-Encoding: chunked;q=1"],
            ["Transfer-Encoding: chunked; x"],
            ["Transfer-Encoding: 'chunked'"],
            ['Transfer-Encoding: "chunked"'],
            ["Transfer-Encoding: \x0bchunked"],
            ["Transfer-Encoding: chunk"],
            ["Transfer-Encoding: chunked,"],
            ["Transfer-Encoding: ,chunked"],
            ["Transfer-Encoding: chun ked"],
            ["Transfer-Encoding: \xa0chunked"],
            ["Transfer-Encoding:"],
            ["Transfer_Encoding: chunked"],
            ["Transfer_Encoding: chunked", "Content-Length: 5"],
            ["Transfer-Encoding : chunked"],
            ["Transfer-Encoding\t: chunked"],
            [" Transfer-Encoding: chunked"],
            ["X: y", " Transfer-Encoding: chunked"],
        ],
    )
    def test_anything_but_one_chunked_is_refused(
        self, edge: Edge, upstream: Upstream, lines: list[str]
    ) -> None:
        refused(edge, upstream, request("POST /", *lines, body=chunks("hello")))

    def test_a_transfer_coding_in_http_1_0_is_refused(self, edge: Edge, upstream: Upstream) -> None:
        sent = request("POST / HTTP/1.0", "Transfer-Encoding: chunked", body=chunks("hello"))
        refused(edge, upstream, sent)

    @pytest.mark.parametrize("line", ["transfer-encoding: CHUNKED", "TRANSFER-ENCODING:\tChunked "])
    def test_name_and_coding_are_taken_in_any_case(
        self, client: Client, upstream: Upstream, line: str
    ) -> None:
        done = exchange(client, upstream, request("POST /", line, body=chunks("hello")))
        assert done.request.text == "hello"
        assert done.request["Transfer-Encoding"] == "chunked"


class TestChunks:
    """RFC 9112 sections 7.1, 7.1.1 and 7.1.2; RFC 9110 section 6.5.1."""

    CHUNKED = request("POST /", "Transfer-Encoding: chunked")

    @pytest.mark.parametrize(
        "body",
        [
            b"5\nhello\r\n0\r\n\r\n",
            b"5\rhello\r\n0\r\n\r\n",
            b" 5\r\nhello\r\n0\r\n\r\n",
            b"5 \r\nhello\r\n0\r\n\r\n",
            b"\r\n5\r\nhello\r\n0\r\n\r\n",
            b"0x5\r\nhello\r\n0\r\n\r\n",
            b"+5\r\nhello\r\n0\r\n\r\n",
            b"-5\r\nhello\r\n0\r\n\r\n",
            b"5g\r\nhello\r\n0\r\n\r\n",
            b"g\r\nhello\r\n0\r\n\r\n",
            b";x\r\nhello\r\n0\r\n\r\n",
            b"5_\r\nhello\r\n0\r\n\r\n",
            b"\r\n\r\n",
            b"10000000000000005\r\nhello\r\n0\r\n\r\n",
            b"f" * 40 + b"\r\nhello\r\n0\r\n\r\n",
            b"5\r\nhello0\r\n\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"5\r\nhelloXX0\r\n\r\n",
            b"5\r\nhello!\r\n0\r\n\r\n",
            b"5;\nx\r\nhello\r\n0\r\n\r\n",
            b"5;a\rb\r\nhello\r\n0\r\n\r\n",
            b"5;a\x00b\r\nhello\r\n0\r\n\r\n",
            b"5\r\nhello\r\n0\n\r\n",
            b"5\r\nhello\r\n0\r\n\n",
            b"5\r\nhello\r\n0\r\nX\r\n\r\n",
            b"5\r\nhello\r\n0\r\nX : y\r\n\r\n",
            b"5\r\nhello\r\n0\r\n X: y\r\n\r\n",
            b"5\r\nhello\r\n0\r\nX: a\x00b\r\n\r\n",
            b"5\r\nhello\r\n0\r\nX: a\nb\r\n\r\n",
        ],
    )
    def test_a_bad_chunk_is_never_part_of_a_whole_request(
        self, client: Client, upstream: Upstream, body: bytes
    ) -> None:
        client.sends(self.CHUNKED)
        connection = upstream.accepts()
        connection.receives_head()
        client.sends(body)
        client.is_refused(400)
        connection.sees_broken_body()

    @pytest.mark.parametrize(
        "body",
        [
            b"5\r\nhello\r\n0\r\n\r\n",
            b"5\r\nhello\r\n0000\r\n\r\n",
            b"0005\r\nhello\r\n0\r\n\r\n",
            b"1\r\nh\r\n4\r\nello\r\n0\r\n\r\n",
            b"5;a=b\r\nhello\r\n0;c\r\n\r\n",
            b'5;a="b;c"\r\nhello\r\n0\r\n\r\n',
            b"5\r\nhello\r\n0\r\nX-Trailer: y\r\n\r\n",
            b"5\r\nhello\r\n0\r\nContent-Length: 3\r\nHost: other.test\r\n\r\n",
        ],
    )
    def test_extensions_and_trailers_are_not_forwarded(
        self, client: Client, upstream: Upstream, body: bytes
    ) -> None:
        done = exchange(client, upstream, self.CHUNKED + body)
        assert done.request.text == "hello"
        assert "X-Trailer" not in done.request
        assert done.request["Host"] == "app.test"
        assert exchange(client, done.connection).response.status == 200

    @pytest.mark.parametrize("digits", [b"A", b"a"])
    def test_sizes_are_hexadecimal_in_any_case(
        self, client: Client, upstream: Upstream, digits: bytes
    ) -> None:
        body = digits + b"\r\n0123456789\r\n0\r\n\r\n"
        assert exchange(client, upstream, self.CHUNKED + body).request.text == "0123456789"

    def test_extensions_of_one_chunk_are_bounded(self, client: Client, upstream: Upstream) -> None:
        client.sends(self.CHUNKED)
        connection = upstream.accepts()
        connection.receives_head()
        client.sends(b"5;" + b"x" * 100_000)
        client.is_refused(400)
        connection.sees_broken_body()

    def test_extensions_of_all_chunks_are_bounded_together(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(self.CHUNKED)
        connection = upstream.accepts()
        connection.receives_head()
        client.sends((b"1;" + b"x" * 50 + b"\r\na\r\n") * 2000)
        client.is_refused(400)
        connection.sees_broken_body()

    def test_trailers_are_bounded(self, client: Client, upstream: Upstream) -> None:
        client.sends(self.CHUNKED)
        connection = upstream.accepts()
        connection.receives_head()
        client.sends(b"0\r\n" + b"X-Trailer: yyyyyyyyyyyyyyyyyyyy\r\n" * 5000)
        client.is_refused(400)
        connection.sees_broken_body()


class TestBodies:
    """RFC 9110 section 9.3.1: a body on any method is framed and forwarded."""

    @pytest.mark.parametrize("method", ["GET", "DELETE", "OPTIONS", "PROPFIND", "PUT"])
    def test_a_length_delimited_body_is_forwarded(
        self, client: Client, upstream: Upstream, method: str
    ) -> None:
        sent = request(f"{method} /", "Content-Length: 5", body="hello")
        done = exchange(client, upstream, sent)
        assert done.request.text == "hello"
        assert done.request["Content-Length"] == "5"
        assert exchange(client, done.connection).response.status == 200

    @pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
    def test_a_chunked_body_is_forwarded(
        self, client: Client, upstream: Upstream, method: str
    ) -> None:
        sent = request(f"{method} /", "Transfer-Encoding: chunked", body=chunks("hel", "lo"))
        client.sends(sent)
        connection = upstream.accepts()
        forwarded = connection.receives_request()
        assert forwarded.text == "hello"
        connection.sends(response("204 No Content"))
        assert client.receives_response(to=method).status == 204
        assert exchange(client, connection).response.status == 200

    def test_a_request_inside_a_body_is_only_a_body(
        self, client: Client, upstream: Upstream
    ) -> None:
        inner = request("GET /smuggled")
        sent = request("GET /", f"Content-Length: {len(inner)}", body=inner)
        done = exchange(client, upstream, sent)
        assert done.request.body == inner
        done.connection.receives_nothing()


class TestPipelining:
    """RFC 9112 section 9.3.2."""

    def test_requests_in_one_piece_are_answered_in_order(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("GET /1") + request("GET /2") + request("GET /3"))
        connection = upstream.accepts()
        for number in "123":
            assert connection.receives_request().target == f"/{number}"
            connection.sends(ok(number))
            assert client.receives_response().text == number
        upstream.accepts_nothing()

    def test_the_next_request_is_not_sent_before_the_answer_is_complete(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("GET /1") + request("GET /2"))
        connection = upstream.accepts()
        connection.receives_request()
        connection.receives_nothing()
        connection.sends(ok("first")[:-1])
        connection.receives_nothing()
        upstream.accepts_nothing()
        connection.sends(b"t")
        assert connection.receives_request().target == "/2"

    def test_a_request_behind_a_body_is_a_request_of_its_own(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(
            request("POST /1", "Content-Length: 3", body="one")
            + request("POST /2", "Transfer-Encoding: chunked", body=chunks("two"))
            + request("GET /3")
        )
        connection = upstream.accepts()
        bodies = []
        for _ in range(3):
            forwarded = connection.receives_request()
            bodies.append((forwarded.target, forwarded.text))
            connection.sends(ok())
            client.receives_response()
        assert bodies == [("/1", "one"), ("/2", "two"), ("/3", "")]

    def test_a_refused_request_does_not_disturb_the_answers_before_it(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("GET /1") + b"NONSENSE\r\n\r\n")
        connection = upstream.accepts()
        connection.receives_request()
        client.receives_nothing()
        connection.sends(ok("fine"))
        assert client.receives_response().text == "fine"
        client.is_refused(400)
        connection.receives_nothing()

    def test_unread_requests_are_bounded(self, client: Client, upstream: Upstream) -> None:
        """While an answer is awaited the edge stops reading, and the client cannot go on."""
        client.sends(request("GET /first"))
        connection = upstream.accepts()
        connection.receives_request()
        taken = client.sends_until_blocked(request("GET /more") * 1000, at_most=64 * 2**20)
        assert taken < 64 * 2**20
        connection.receives_nothing()
        upstream.accepts_nothing()

    def test_hundreds_of_pipelined_requests_are_answered(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(b"".join(request(f"GET /{number}") for number in range(300)))
        connection = upstream.accepts()
        for number in range(300):
            assert connection.receives_request().target == f"/{number}"
            connection.sends(ok(str(number)))
            assert client.receives_response().text == str(number)


class TestExpectations:
    """RFC 9110 section 10.1.1."""

    EXPECTING = request("POST /", "Content-Length: 5", "Expect: 100-continue")

    def test_the_upstream_says_when_to_continue(self, client: Client, upstream: Upstream) -> None:
        client.sends(self.EXPECTING)
        connection = upstream.accepts()
        assert connection.receives_head()["Expect"] == "100-continue"
        client.receives_nothing()
        connection.sends(response("100 Continue"))
        assert client.receives_response().status == 100
        client.sends(b"hello")
        connection.receives_data("hello")
        connection.receives_end()
        connection.sends(ok("thanks"))
        assert client.receives_response().text == "thanks"
        assert exchange(client, connection).response.status == 200

    def test_the_upstream_may_decline_the_body(self, client: Client, upstream: Upstream) -> None:
        """The connection cannot go on: nobody knows whether the body still comes."""
        client.sends(self.EXPECTING)
        connection = upstream.accepts()
        connection.receives_head()
        connection.sends(response("417 Expectation Failed", "Content-Length: 2", body="no"))
        answer = client.receives_response()
        assert (answer.status, answer.text) == (417, "no")
        assert answer.closes()
        client.sees_eof()
        connection.sees_end()

    def test_a_client_that_does_not_wait_is_served(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(self.EXPECTING + b"hello")
        connection = upstream.accepts()
        assert connection.receives_request().text == "hello"
        connection.sends(response("100 Continue") + ok())
        assert client.receives_response().status == 100
        assert client.receives_response().status == 200

    def test_an_upstream_that_never_says_continue_gets_the_body_too(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(self.EXPECTING)
        connection = upstream.accepts()
        connection.receives_head()
        client.sends(b"hello")
        connection.receives_data("hello")
        connection.sends(ok("fine"))
        assert client.receives_response().text == "fine"

    def test_an_expectation_is_ignored_from_http_1_0(
        self, client: Client, upstream: Upstream
    ) -> None:
        sent = request("POST / HTTP/1.0", "Content-Length: 5", "Expect: 100-continue", body="hello")
        client.sends(sent)
        connection = upstream.accepts()
        assert "Expect" not in connection.receives_request()
        connection.sends(response("100 Continue") + ok("fine"))
        assert client.receives_response().status == 200

    @pytest.mark.parametrize("value", ["100-Continue", "100-CONTINUE"])
    def test_the_expectation_is_taken_in_any_case(
        self, client: Client, upstream: Upstream, value: str
    ) -> None:
        sent = request("POST /", "Content-Length: 5", f"Expect: {value}", body="hello")
        assert exchange(client, upstream, sent).response.status == 200

    @pytest.mark.parametrize("value", ["200-ok", "100-continue, x=y", "100-continue2", "x"])
    def test_another_expectation_is_417(self, edge: Edge, upstream: Upstream, value: str) -> None:
        sent = request("POST /", "Content-Length: 5", f"Expect: {value}", body="hello")
        refused(edge, upstream, sent, status=417)


class TestPersistence:
    """RFC 9112 sections 9.3, 9.6 and C.2.2."""

    @pytest.mark.parametrize(
        "value", ["close", "Close", "keep-alive, close", "x, CLOSE ,y", "close,"]
    )
    def test_after_close_nothing_more_is_processed(
        self, client: Client, upstream: Upstream, value: str
    ) -> None:
        client.sends(request("GET /1", f"Connection: {value}") + request("GET /2"))
        connection = upstream.accepts()
        assert connection.receives_request().target == "/1"
        connection.sends(ok("last"))
        answer = client.receives_response()
        assert answer.text == "last"
        assert answer.closes()
        client.sees_eof()
        connection.receives_nothing()
        upstream.accepts_nothing()

    def test_the_end_is_announced_and_in_stages(self, client: Client, upstream: Upstream) -> None:
        client.sends(request("GET /", "Connection: close"))
        connection = upstream.accepts()
        connection.receives_request()
        connection.sends(ok("last"))
        assert client.is_refused(200).text == "last"

    def test_http_1_1_stays_open(self, client: Client, upstream: Upstream) -> None:
        first = exchange(client, upstream)
        assert not first.response.closes()
        assert exchange(client, first.connection).response.status == 200

    def test_http_1_0_closes_unless_it_asks(self, client: Client, upstream: Upstream) -> None:
        done = exchange(client, upstream, request("GET / HTTP/1.0"))
        assert "keep-alive" not in done.response.tokens("Connection")
        client.sees_eof()

    def test_http_1_0_stays_open_if_it_asks(self, client: Client, upstream: Upstream) -> None:
        asked = request("GET / HTTP/1.0", "Connection: Keep-Alive")
        first = exchange(client, upstream, asked)
        assert "keep-alive" in first.response.tokens("Connection")
        second = exchange(client, first.connection, request("GET / HTTP/1.0"))
        assert "keep-alive" not in second.response.tokens("Connection")
        client.sees_eof()

    def test_close_wins_over_keep_alive_in_http_1_0(
        self, client: Client, upstream: Upstream
    ) -> None:
        exchange(client, upstream, request("GET / HTTP/1.0", "Connection: keep-alive, close"))
        client.sees_eof()

    def test_a_malformed_connection_field_is_refused(self, edge: Edge, upstream: Upstream) -> None:
        refused(edge, upstream, request("GET /", "Connection: clo se"))


class TestHalfClose:
    """RFC 9112 section 9.6: who has gone, and who only has nothing more to say."""

    def test_a_client_that_half_closes_still_gets_its_answer(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("GET /"))
        client.half_closes()
        connection = upstream.accepts()
        connection.receives_request()
        connection.sends(ok("still here"))
        assert client.receives_response().text == "still here"
        client.sees_eof()

    def test_a_client_that_half_closes_gets_all_pipelined_answers(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("GET /1") + request("GET /2"))
        client.half_closes()
        connection = upstream.accepts()
        for number in "12":
            assert connection.receives_request().target == f"/{number}"
            connection.sends(ok(number))
            assert client.receives_response().text == number
        client.sees_eof()

    def test_a_request_that_stops_short_behind_a_whole_one_is_refused(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("GET /1") + request("GET /2")[:-4])
        client.half_closes()
        connection = upstream.accepts()
        assert connection.receives_request().target == "/1"
        connection.sends(ok("one"))
        assert client.receives_response().text == "one"
        assert client.receives_response().status == 400
        client.sees_eof()
        connection.receives_nothing()

    def test_empty_lines_behind_the_last_request_are_nothing(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("GET /") + b"\r\n")
        client.half_closes()
        connection = upstream.accepts()
        connection.receives_request()
        connection.sends(ok("one"))
        assert client.receives_response().text == "one"
        client.sees_eof()

    def test_a_long_answer_is_delivered_after_a_half_close(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("GET /"))
        client.half_closes()
        connection = upstream.accepts()
        connection.receives_request()
        connection.sends(response("200 OK", "Transfer-Encoding: chunked"))
        client.receives_head()
        for piece in ("one", "two", "three"):
            connection.sends(chunk(piece))
            client.receives_data(piece)
        connection.sends(chunk(""))
        client.receives_end()
        client.sees_eof()

    def test_a_silent_half_closed_client_is_probed_once(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("GET /"))
        client.half_closes()
        connection = upstream.accepts()
        connection.receives_request()
        edge.advance(0.5)
        client.receives_nothing()
        edge.advance(1.0)
        client.receives(b"HTTP/1.1 100 Continue\r\n\r\n")
        edge.advance(3)
        client.receives_nothing()
        connection.sends(ok("worth waiting for"))
        assert client.receives_response().text == "worth waiting for"
        client.sees_eof()

    def test_an_http_1_0_client_is_not_probed(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("GET / HTTP/1.0"))
        client.half_closes()
        connection = upstream.accepts()
        connection.receives_request()
        edge.advance(3)
        client.receives_nothing()
        connection.sends(ok("fine"))
        assert client.receives_response().text == "fine"

    def test_a_client_that_closed_while_waiting_ends_the_upstream_exchange(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("GET /"))
        connection = upstream.accepts()
        connection.receives_request()
        client.closes()
        edge.advance(1.5)
        edge.advance(1)
        connection.sees_end()

    def test_a_client_that_resets_while_waiting_ends_the_upstream_exchange(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("GET /"))
        connection = upstream.accepts()
        connection.receives_request()
        client.resets()
        connection.sees_end()

    def test_a_client_that_resets_while_it_is_answered_ends_the_upstream_exchange(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("GET /"))
        connection = upstream.accepts()
        connection.receives_request()
        connection.sends(response("200 OK", "Transfer-Encoding: chunked", body=chunk("one")))
        client.receives_head()
        client.resets()
        connection.sees_end()

    @pytest.mark.parametrize("fields", ["Content-Length: 10", "Transfer-Encoding: chunked"])
    def test_a_body_that_stops_short_is_never_a_whole_request(
        self, client: Client, upstream: Upstream, fields: str
    ) -> None:
        client.sends(request("POST /", fields, body=b"5\r\nhello"[:8]))
        connection = upstream.accepts()
        connection.receives_head()
        client.half_closes()
        connection.sees_broken_body()

    def test_a_head_that_stops_short_reaches_nobody(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("GET /")[:-2])
        client.half_closes()
        client.receives_some()
        upstream.accepts_nothing()

    def test_a_client_that_leaves_without_a_word_is_forgotten(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.half_closes()
        client.sees_eof()
        upstream.accepts_nothing()

    def test_a_client_that_leaves_between_requests_leaves_the_upstream_open(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        first = exchange(client, upstream)
        client.closes()
        assert exchange(edge.connects(), first.connection).response.status == 200

"""How the edge reads responses, what of them the client gets, and when it breaks the connection."""

import pytest

from tests.harness import Client, Edge, Upstream, UpstreamConnection, exchange
from tests.messages import Message, chunk, chunks, ok, request, response


def asked(client: Client, upstream: Upstream, line: str = "GET /") -> UpstreamConnection:
    """The upstream connection that has received a request and owes the answer."""
    client.sends(request(line))
    connection = upstream.accepts()
    connection.receives_request()
    return connection


def relayed(
    client: Client, upstream: Upstream, answer: bytes, line: str = "GET /"
) -> tuple[Message, UpstreamConnection]:
    """What the client gets of this answer."""
    connection = asked(client, upstream, line)
    connection.sends(answer)
    return client.receives_response(to=line.split(" ")[0]), connection


class TestHead:
    """RFC 9112 sections 4, 5.2 and 6.3; RFC 9110 section 2.5."""

    @pytest.mark.parametrize(
        "head",
        [
            b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/2 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/0.9 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 -20 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 000 Zero\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1\t200 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200\tOK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 O\x00K\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n",
            b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            b" HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"ICY 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
            b"\x15\x03\x01\x00\x02\x02\x46",
            b"<html>hello</html>\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: app.test\r\n\r\n",
            b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\nX: y\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: a\rb\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: a\x00b\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: a\x07b\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: a\r\n b\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n Content-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length : 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n: y\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX Y: z\r\n\r\n",
        ],
    )
    def test_a_malformed_head_is_502_and_closes_the_upstream(
        self, client: Client, upstream: Upstream, head: bytes
    ) -> None:
        answer, connection = relayed(client, upstream, head)
        assert answer.status == 502
        connection.sees_end()

    def test_after_a_malformed_head_the_client_can_go_on(
        self, client: Client, upstream: Upstream
    ) -> None:
        answer, _ = relayed(client, upstream, b"NONSENSE\r\n\r\n")
        assert answer.status == 502
        assert exchange(client, upstream).response.status == 200

    @pytest.mark.parametrize("status", [200, 299, 302, 404, 451, 500, 599, 600, 799, 999])
    def test_statuses_from_200_to_999_pass(
        self, client: Client, upstream: Upstream, status: int
    ) -> None:
        sent = response(f"{status} Some Reason", "Content-Length: 2", body="hi")
        answer, _ = relayed(client, upstream, sent)
        assert (answer.line, answer.text) == (f"HTTP/1.1 {status} Some Reason", "hi")

    @pytest.mark.parametrize(
        ("line", "passed"),
        [
            (b"HTTP/1.1 200 ", b"HTTP/1.1 200 "),
            (b"HTTP/1.1 200", b"HTTP/1.1 200 "),
            (b"HTTP/1.1 200 OK\tthen", b"HTTP/1.1 200 OK\tthen"),
            (b"HTTP/1.1 200 \xc3\xa4", b"HTTP/1.1 200 \xc3\xa4"),
        ],
    )
    def test_the_reason_may_be_anything_or_nothing(
        self, client: Client, upstream: Upstream, line: bytes, passed: bytes
    ) -> None:
        answer, _ = relayed(client, upstream, line + b"\r\nContent-Length: 0\r\n\r\n")
        assert answer.raw.startswith(passed + b"\r\n")

    def test_the_status_line_is_always_the_edges_version(
        self, client: Client, upstream: Upstream
    ) -> None:
        answer, _ = relayed(client, upstream, b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        assert (answer.line, answer.text) == ("HTTP/1.1 200 OK", "hi")

    def test_a_head_that_comes_in_pieces_is_one_head(
        self, client: Client, upstream: Upstream
    ) -> None:
        connection = asked(client, upstream)
        connection.sends_in_pieces(ok("hello", "X: y"))
        answer = client.receives_response()
        assert (answer.text, answer["X"]) == ("hello", "y")
        assert exchange(client, connection).response.status == 200

    def test_a_head_without_end_is_502(self, client: Client, upstream: Upstream) -> None:
        connection = asked(client, upstream)
        connection.keeps_sending(response("200 OK", "X: " + "y" * 1_000_000)[:-4])
        assert client.receives_response().status == 502
        connection.sees_end()

    def test_fields_without_end_are_502(self, client: Client, upstream: Upstream) -> None:
        connection = asked(client, upstream)
        connection.keeps_sending(response("200 OK", *["X: y"] * 5000, "Content-Length: 0"))
        assert client.receives_response().status == 502
        connection.sees_end()

    @pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Len", b"H"])
    @pytest.mark.parametrize("end", ["closes", "resets", "half_closes"])
    def test_an_upstream_that_leaves_before_its_head_is_502(
        self, client: Client, upstream: Upstream, sent: bytes, end: str
    ) -> None:
        connection = asked(client, upstream)
        connection.sends(sent)
        getattr(connection, end)()
        assert client.receives_response().status == 502
        assert exchange(client, upstream).response.status == 200


class TestFraming:
    """RFC 9112 section 6.3."""

    @pytest.mark.parametrize(
        "fields",
        [
            ["Content-Length: 5", "Content-Length: 5"],
            ["Content-Length: 5", "Content-Length: 6"],
            ["Content-Length: 5, 5"],
            ["Content-Length: +5"],
            ["Content-Length: -5"],
            ["Content-Length: 5a"],
            ["Content-Length: 0x5"],
            ["Content-Length: "],
            ["Content-Length: 18446744073709551621"],
            ["Content-Length: 5", "Transfer-Encoding: chunked"],
            ["Transfer-Encoding: chunked", "Content-Length: 5"],
            ["Transfer-Encoding: gzip"],
            ["Transfer-Encoding: gzip, chunked"],
            ["Transfer-Encoding: chunked, gzip"],
            ["Transfer-Encoding: chunked, chunked"],
            ["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
            ["Transfer-Encoding: identity"],
            ["Transfer-Encoding: xchunked"],
            ["Transfer-Encoding: "],
        ],
    )
    def test_doubtful_framing_is_502_and_closes_the_upstream(
        self, client: Client, upstream: Upstream, fields: list[str]
    ) -> None:
        answer, connection = relayed(client, upstream, response("200 OK", *fields, body="hello"))
        assert answer.status == 502
        assert "hello" not in answer.text
        connection.sees_end()

    def test_chunked_in_http_1_0_is_502(self, client: Client, upstream: Upstream) -> None:
        """RFC 9112 section 6.1."""
        sent = b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks("hello")
        answer, connection = relayed(client, upstream, sent)
        assert answer.status == 502
        connection.sees_end()

    def test_a_length_delimited_body_passes(self, client: Client, upstream: Upstream) -> None:
        answer, connection = relayed(client, upstream, ok("hello"))
        assert (answer["Content-Length"], answer.text) == ("5", "hello")
        assert exchange(client, connection).response.status == 200

    def test_an_empty_body_passes(self, client: Client, upstream: Upstream) -> None:
        answer, connection = relayed(client, upstream, ok())
        assert (answer["Content-Length"], answer.text) == ("0", "")
        assert exchange(client, connection).response.status == 200

    def test_a_chunked_body_is_framed_anew(self, client: Client, upstream: Upstream) -> None:
        sent = response(
            "200 OK",
            "Transfer-Encoding: chunked",
            "Trailer: X-Sum",
            body=b"3;ext=1\r\none\r\n0003\r\ntwo\r\n0\r\nX-Sum: 6\r\n\r\n",
        )
        answer, connection = relayed(client, upstream, sent)
        assert answer.text == "onetwo"
        assert "Trailer" not in answer
        assert "X-Sum" not in answer
        assert exchange(client, connection).response.status == 200

    def test_a_body_that_ends_with_the_connection_becomes_chunked(
        self, client: Client, upstream: Upstream
    ) -> None:
        """RFC 9112 section 6.3, step 8."""
        connection = asked(client, upstream)
        connection.sends(response("200 OK", body="until "))
        connection.sends(b"the end")
        connection.closes()
        answer = client.receives_response()
        assert answer.text == "until the end"
        assert answer["Transfer-Encoding"] == "chunked"
        assert exchange(client, upstream).response.status == 200

    def test_an_http_1_0_client_gets_it_closed(self, client: Client, upstream: Upstream) -> None:
        connection = asked(client, upstream, "GET / HTTP/1.0")
        connection.sends(response("200 OK", body="until the end"))
        connection.closes()
        answer = client.receives_response()
        assert answer.text == "until the end"
        assert "Transfer-Encoding" not in answer
        assert "Content-Length" not in answer
        client.sees_eof()

    def test_an_http_1_0_client_gets_no_chunks(self, client: Client, upstream: Upstream) -> None:
        """RFC 9112 section 6.1."""
        connection = asked(client, upstream, "GET / HTTP/1.0")
        sent = response("200 OK", "Transfer-Encoding: chunked", body=chunks("one", "two"))
        connection.sends(sent)
        answer = client.receives_response()
        assert answer.text == "onetwo"
        assert "Transfer-Encoding" not in answer
        client.sees_eof()

    def test_an_http_1_0_client_that_keeps_alive_is_closed_where_only_that_ends_the_body(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("GET / HTTP/1.0", "Connection: keep-alive"))
        connection = upstream.accepts()
        connection.receives_request()
        connection.sends(response("200 OK", "Transfer-Encoding: chunked", body=chunks("one")))
        answer = client.receives_response()
        assert answer.text == "one"
        assert "keep-alive" not in answer.tokens("Connection")
        client.sees_eof()


class TestNoBody:
    """RFC 9112 section 6.3, step 1."""

    @pytest.mark.parametrize("fields", [[], ["Content-Length: 5"], ["Transfer-Encoding: chunked"]])
    def test_head_has_no_body_whatever_the_fields_say(
        self, client: Client, upstream: Upstream, fields: list[str]
    ) -> None:
        answer, connection = relayed(client, upstream, response("200 OK", *fields), "HEAD /")
        assert answer.body == b""
        client.receives_nothing()
        assert exchange(client, connection).response.text == "hello"

    @pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
    @pytest.mark.parametrize("fields", [[], ["Content-Length: 5"], ["Transfer-Encoding: chunked"]])
    def test_204_and_304_have_no_body_whatever_the_fields_say(
        self, client: Client, upstream: Upstream, status: str, fields: list[str]
    ) -> None:
        answer, connection = relayed(client, upstream, response(status, *fields))
        assert answer.line == f"HTTP/1.1 {status}"
        client.receives_nothing()
        assert exchange(client, connection).response.text == "hello"

    def test_content_length_passes_for_head(self, client: Client, upstream: Upstream) -> None:
        """RFC 9110 section 8.6."""
        answer, _ = relayed(client, upstream, response("200 OK", "Content-Length: 5"), "HEAD /")
        assert answer["Content-Length"] == "5"

    def test_content_length_passes_for_304(self, client: Client, upstream: Upstream) -> None:
        sent = response("304 Not Modified", "Content-Length: 5", 'ETag: "x"')
        answer, _ = relayed(client, upstream, sent)
        assert answer["Content-Length"] == "5"
        assert answer["ETag"] == '"x"'

    def test_204_has_no_length(self, client: Client, upstream: Upstream) -> None:
        """RFC 9110 section 8.6: a server MUST NOT send it, so a gateway does not pass it on."""
        answer, _ = relayed(client, upstream, response("204 No Content", "Content-Length: 5"))
        assert "Content-Length" not in answer
        assert "Transfer-Encoding" not in answer

    @pytest.mark.parametrize("line", ["HEAD /", "GET /"])
    def test_a_body_where_none_can_be_is_poison(
        self, edge: Edge, client: Client, upstream: Upstream, line: str
    ) -> None:
        """What follows is no part of this answer, and of no other one."""
        status = "200 OK" if line == "HEAD /" else "304 Not Modified"
        sent = response(status, "Content-Length: 5", body="hello")
        _, connection = relayed(client, upstream, sent, line)
        client.receives_nothing()
        connection.sees_end()
        assert exchange(edge.connects(), upstream).response.status == 200


class TestIncompleteMessages:
    """RFC 9112 section 8: an incomplete message stays incomplete."""

    @pytest.mark.parametrize("end", ["closes", "resets", "half_closes"])
    @pytest.mark.parametrize(
        ("fields", "body"),
        [
            ("Content-Length: 10", b"hello"),
            ("Transfer-Encoding: chunked", b"5\r\nhello\r\n"),
            ("Transfer-Encoding: chunked", b"5\r\nhel"),
            ("Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n"),
            ("Transfer-Encoding: chunked", b"5\r\nhello\r\n0"),
        ],
    )
    def test_a_truncated_body_is_never_a_whole_one(
        self, client: Client, upstream: Upstream, fields: str, body: bytes, end: str
    ) -> None:
        connection = asked(client, upstream)
        connection.sends(response("200 OK", fields, body=body))
        client.receives_head()
        client.receives_data("hel")
        getattr(connection, end)()
        client.sees_broken_body()

    def test_a_reset_breaks_a_body_that_ends_with_the_connection(
        self, client: Client, upstream: Upstream
    ) -> None:
        connection = asked(client, upstream)
        connection.sends(response("200 OK", body="hello"))
        client.receives_head()
        client.receives_data("hello")
        connection.resets()
        client.sees_broken_body()

    @pytest.mark.parametrize(
        ("fields", "body"),
        [
            (["Content-Length: 10"], b"hello"),
            (["Transfer-Encoding: chunked"], b"5\r\nhello\r\n"),
            ([], b"hello"),
        ],
    )
    def test_an_http_1_0_client_learns_it_by_a_reset(
        self, client: Client, upstream: Upstream, fields: list[str], body: bytes
    ) -> None:
        """It has no framing that could tell it otherwise."""
        connection = asked(client, upstream, "GET / HTTP/1.0")
        connection.sends(response("200 OK", *fields, body=body))
        client.receives_head()
        client.receives_data("hello")
        connection.resets()
        client.sees_broken_body()

    @pytest.mark.parametrize(
        "body", [b"5\r\nhelloXX", b"zz\r\n", b"-1\r\n", b"5 \r\nhello\r\n", b"\n"]
    )
    def test_a_bad_chunk_breaks_the_connection(
        self, client: Client, upstream: Upstream, body: bytes
    ) -> None:
        connection = asked(client, upstream)
        connection.sends(response("200 OK", "Transfer-Encoding: chunked", body=chunk("first")))
        client.receives_head()
        client.receives_data("first")
        connection.sends(body)
        client.sees_broken_body()
        connection.sees_end()

    def test_a_pipelined_request_is_not_answered_behind_a_broken_body(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("GET /1") + request("GET /2"))
        connection = upstream.accepts()
        connection.receives_request()
        connection.sends(response("200 OK", "Content-Length: 10", body="hello"))
        client.receives_head()
        client.receives_data("hello")
        connection.closes()
        client.sees_broken_body()
        upstream.accepts_nothing()


class TestPoison:
    """RFC 9112 sections 6.3 and 9.2: bytes that no request asked for."""

    @pytest.mark.parametrize(
        "answer",
        [
            ok("hello"),
            response("200 OK", "Transfer-Encoding: chunked", body=chunks("hello")),
            response("200 OK", "Content-Length: 0"),
        ],
    )
    @pytest.mark.parametrize("excess", [b"!", b"\r\n", ok("for somebody else")])
    def test_bytes_behind_a_response_reach_nobody(
        self, client: Client, upstream: Upstream, answer: bytes, excess: bytes
    ) -> None:
        connection = asked(client, upstream)
        connection.sends(answer + excess)
        assert client.receives_response().status == 200
        client.receives_nothing()
        connection.sees_end()
        assert exchange(client, upstream).response.text == "hello"

    def test_bytes_without_a_request_reach_nobody(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        connection = exchange(client, upstream).connection
        connection.sends(ok("for somebody else"))
        connection.sees_end()
        client.receives_nothing()
        assert exchange(edge.connects(), upstream).response.text == "hello"

    def test_bytes_before_the_request_are_no_answer_to_it(
        self, client: Client, upstream: Upstream
    ) -> None:
        """An upstream that speaks first: its greeting is not the answer."""
        connection = exchange(client, upstream).connection
        connection.sends(response("408 Request Timeout", "Content-Length: 0"))
        connection.closes()
        client.conversation.settle()
        assert exchange(client, upstream).response.text == "hello"


class TestInterimResponses:
    """RFC 9110 section 15.2."""

    @pytest.mark.parametrize(
        ("status", "field"),
        [
            ("100 Continue", "X: y"),
            ("102 Processing", "X: y"),
            ("103 Early Hints", "Link: </style.css>; rel=preload"),
        ],
    )
    def test_they_pass_on_at_once(
        self, client: Client, upstream: Upstream, status: str, field: str
    ) -> None:
        connection = asked(client, upstream)
        connection.sends(response(status, field))
        interim = client.receives_response()
        assert interim.line == f"HTTP/1.1 {status}"
        assert interim[field.split(":")[0]] == field.split(": ")[1]
        connection.sends(ok("done"))
        assert client.receives_response().text == "done"
        assert exchange(client, connection).response.status == 200

    def test_several_pass_in_order(self, client: Client, upstream: Upstream) -> None:
        connection = asked(client, upstream)
        connection.sends(
            response("103 Early Hints", "Link: a")
            + response("103 Early Hints", "Link: b")
            + ok("c")
        )
        assert client.receives_response()["Link"] == "a"
        assert client.receives_response()["Link"] == "b"
        assert client.receives_response().text == "c"

    def test_an_http_1_0_client_gets_none(self, client: Client, upstream: Upstream) -> None:
        connection = asked(client, upstream, "GET / HTTP/1.0")
        connection.sends(response("103 Early Hints", "Link: a") + response("100 Continue"))
        client.receives_nothing()
        connection.sends(ok("done"))
        assert client.receives_response().text == "done"

    @pytest.mark.parametrize("fields", ["Content-Length: 5", "Transfer-Encoding: chunked"])
    def test_they_have_no_body_whatever_the_fields_say(
        self, client: Client, upstream: Upstream, fields: str
    ) -> None:
        connection = asked(client, upstream)
        connection.sends(response("103 Early Hints", fields) + ok("done"))
        interim = client.receives_response()
        assert interim.status == 103
        assert "Content-Length" not in interim
        assert "Transfer-Encoding" not in interim
        assert client.receives_response().text == "done"

    def test_their_fields_of_the_hop_are_removed(self, client: Client, upstream: Upstream) -> None:
        connection = asked(client, upstream)
        connection.sends(
            response("103 Early Hints", "Connection: X-Hop", "X-Hop: 1", "Keep-Alive: x", "A: b")
        )
        interim = client.receives_response()
        assert interim["A"] == "b"
        assert "X-Hop" not in interim
        assert "Keep-Alive" not in interim
        connection.sends(ok())
        client.receives_response()

    def test_thirty_two_pass(self, client: Client, upstream: Upstream) -> None:
        connection = asked(client, upstream)
        connection.sends(response("102 Processing") * 32 + ok("done"))
        for _ in range(32):
            assert client.receives_response().status == 102
        assert client.receives_response().text == "done"

    def test_more_than_thirty_two_are_502(self, client: Client, upstream: Upstream) -> None:
        connection = asked(client, upstream)
        connection.sends(response("102 Processing") * 33 + ok("done"))
        statuses: list[int] = []
        while not statuses or statuses[-1] < 200:
            statuses.append(client.receives_response().status)
        assert statuses == [102] * 32 + [502]
        connection.sees_end()


class TestFields:
    """RFC 9110 sections 7.6.1 and 6.6.1."""

    @pytest.mark.parametrize(
        "field",
        [
            "Keep-Alive: timeout=5",
            "Proxy-Authenticate: Basic",
            "Proxy-Connection: keep-alive",
            "Proxy-Authentication-Info: x",
            "Trailer: X-Sum",
            "TE: trailers",
            "Upgrade: h2c",
            "keep-alive: timeout=5",
        ],
    )
    def test_a_field_of_the_hop_is_not_passed_on(
        self, client: Client, upstream: Upstream, field: str
    ) -> None:
        answer, _ = relayed(client, upstream, ok("hi", field))
        assert field.split(":")[0] not in answer

    def test_what_connection_names_is_not_passed_on(
        self, client: Client, upstream: Upstream
    ) -> None:
        sent = ok("hi", "X-Hop: 1", "Connection: x-hop, X-Two", "X-Two: 2", "X-Three: 3")
        answer, _ = relayed(client, upstream, sent)
        assert "X-Hop" not in answer
        assert "X-Two" not in answer
        assert "Connection" not in answer
        assert answer["X-Three"] == "3"

    @pytest.mark.parametrize("name", ["Content-Length", "Transfer-Encoding"])
    def test_connection_cannot_take_the_framing_away(
        self, client: Client, upstream: Upstream, name: str
    ) -> None:
        """Either it is refused, or the client still gets a body with an end."""
        framing = "Content-Length: 5" if name == "Content-Length" else "Transfer-Encoding: chunked"
        body = b"hello" if name == "Content-Length" else chunks("hello")
        sent = response("200 OK", framing, f"Connection: {name}", body=body)
        answer, _ = relayed(client, upstream, sent)
        assert answer.status == 502 or (
            answer.text == "hello" and answer.response_framing("GET") != "close"
        )

    def test_the_upstreams_close_ends_only_that_hop(
        self, client: Client, upstream: Upstream
    ) -> None:
        answer, connection = relayed(client, upstream, ok("hi", "Connection: close"))
        assert not answer.closes()
        connection.sees_end()
        assert exchange(client, upstream).response.status == 200

    def test_an_http_1_0_upstream_is_not_kept_open(
        self, client: Client, upstream: Upstream
    ) -> None:
        sent = b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi"
        answer, connection = relayed(client, upstream, sent)
        assert not answer.closes()
        connection.sees_end()
        assert exchange(client, upstream).response.status == 200

    def test_an_http_1_0_upstream_that_keeps_alive_is_kept(
        self, client: Client, upstream: Upstream
    ) -> None:
        sent = b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nhi"
        _, connection = relayed(client, upstream, sent)
        assert exchange(client, connection).response.status == 200

    def test_date_is_added_if_it_is_missing(self, client: Client, upstream: Upstream) -> None:
        """RFC 9110 section 5.6.7 says how it is written."""
        answer, _ = relayed(client, upstream, response("200 OK", "Content-Length: 0"))
        days = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
        assert answer["Date"].startswith(tuple(f"{day}, " for day in days))
        assert answer["Date"].endswith(" GMT")

    def test_a_date_that_is_there_is_kept(self, client: Client, upstream: Upstream) -> None:
        sent = response("200 OK", "Content-Length: 0", "date: Tue, 15 Nov 1994 08:12:31 GMT")
        answer, _ = relayed(client, upstream, sent)
        assert answer["Date"] == "Tue, 15 Nov 1994 08:12:31 GMT"

    def test_a_date_that_connection_names_is_replaced(
        self, client: Client, upstream: Upstream
    ) -> None:
        answer, _ = relayed(client, upstream, ok("hi", "Connection: Date"))
        assert "1994" not in answer["Date"]

    def test_server_is_removed(self, client: Client, upstream: Upstream) -> None:
        answer, _ = relayed(client, upstream, ok("hi", "Server: secret/1.0", "X: y"))
        assert "Server" not in answer
        assert answer["X"] == "y"

    @pytest.mark.settings(hide_server=False)
    def test_server_is_kept_if_the_setting_says_so(
        self, client: Client, upstream: Upstream
    ) -> None:
        answer, _ = relayed(client, upstream, ok("hi", "Server: known/1.0"))
        assert answer["Server"] == "known/1.0"

    def test_fields_keep_order_spelling_and_octets(
        self, client: Client, upstream: Upstream
    ) -> None:
        fields = ["Set-Cookie: a=1", "X-y: \xff\x80", "set-cookie: b=2", "Empty:", "SET-COOKIE: c"]
        answer, _ = relayed(client, upstream, ok("hi", *fields))
        assert answer.all("Set-Cookie") == ["a=1", "b=2", "c"]
        names = [
            name for name, _ in answer.fields if name.lower() in ("set-cookie", "x-y", "empty")
        ]
        assert names == ["Set-Cookie", "X-y", "set-cookie", "Empty", "SET-COOKIE"]
        assert answer["X-Y"] == "\xff\x80"
        assert answer["Empty"] == ""

    def test_answers_that_look_alike_do_not_share_their_fields(
        self, client: Client, upstream: Upstream
    ) -> None:
        """A head that equals the one before may be remembered, but not its neighbours'."""
        connection = exchange(client, upstream, answered=ok("one", "X: 1")).connection
        for body, value in (("two", "1"), ("six", "2"), ("seven", "1"), ("two", "1")):
            done = exchange(client, connection, answered=ok(body, f"X: {value}"))
            assert (done.response.text, done.response["X"]) == (body, value)


class TestEarlyAnswers:
    """RFC 9112 sections 9.3 and 9.6."""

    POST = request("POST /", "Content-Length: 1000000")

    def test_an_answer_before_the_body_is_relayed_at_once(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(self.POST + b"x" * 1000)
        connection = upstream.accepts()
        connection.receives_head()
        connection.receives_data(b"x" * 1000)
        connection.sends(response("413 Content Too Large", "Content-Length: 3", body="big"))
        answer = client.receives_response()
        assert (answer.status, answer.text) == (413, "big")
        assert answer.closes()
        client.sees_eof()

    def test_the_connection_ends_in_stages(self, client: Client, upstream: Upstream) -> None:
        client.sends(self.POST + b"x" * 1000)
        connection = upstream.accepts()
        connection.receives_head()
        connection.sends(response("401 Unauthorized", "Content-Length: 2", body="no"))
        assert client.is_refused(401).text == "no"
        connection.sees_end()

    def test_the_rest_of_the_body_is_not_taken_for_a_request(
        self, client: Client, upstream: Upstream
    ) -> None:
        inner = request("GET /smuggled")
        client.sends(request("POST /", f"Content-Length: {len(inner)}"))
        connection = upstream.accepts()
        connection.receives_head()
        connection.sends(ok("early"))
        assert client.receives_response().text == "early"
        client.keeps_sending(inner)
        connection.receives_some()
        client.conversation.settle()
        upstream.accepts_nothing()

    def test_an_early_answer_may_stream(self, client: Client, upstream: Upstream) -> None:
        client.sends(request("POST /", "Transfer-Encoding: chunked", body=chunk("up 1")))
        connection = upstream.accepts()
        connection.receives_head()
        connection.receives_data("up 1")
        connection.sends(response("200 OK", "Transfer-Encoding: chunked", body=chunk("down 1")))
        client.receives_head()
        client.receives_data("down 1")
        client.sends(chunk("up 2"))
        connection.receives_data("up 2")
        connection.sends(chunk("down 2"))
        client.receives_data("down 2")
        client.sends(chunk(""))
        connection.receives_end()
        connection.sends(chunk(""))
        client.receives_end()

    def test_an_upstream_that_answers_early_and_closes_is_heard(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(self.POST + b"x" * 1000)
        connection = upstream.accepts()
        connection.receives_head()
        connection.receives_data(b"x" * 1000)
        connection.sends(response("403 Forbidden", "Connection: close", "Content-Length: 0"))
        connection.closes()
        client.keeps_sending(b"x" * 1000)
        answer = client.receives_response()
        assert answer.status == 403
        assert answer.closes()

    def test_the_upstream_is_not_used_again(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        client.sends(self.POST)
        connection = upstream.accepts()
        connection.receives_head()
        connection.sends(ok("early"))
        client.receives_response()
        connection.sees_end()
        assert exchange(edge.connects(), upstream).response.status == 200

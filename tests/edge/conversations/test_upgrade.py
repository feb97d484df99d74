"""Upgrades: when a tunnel opens, and how bytes, half-closes and resets pass through it."""

import pytest

from tests.harness import Client, Edge, Upstream, UpstreamConnection, exchange, flow
from tests.messages import Head, chunks, ok, request, response

HANDSHAKE = request(
    "GET /chat", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: k"
)
SWITCH = response("101 Switching Protocols", "Connection: Upgrade", "Upgrade: websocket")


def tunnel(client: Client, upstream: Upstream) -> UpstreamConnection:
    """The upstream's side of an open tunnel."""
    client.sends(HANDSHAKE)
    connection = upstream.accepts()
    connection.receives_head()
    connection.sends(SWITCH)
    assert client.receives_head().status == 101
    return connection


def asked_for(client: Client, upstream: Upstream, sent: bytes) -> Head:
    """What the upstream gets of this request."""
    return exchange(client, upstream, sent).request


class TestHandshake:
    """RFC 9110 section 7.8; RFC 6455 section 4."""

    def test_the_upgrade_is_forwarded_as_it_was_asked(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(HANDSHAKE)
        seen = upstream.accepts().receives_head()
        assert list(seen.tokens("Connection")) == ["upgrade"]
        assert seen["Upgrade"] == "websocket"
        assert seen["Sec-WebSocket-Key"] == "k"
        assert seen["Via"] == "1.1 fairlead"

    def test_the_switch_is_answered_as_it_was_given(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(HANDSHAKE)
        connection = upstream.accepts()
        connection.receives_head()
        connection.sends(
            response(
                "101 Switching Protocols",
                "Upgrade: websocket",
                "Connection: Upgrade",
                "Sec-WebSocket-Accept: a",
                "Keep-Alive: x",
            )
        )
        answer = client.receives_head()
        assert answer.line == "HTTP/1.1 101 Switching Protocols"
        assert list(answer.tokens("Connection")) == ["upgrade"]
        assert answer["Upgrade"] == "websocket"
        assert answer["Sec-WebSocket-Accept"] == "a"
        assert "Keep-Alive" not in answer

    @pytest.mark.parametrize(
        ("connection", "upgrade"),
        [
            ("upgrade", "websocket"),
            ("keep-alive, UPGRADE", "WebSocket"),
            ("X, upgrade ,Y", "foo/2, bar"),
            ("Upgrade", "any-protocol/1.0"),
        ],
    )
    def test_any_protocol_may_be_asked_for(
        self, client: Client, upstream: Upstream, connection: str, upgrade: str
    ) -> None:
        client.sends(request("GET /", f"Connection: {connection}", f"Upgrade: {upgrade}"))
        seen = upstream.accepts().receives_head()
        assert list(seen.tokens("Connection")) == ["upgrade"]
        assert list(seen.tokens("Upgrade")) == [each.strip().lower() for each in upgrade.split(",")]

    def test_one_of_several_protocols_may_be_chosen(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("GET /", "Connection: upgrade", "Upgrade: foo/2, bar"))
        connection = upstream.accepts()
        connection.receives_head()
        connection.sends(response("101 X", "Connection: upgrade", "Upgrade: bar") + b"hello")
        assert client.receives_head()["Upgrade"] == "bar"
        client.receives(b"hello")

    @pytest.mark.parametrize(
        "sent",
        [
            request("GET /", "Upgrade: websocket"),
            request("GET /", "Connection: keep-alive", "Upgrade: websocket"),
            request("GET /", "Connection: upgrade"),
            request("GET /", "Connection: upgrade", "Upgrade:"),
            request("GET / HTTP/1.0", "Connection: upgrade", "Upgrade: websocket"),
            request("GET /", "Connection: upgrade", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"),
            request("GET /", "Connection: Upgrade, HTTP2-Settings", "Upgrade: H2C"),
            request(
                "POST /",
                "Connection: upgrade",
                "Upgrade: websocket",
                "Content-Length: 2",
                body="hi",
            ),
            request(
                "POST /",
                "Connection: upgrade",
                "Upgrade: websocket",
                "Transfer-Encoding: chunked",
                body=chunks("hi"),
            ),
        ],
    )
    def test_what_cannot_be_an_upgrade_is_an_ordinary_request(
        self, client: Client, upstream: Upstream, sent: bytes
    ) -> None:
        seen = asked_for(client, upstream, sent)
        assert "Upgrade" not in seen
        assert "Connection" not in seen
        assert "HTTP2-Settings" not in seen

    @pytest.mark.parametrize("upgrade", ["web socket", "a@b", '"websocket"', "websocket/", "/13"])
    def test_a_malformed_upgrade_is_refused(
        self, client: Client, upstream: Upstream, upgrade: str
    ) -> None:
        client.sends(request("GET /", "Connection: upgrade", f"Upgrade: {upgrade}"))
        client.is_refused(400)
        upstream.accepts_nothing()

    def test_h2c_is_taken_out_of_a_list(self, client: Client, upstream: Upstream) -> None:
        sent = request("GET /", "Connection: upgrade", "Upgrade: h2c, websocket")
        client.sends(sent)
        assert "h2c" not in set(upstream.accepts().receives_head().tokens("Upgrade"))

    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_a_101_that_nobody_asked_for_is_502(
        self, client: Client, upstream: Upstream, method: str
    ) -> None:
        client.sends(request(f"{method} /"))
        connection = upstream.accepts()
        connection.receives_head()
        connection.sends(SWITCH + ok("smuggled"))
        answer = client.receives_response()
        assert answer.status == 502
        assert "smuggled" not in answer.text
        connection.sees_end()

    @pytest.mark.parametrize(
        "switch",
        [
            response("101 Switching Protocols"),
            response("101 Switching Protocols", "Connection: upgrade"),
            response("101 Switching Protocols", "Connection: upgrade", "Upgrade: other"),
            response("101 Switching Protocols", "Connection: upgrade", "Upgrade: websocket, other"),
            response("101 Switching Protocols", "Connection: upgrade", "Upgrade: h2c"),
        ],
    )
    def test_a_switch_to_something_else_is_502(
        self, client: Client, upstream: Upstream, switch: bytes
    ) -> None:
        client.sends(HANDSHAKE)
        connection = upstream.accepts()
        connection.receives_head()
        connection.sends(switch)
        assert client.receives_response().status == 502
        connection.sees_end()

    @pytest.mark.parametrize("status", ["200 OK", "403 Forbidden", "426 Upgrade Required"])
    def test_any_other_answer_is_an_ordinary_response(
        self, client: Client, upstream: Upstream, status: str
    ) -> None:
        client.sends(HANDSHAKE)
        connection = upstream.accepts()
        connection.receives_head()
        connection.sends(response(status, "Content-Length: 2", body="no"))
        answer = client.receives_response()
        assert (f"{answer.status} {answer.reason}", answer.text) == (status, "no")
        assert exchange(client, connection).response.status == 200

    def test_interim_responses_may_come_before_the_switch(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(HANDSHAKE)
        connection = upstream.accepts()
        connection.receives_head()
        connection.sends(response("103 Early Hints") + SWITCH)
        assert client.receives_head().status == 103
        assert client.receives_head().status == 101

    def test_a_request_upgrade_on_a_connection_that_was_used_before(
        self, client: Client, upstream: Upstream
    ) -> None:
        connection = exchange(client, upstream).connection
        client.sends(HANDSHAKE)
        connection.receives_head()
        connection.sends(SWITCH + b"hello")
        assert client.receives_head().status == 101
        client.receives(b"hello")

    def test_an_upstream_that_closes_instead_of_answering_is_502(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(HANDSHAKE)
        connection = upstream.accepts()
        connection.receives_head()
        connection.closes()
        assert client.receives_response().status == 502


class TestBytesWithTheHandshake:
    """RFC 9110 section 7.8: the tunnel opens with the 101, and what came early is kept in order."""

    def test_nothing_is_forwarded_before_the_101(self, client: Client, upstream: Upstream) -> None:
        client.sends(HANDSHAKE + b"early")
        connection = upstream.accepts()
        connection.receives_head()
        connection.receives_nothing()
        connection.sends(SWITCH)
        connection.receives(b"early")

    def test_bytes_of_the_client_are_kept_in_order(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(HANDSHAKE + b"one ")
        connection = upstream.accepts()
        connection.receives_head()
        client.sends(b"two ")
        connection.receives_nothing()
        connection.sends(SWITCH)
        client.receives_head()
        client.sends(b"three")
        connection.receives(b"one two three")

    def test_bytes_of_the_upstream_are_kept_in_order(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(HANDSHAKE)
        connection = upstream.accepts()
        connection.receives_head()
        connection.sends(SWITCH + b"one ")
        connection.sends(b"two")
        assert client.receives_head().status == 101
        client.receives(b"one two")

    def test_early_bytes_after_a_refused_upgrade_are_a_request(
        self, client: Client, upstream: Upstream
    ) -> None:
        """The client pipelined; no tunnel was opened."""
        client.sends(HANDSHAKE + request("GET /next"))
        connection = upstream.accepts()
        connection.receives_head()
        connection.sends(response("403 Forbidden", "Content-Length: 0"))
        assert client.receives_response().status == 403
        assert connection.receives_request().target == "/next"
        connection.sends(ok("next"))
        assert client.receives_response().text == "next"

    def test_early_bytes_are_bounded(self, client: Client, upstream: Upstream) -> None:
        client.sends(HANDSHAKE)
        connection = upstream.accepts()
        connection.receives_head()
        most = 64 * 2**20
        assert client.sends_until_blocked(b"x" * 65536, at_most=most) < most
        connection.receives_nothing()


class TestTunnel:
    """RFC 6455 section 7.1.1; RFC 9110 section 9.3.6 for how a tunnel ends."""

    def test_bytes_pass_in_both_directions_as_they_are(
        self, client: Client, upstream: Upstream
    ) -> None:
        connection = tunnel(client, upstream)
        client.sends(b"\x81\x05hello\x00\r\n\r\n")
        connection.receives(b"\x81\x05hello\x00\r\n\r\n")
        connection.sends(bytes(range(256)))
        client.receives(bytes(range(256)))

    def test_what_looks_like_http_is_not_http(self, client: Client, upstream: Upstream) -> None:
        connection = tunnel(client, upstream)
        client.sends(request("GET /other"))
        connection.receives(request("GET /other"))
        connection.sends(b"HTTP/1.1 999 X\r\nServer: y\r\n\r\n")
        client.receives(b"HTTP/1.1 999 X\r\nServer: y\r\n\r\n")

    def test_the_clients_half_close_is_passed_on(self, client: Client, upstream: Upstream) -> None:
        connection = tunnel(client, upstream)
        client.sends(b"last words")
        client.half_closes()
        connection.receives(b"last words")
        connection.sees_eof()
        connection.sends(b"and the answer")
        client.receives(b"and the answer")
        connection.closes()
        client.sees_eof()

    def test_the_upstreams_half_close_is_passed_on(
        self, client: Client, upstream: Upstream
    ) -> None:
        connection = tunnel(client, upstream)
        connection.sends(b"last words")
        connection.half_closes()
        client.receives(b"last words")
        client.sees_eof()
        client.sends(b"and the answer")
        connection.receives(b"and the answer")
        client.closes()
        connection.sees_eof()

    def test_the_clients_reset_is_passed_on(self, client: Client, upstream: Upstream) -> None:
        connection = tunnel(client, upstream)
        client.resets()
        connection.sees_reset()

    def test_the_upstreams_reset_is_passed_on(self, client: Client, upstream: Upstream) -> None:
        connection = tunnel(client, upstream)
        connection.resets()
        client.sees_reset()

    @pytest.mark.parametrize("size", [10, 300_000, 3_000_000])
    def test_all_data_is_delivered_before_the_end(
        self, client: Client, upstream: Upstream, size: int
    ) -> None:
        connection = tunnel(client, upstream)
        data = bytes(range(256)) * (size // 256 + 1)
        received = flow(connection, client, data)
        connection.closes()
        assert received + client.receives_rest() == data

    def test_a_close_with_the_last_bytes_delivers_them(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(HANDSHAKE)
        connection = upstream.accepts()
        connection.receives_head()
        connection.sends(SWITCH + b"x" * 100_000)
        connection.closes()
        assert client.receives_head().status == 101
        assert client.receives_rest() == b"x" * 100_000

    def test_a_half_close_before_the_switch_is_passed_on(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(HANDSHAKE + b"all I have")
        client.half_closes()
        connection = upstream.accepts()
        connection.receives_head()
        connection.sends(SWITCH)
        connection.receives(b"all I have")
        connection.sees_eof()
        connection.sends(b"thanks")
        connection.closes()
        assert client.receives_head().status == 101
        client.receives(b"thanks")
        client.sees_eof()

    @pytest.mark.settings(tunnel_timeout=100)
    def test_a_tunnel_has_its_own_idle_time(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        connection = tunnel(client, upstream)
        edge.advance(99)
        client.receives_nothing()
        edge.advance(2)
        client.sees_end()
        connection.sees_end()

    @pytest.mark.settings(tunnel_timeout=100)
    @pytest.mark.parametrize("speaker", ["client", "upstream"])
    def test_bytes_in_either_direction_keep_it_open(
        self, edge: Edge, client: Client, upstream: Upstream, speaker: str
    ) -> None:
        connection = tunnel(client, upstream)
        for _ in range(5):
            edge.advance(60)
            if speaker == "client":
                client.sends(b"ping")
                connection.receives(b"ping")
            else:
                connection.sends(b"ping")
                client.receives(b"ping")
        edge.advance(101)
        client.sees_end()
        connection.sees_end()

    @pytest.mark.settings(tunnel_timeout=100)
    def test_a_half_closed_tunnel_is_not_kept_for_ever(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        connection = tunnel(client, upstream)
        client.half_closes()
        connection.sees_eof()
        edge.advance(101)
        client.sees_end()

    @pytest.mark.settings(response_timeout=10, stream_timeout=10, idle_timeout=10, body_timeout=10)
    def test_no_other_deadline_ends_it(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        connection = tunnel(client, upstream)
        edge.advance(1000)
        client.sends(b"still here")
        connection.receives(b"still here")

    def test_open_tunnels_are_counted(self, edge: Edge, client: Client, upstream: Upstream) -> None:
        connection = tunnel(client, upstream)
        assert edge.metrics()["fairlead_tunnels_open"] == 1
        client.closes()
        connection.sees_eof()
        connection.closes()
        edge.settle()
        assert edge.metrics()["fairlead_tunnels_open"] == 0

"""Connections that begin with a PROXY header: from whom, what it does, and what is refused."""

import logging
import subprocess
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path

import pytest

from edge.proxy.client import DRAIN_QUIET_PERIOD
from edge.wire.proxy_protocol import MAX_BINARY
from tests.harness import Edge, Upstream, connect, exchange
from tests.messages import ok, request
from tests.programs import free_port, needs, path_of, wait_for_port

HEADER = b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 80\r\n"
BINARY = (
    b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x24"
    + bytes.fromhex("20010db8000000000000000000000001" * 2)
    + b"\0\1\0\2"
)
LOCAL = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"
PROXY = "127.0.0.2"
ERRORS = "fairlead_proxy_protocol_errors_total"

TRUSTED = (ip_network(f"{PROXY}/32"), ip_network("10.0.0.0/8"))

pytestmark = pytest.mark.settings(proxy_protocol=True, trusted_proxies=TRUSTED)


class TestSources:
    """Who the client is."""

    @pytest.mark.parametrize(
        ("header", "address"), [(HEADER, "192.0.2.1"), (BINARY, "2001:db8::1")]
    )
    def test_it_is_the_one_that_the_header_names(
        self, edge: Edge, upstream: Upstream, header: bytes, address: str
    ) -> None:
        client = edge.connects(source=PROXY)
        done = exchange(client, upstream, header + request("GET /", "X-Forwarded-For: 10.1.1.1"))
        assert done.request["X-Forwarded-For"] == address
        assert done.request["X-Real-IP"] == address
        again = exchange(client, done.connection)
        assert again.request["X-Forwarded-For"] == address

    @pytest.mark.parametrize("header", [LOCAL, b"PROXY UNKNOWN\r\n"])
    def test_without_an_address_it_is_the_proxy_itself(
        self, edge: Edge, upstream: Upstream, header: bytes
    ) -> None:
        client = edge.connects(source=PROXY)
        done = exchange(client, upstream, header + request("GET /", "X-Forwarded-For: 192.0.2.7"))
        assert done.request["X-Forwarded-For"] == f"192.0.2.7, {PROXY}"

    def test_a_client_that_is_a_trusted_proxy_is_believed(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        client = edge.connects(source=PROXY)
        header = HEADER.replace(b"192.0.2.1", b"10.9.9.9")
        done = exchange(client, upstream, header + request("GET /", "X-Forwarded-For: 192.0.2.7"))
        assert done.request["X-Forwarded-For"] == "192.0.2.7, 10.9.9.9"

    @pytest.mark.parametrize("header", [HEADER, BINARY])
    def test_it_may_come_in_any_pieces(self, edge: Edge, upstream: Upstream, header: bytes) -> None:
        client = edge.connects(source=PROXY)
        client.sends_in_pieces(header)
        assert "X-Forwarded-For" in exchange(client, upstream).request

    def test_the_log_names_it(
        self, make_edge: Callable[..., Edge], upstream: Upstream, tmp_path: Path
    ) -> None:
        edge = make_edge(access_log=str(tmp_path / "access.log"))
        client = edge.connects(source=PROXY)
        client.sends(HEADER + b"NONSENSE\r\n\r\n")
        client.is_refused(400)
        edge.stops()
        assert '"client":"192.0.2.1"' in (tmp_path / "access.log").read_text()

    def test_everybody_else_speaks_http_at_once(self, edge: Edge, upstream: Upstream) -> None:
        done = exchange(edge.connects(source="127.0.0.3"), upstream)
        assert done.request["X-Forwarded-For"] == "127.0.0.3"

    @pytest.mark.parametrize("header", [HEADER, BINARY])
    def test_nobody_else_may_send_one(self, edge: Edge, header: bytes) -> None:
        client = edge.connects(source="127.0.0.3")
        client.sends(header + request("GET /"))
        client.is_refused(400)
        assert edge.metrics()[ERRORS] == 0

    @pytest.mark.settings(trusted_proxies=TRUSTED)
    def test_switched_off_it_is_a_bad_request(self, edge: Edge) -> None:
        client = edge.connects(source=PROXY)
        client.sends(HEADER + request("GET /"))
        client.is_refused(400)

    def test_a_second_one_is_a_bad_request(self, edge: Edge) -> None:
        client = edge.connects(source=PROXY)
        client.sends(HEADER + HEADER + request("GET /"))
        client.is_refused(400)


class TestRefusals:
    """A trusted proxy that does not say who its client is gets no answer."""

    @pytest.mark.parametrize(
        "sent",
        [
            request("GET /"),
            b"PROXY TCP4 192.0.2.1\r\n" + request("GET /"),
            BINARY.replace(b"\x21\x21", b"\x29\x21") + request("GET /"),
            b"PROXY UNKNOWN " + b"x" * 100,
            BINARY[:14] + MAX_BINARY.to_bytes(2, "big"),
        ],
        ids=["none", "malformed", "unknown command", "long line", "long header"],
    )
    def test_the_connection_is_closed_without_an_answer(
        self, edge: Edge, upstream: Upstream, sent: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.WARNING)
        for _ in range(2):
            client = edge.connects(source=PROXY)
            client.sends(sent)
            client.sees_end()
        upstream.accepts_nothing()
        assert edge.metrics()[ERRORS] == 2
        assert caplog.text.count(f"the trusted proxy {PROXY}, no valid PROXY header") == 1

    def test_after_a_minute_it_is_in_the_log_again(
        self, edge: Edge, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.WARNING)
        for count in (1, 2):
            client = edge.connects(source=PROXY)
            client.sends(b"x")
            client.sees_end()
            assert caplog.text.count("no valid PROXY header") == count
            edge.advance(60)

    @pytest.mark.settings(proxy_protocol=True, trusted_proxies=TRUSTED, head_timeout=10.0)
    @pytest.mark.parametrize("begun", [b"", HEADER[:-1], BINARY[:-1]])
    def test_it_must_come_within_the_head_timeout(self, edge: Edge, begun: bytes) -> None:
        client = edge.connects(source=PROXY)
        client.sends(begun)
        edge.advance(9.9)
        client.receives_nothing()
        edge.advance(0.2)
        client.sees_end()
        assert edge.metrics()[ERRORS] == 1

    def test_after_it_the_idle_timeout_holds(self, edge: Edge, upstream: Upstream) -> None:
        client = edge.connects(source=PROXY)
        client.sends(HEADER)
        edge.advance(100)
        exchange(client, upstream)

    def test_one_that_ends_early_is_counted(self, edge: Edge) -> None:
        client = edge.connects(source=PROXY)
        client.sends(HEADER[:20])
        client.half_closes()
        client.sees_end()
        assert edge.metrics()[ERRORS] == 1

    def test_who_only_looks_whether_we_listen_is_not(self, edge: Edge) -> None:
        client = edge.connects(source=PROXY)
        client.half_closes()
        client.sees_eof()
        edge.connects(source=PROXY).resets()
        edge.settle()
        assert edge.metrics()[ERRORS] == 0
        assert edge.metrics()["fairlead_client_connections_open"] == 0

    @pytest.mark.settings(proxy_protocol=True, trusted_proxies=TRUSTED, max_connections=1)
    def test_one_client_too_many_is_told_so(self, edge: Edge, upstream: Upstream) -> None:
        edge.connects(source=PROXY)
        edge.settle()
        client = edge.connects(source=PROXY)
        client.is_refused(503)

    def test_a_drain_closes_who_has_said_nothing(self, edge: Edge) -> None:
        client = edge.connects(source=PROXY)
        client.sends(HEADER[:20])
        edge.drains()
        edge.advance(DRAIN_QUIET_PERIOD)
        client.sees_eof()
        client.keeps_sending(HEADER[20:] + request("GET /"))
        edge.advance(6)
        assert edge.metrics()[ERRORS] == 0
        assert edge.metrics()["fairlead_client_connections_open"] == 0


@needs("haproxy")
@pytest.mark.settings(proxy_protocol=True, trusted_proxies=(ip_network("127.0.0.1/32"),))
@pytest.mark.parametrize("keyword", ["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl-cn"])
class TestHAProxy:
    """The program that the protocol comes from."""

    def test_the_client_is_the_one_that_asked_haproxy(
        self, edge: Edge, upstream: Upstream, tmp_path: Path, keyword: str
    ) -> None:
        port = free_port()
        host, behind = edge.worker.addresses[0]
        config = tmp_path / "haproxy.cfg"
        config.write_text(
            "global\n  maxconn 100\n"
            "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 30s\n"
            "  timeout server 30s\n"
            f"listen front\n  bind 127.0.0.1:{port}\n  server edge {host}:{behind} {keyword}\n"
        )
        with subprocess.Popen([path_of("haproxy"), "-db", "-f", str(config)]) as haproxy:
            try:
                wait_for_port(port, haproxy)
                client = connect(edge.conversation, ("127.0.0.1", port), source="127.0.0.9")
                done = exchange(client, upstream, answered=ok("hello"))
                assert done.request["X-Forwarded-For"] == "127.0.0.9"
                assert done.response.text == "hello"
                client.closes()
            finally:
                haproxy.kill()

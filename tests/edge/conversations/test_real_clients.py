"""Programs that nobody here wrote speak through the edge: curl, and the websockets library."""

import contextlib
import gzip
import queue
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.sync.server import Server, ServerConnection, serve

from edge.proxy.drain import DrainResult
from tests.harness import WAIT, Edge, Upstream
from tests.messages import Message, ok, response
from tests.programs import needs, path_of


class Curl:
    """curl, running beside the test."""

    def __init__(self, edge: Edge, *arguments: str) -> None:
        edge.conversation.says("curl", " ".join(arguments))
        host, port = edge.worker.addresses[0]
        # Without it, a proxy of the environment would be asked instead.
        to_the_edge = ("--noproxy", "*", "--connect-to", f"::{host}:{port}")
        self._popen = subprocess.Popen(
            [
                *(
                    path_of("curl"),
                    "--disable",
                    "--silent",
                    "--show-error",
                    "--max-time",
                    str(2 * WAIT),
                ),
                *(() if "--proxy" in arguments else to_the_edge),
                *arguments,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        edge.conversation.closes_at_end(self._popen.kill)

    def says(self) -> str:
        """What it printed. Fails unless it was satisfied."""
        output, errors = self._popen.communicate(timeout=2 * WAIT)
        assert self._popen.returncode == 0, errors.decode()
        return output.decode()

    def exits_with(self) -> int:
        """Its exit code."""
        self._popen.communicate(timeout=2 * WAIT)
        return self._popen.returncode


@needs("curl")
class TestCurl:
    """RFC 9110 and RFC 9112 as curl understands them."""

    URL = "http://app.test/path?query"

    def served(self, upstream: Upstream, answer: bytes) -> Message:
        """The request as the upstream got it; it was answered with `answer`."""
        connection = upstream.accepts()
        asked = connection.receives_request()
        connection.sends(answer)
        return asked

    def test_get(self, edge: Edge, upstream: Upstream) -> None:
        curl = Curl(edge, self.URL)
        asked = self.served(upstream, ok("hello"))
        assert curl.says() == "hello"
        assert asked.line == "GET /path?query HTTP/1.1"
        assert asked["Host"] == "app.test"

    def test_two_urls_on_one_connection(self, edge: Edge, upstream: Upstream) -> None:
        curl = Curl(edge, "--write-out", "%{num_connects}", self.URL, self.URL)
        connection = upstream.accepts()
        for body in ("one", "two"):
            connection.receives_request()
            connection.sends(ok(body))
        assert curl.says() == "one1two0"

    def test_head(self, edge: Edge, upstream: Upstream) -> None:
        curl = Curl(edge, "--head", self.URL)
        asked = self.served(upstream, response("200 OK", "Content-Length: 1000", "X: y"))
        said = curl.says()
        assert asked.method == "HEAD"
        assert "HTTP/1.1 200 OK" in said
        assert "Content-Length: 1000" in said

    def test_a_form(self, edge: Edge, upstream: Upstream) -> None:
        curl = Curl(edge, "--data", "a=b", self.URL)
        asked = self.served(upstream, ok("thanks"))
        assert curl.says() == "thanks"
        assert asked.text == "a=b"

    def test_an_upload_that_expects_a_100(
        self, edge: Edge, upstream: Upstream, tmp_path: Path
    ) -> None:
        """curl sends the body only after the 100, or after a second."""
        path = tmp_path / "upload"
        path.write_bytes(b"0123456789" * 200_000)
        curl = Curl(
            edge,
            "--header",
            "Expect: 100-continue",
            "--expect100-timeout",
            "10",
            "--upload-file",
            str(path),
            self.URL,
        )
        connection = upstream.accepts()
        head = connection.receives_head()
        assert head.method == "PUT"
        assert head["Expect"] == "100-continue"
        connection.sends(response("100 Continue"))
        connection.receives_data(path.read_bytes())
        connection.receives_end()
        connection.sends(ok("stored"))
        assert curl.says() == "stored"

    def test_an_upload_that_is_declined(
        self, edge: Edge, upstream: Upstream, tmp_path: Path
    ) -> None:
        path = tmp_path / "upload"
        path.write_bytes(b"0123456789" * 200_000)
        curl = Curl(
            edge,
            "--header",
            "Expect: 100-continue",
            "--expect100-timeout",
            "10",
            "--write-out",
            "%{http_code}",
            "--upload-file",
            str(path),
            self.URL,
        )
        connection = upstream.accepts()
        connection.receives_head()
        connection.sends(response("403 Forbidden", "Content-Length: 2", body="no"))
        assert curl.says() == "no403"

    def test_a_chunked_upload(self, edge: Edge, upstream: Upstream, tmp_path: Path) -> None:
        path = tmp_path / "upload"
        path.write_bytes(b"0123456789" * 50_000)
        curl = Curl(
            edge,
            "--header",
            "Transfer-Encoding: chunked",
            "--header",
            "Expect:",
            "--upload-file",
            str(path),
            self.URL,
        )
        asked = self.served(upstream, ok("stored"))
        assert asked["Transfer-Encoding"] == "chunked"
        assert asked.body == path.read_bytes()
        assert curl.says() == "stored"

    def test_http_1_0(self, edge: Edge, upstream: Upstream) -> None:
        curl = Curl(edge, "--http1.0", "--include", self.URL)
        connection = upstream.accepts()
        connection.receives_request()
        connection.sends(
            response("200 OK", "Transfer-Encoding: chunked", body=b"2\r\nhi\r\n0\r\n\r\n")
        )
        said = curl.says()
        assert said.endswith("\r\n\r\nhi")
        assert "Transfer-Encoding" not in said

    def test_a_large_download(self, edge: Edge, upstream: Upstream, tmp_path: Path) -> None:
        body = bytes(range(256)) * 20_000
        path = tmp_path / "download"
        curl = Curl(edge, "--output", str(path), self.URL)
        self.served(upstream, ok(body))
        curl.says()
        assert path.read_bytes() == body

    def test_a_compressed_answer_passes_untouched(self, edge: Edge, upstream: Upstream) -> None:
        """RFC 9110 section 8.4: content codings are end-to-end."""
        curl = Curl(edge, "--compressed", self.URL)
        body = gzip.compress(b"hello")
        asked = self.served(upstream, ok(body, "Content-Encoding: gzip"))
        assert "gzip" in asked["Accept-Encoding"]
        assert curl.says() == "hello"

    def test_a_truncated_answer_is_noticed(self, edge: Edge, upstream: Upstream) -> None:
        """Exit code 18: a partial file."""
        curl = Curl(edge, self.URL)
        connection = upstream.accepts()
        connection.receives_request()
        connection.sends(response("200 OK", "Transfer-Encoding: chunked", body=b"5\r\nhello\r\n"))
        connection.closes()
        assert curl.exits_with() == 18

    def test_a_proxy_request(self, edge: Edge, upstream: Upstream) -> None:
        """RFC 9112 section 3.2.2: told that the edge is a proxy, curl sends the absolute form."""
        host, port = edge.worker.addresses[0]
        curl = Curl(edge, "--proxy", f"http://{host}:{port}", self.URL)
        asked = self.served(upstream, ok("hello"))
        assert curl.says() == "hello"
        assert asked.target == "/path?query"
        assert "Proxy-Connection" not in asked


class TestWebSockets:
    """RFC 6455, spoken by the websockets library on both ends."""

    codes: "queue.SimpleQueue[int | None]"

    @pytest.fixture
    def server(self, edge: Edge) -> Iterator[Server]:
        """A server of the library that echoes, behind ws.test; `codes` are those that end it."""
        self.codes = queue.SimpleQueue()
        with serve(self._echo, "127.0.0.1", 0, max_size=None) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            edge.routes("ws.test", f"127.0.0.1:{server.socket.getsockname()[1]}")
            yield server
            server.shutdown()
            thread.join(WAIT)

    def _echo(self, connection: ServerConnection) -> None:
        # This ends without an exception only after the codes 1000 and 1001.
        for message in connection:
            if message == "bye":
                connection.close(4001, "as you like")
            else:
                connection.send(message)
        self.codes.put(connection.protocol.close_code)

    def connects(self, edge: Edge, host: str = "ws.test") -> ClientConnection:
        """A client of the library."""
        sock = socket.create_connection(edge.worker.addresses[0], timeout=WAIT)
        edge.conversation.closes_at_end(sock.close)
        return connect(f"ws://{host}/echo?x=y", sock=sock, max_size=None, open_timeout=WAIT)

    @pytest.mark.usefixtures("server")
    def test_messages_pass_in_both_directions(self, edge: Edge) -> None:
        with self.connects(edge) as client:
            for message in ("hello", "grüß dich", b"\x00\xff" * 1000, "", "x" * 70_000):
                client.send(message)
                assert client.recv(WAIT) == message

    @pytest.mark.usefixtures("server")
    def test_a_large_message_passes(self, edge: Edge) -> None:
        message = bytes(range(256)) * 8192
        with self.connects(edge) as client:
            client.send(message)
            assert client.recv(WAIT) == message

    @pytest.mark.usefixtures("server")
    def test_ping_and_pong_pass(self, edge: Edge) -> None:
        with self.connects(edge) as client:
            assert client.ping(b"are you there?").wait(WAIT)

    @pytest.mark.usefixtures("server")
    def test_a_close_with_code_and_reason_passes(self, edge: Edge) -> None:
        with self.connects(edge) as client:
            client.send("bye")
            with pytest.raises(ConnectionClosed) as closed:
                client.recv(WAIT)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "as you like")

    @pytest.mark.usefixtures("server")
    def test_many_at_once(self, edge: Edge) -> None:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(self.connects(edge)) for _ in range(20)]
            for number, client in enumerate(clients):
                client.send(f"I am {number}")
            for number, client in enumerate(clients):
                assert client.recv(WAIT) == f"I am {number}"

    @pytest.mark.usefixtures("server")
    def test_they_survive_changes_of_the_table(self, edge: Edge, upstream: Upstream) -> None:
        with self.connects(edge) as client:
            for number in range(5):
                edge.routes("ws.test", upstream.target)
                edge.unroutes("ws.test")
                client.send(f"still {number}")
                assert client.recv(WAIT) == f"still {number}"

    @pytest.mark.parametrize("size", [10, 70_000, 2_000_000])
    def test_a_tunnel_that_has_to_go_is_closed_with_a_code_for_each_side(
        self, edge: Edge, server: Server, size: int
    ) -> None:
        """1012: the client may connect again; 1001: the server sees a client that leaves."""
        with self.connects(edge) as client:
            client.send("x" * size)
            assert client.recv(WAIT) == "x" * size
            drained = edge.drains_target(f"127.0.0.1:{server.socket.getsockname()[1]}")
            edge.advance(30)
            with pytest.raises(ConnectionClosed) as closed:
                client.recv(WAIT)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
        assert closed.value.rcvd_then_sent
        assert self.codes.get(timeout=WAIT) == 1001
        assert drained.result(WAIT) == DrainResult(tunnels_closed=1, seconds=30)

    def test_a_refused_handshake_is_told(self, edge: Edge) -> None:
        with pytest.raises(InvalidStatus) as refused, self.connects(edge, "unknown.test"):
            pass
        assert refused.value.response.status_code == 404

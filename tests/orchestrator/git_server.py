"""Owns a server of the tests' repositories that speaks git's own HTTPS."""

import base64
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A key and a certificate for 127.0.0.1 and localhost that is its own authority."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "1", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    return key, certificate


class GitServer(ThreadingHTTPServer):
    """Serves the repositories in `root` by `git http-backend` over TLS.

    `password` is asked for, by user name and password, if it is not empty. `modern` is whether it
    heeds the protocol version that clients ask for: one that does not is as old as git 2.17, and
    refuses commits that no branch is at. `redirects_to` is where it sends everybody, if anywhere.
    """

    daemon_threads = True

    class Handler(BaseHTTPRequestHandler):
        """CGI."""

        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            """What is there."""
            self._serves()

        def do_POST(self) -> None:
            """What is wanted."""
            self._serves()

        def _serves(self) -> None:
            server = self.server
            assert isinstance(server, GitServer)
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            sent = self.headers.get("Authorization", "")
            server.authorizations.append(sent)
            if server.redirects_to:
                self.send_response(302)
                self.send_header("Location", server.redirects_to + self.path)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            wanted = "Basic " + base64.b64encode(server.password.encode()).decode()
            if server.password and sent != wanted:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="git"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            path, _, query = self.path.partition("?")
            environment = {
                "PATH": os.environ["PATH"],
                "GIT_PROJECT_ROOT": str(server.root),
                "GIT_HTTP_EXPORT_ALL": "1",
                "GIT_CONFIG_GLOBAL": os.devnull,
                "REQUEST_METHOD": self.command,
                "PATH_INFO": path,
                "QUERY_STRING": query,
                "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                "CONTENT_LENGTH": str(len(body)),
                "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                "REMOTE_ADDR": "127.0.0.1",
            }
            if server.modern:
                environment["GIT_PROTOCOL"] = self.headers.get("Git-Protocol", "")
            said = subprocess.run(
                ["git", "http-backend"], input=body, env=environment, capture_output=True
            ).stdout
            head, _, content = said.partition(b"\r\n\r\n")
            fields = [line.split(": ", 1) for line in head.decode().split("\r\n")]
            self.send_response(next((int(v[:3]) for k, v in fields if k == "Status"), 200))
            for name, value in fields:
                if name != "Status":
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    def __init__(self, root: Path, certificate: tuple[Path, Path]) -> None:
        super().__init__(("127.0.0.1", 0), self.Handler)
        self.root = root
        self.password = ""
        self.modern = True
        self.redirects_to = ""
        self.authorizations: list[str] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate[1], certificate[0])
        self.socket = context.wrap_socket(self.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: object) -> None:
        """A client that breaks off is none of the server's business."""


@contextmanager
def serving(root: Path, certificate: tuple[Path, Path]) -> Iterator[GitServer]:
    """A server until the block ends."""
    server = GitServer(root, certificate)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

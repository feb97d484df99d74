"""Proves what `make vulncheck` says, on real pip-audit and a server of advisories of the test's."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.programs import free_port

ROOT = Path(__file__).parent.parent

# As OSV answers (https://google.github.io/osv.dev/post-v1-query/), shortened: a real advisory.
JINJA2 = {
    "vulns": [
        {
            "id": "GHSA-cpwx-vrp4-4pq7",
            "summary": "Jinja2 vulnerable to sandbox breakout through attr filter",
            "aliases": ["CVE-2025-27516"],
            "affected": [
                {
                    "package": {"name": "jinja2", "ecosystem": "PyPI"},
                    "ranges": [
                        {
                            "type": "ECOSYSTEM",
                            "events": [{"introduced": "0"}, {"fixed": "3.1.6"}],
                        }
                    ],
                }
            ],
        }
    ]
}


@contextmanager
def advisories(answers: dict[tuple[str, str], Any]) -> Iterator[str]:
    """The URL of a server that knows these, by package and version, and nothing of others."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found = answers.get((asked["package"]["name"], asked["version"]), {})
            content = json.dumps(found).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/query"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def vulncheck(url: str, pinned: Path) -> subprocess.CompletedProcess[str]:
    """With the tools that run this test."""
    command = [
        *("make", "--no-print-directory", "--old-file=.venv/.dev", "vulncheck"),
        *(f"BIN={Path(sys.executable).parent}", f"CONSTRAINTS={pinned}", f"OSV_URL={url}"),
    ]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture
def pinned(tmp_path: Path) -> Path:
    path = tmp_path / "constraints.txt"
    path.write_text("# Pinned.\nJinja2==3.1.4\nidna==3.10\n")
    return path


def test_a_known_vulnerability_is_shown_with_where_it_is_fixed(pinned: Path) -> None:
    with advisories({("jinja2", "3.1.4"): JINJA2}) as url:
        found = vulncheck(url, pinned)
    assert "Error 1" in found.stderr
    assert "CVE-2025-27516" in found.stderr
    assert "3.1.6" in found.stderr


def test_that_none_is_known_is_said(pinned: Path) -> None:
    with advisories({}) as url:
        clean = vulncheck(url, pinned)
    assert (clean.returncode, clean.stdout) == (0, "No known vulnerabilities found\n")


def test_where_no_advisories_can_be_had_nothing_is_called_clean(pinned: Path) -> None:
    unknown = vulncheck(f"http://127.0.0.1:{free_port()}/v1/query", pinned)
    assert "Error 3" in unknown.stderr
    assert "nothing was checked: no advisories could be had" in unknown.stderr
    assert "No known vulnerabilities" not in unknown.stdout + unknown.stderr

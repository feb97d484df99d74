"""A real Prometheus scrapes a real edge, and its own linter reads what we say."""

import http.client
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from edge.routing.store_writer import RouteWriter
from edge.telemetry.metrics import Metrics
from edge.telemetry.prometheus import render
from tests.programs import free_port, needs, path_of, wait_for_port

ROOT = Path(__file__).parents[2]
REQUESTS = 5
QUERY = 'fairlead_http_requests_total{route="app.test",code="2xx"}'
# Beyond what any of it takes on a slow machine; each wait ends as soon as there is an answer.
ANSWER_SECONDS = 40.0
LOOK_SECONDS = 0.1

CONFIG = """
global:
  scrape_interval: 1s
  scrape_timeout: 1s
scrape_configs:
  - job_name: fairlead
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


class Hello(http.server.BaseHTTPRequestHandler):
    """An application that greets."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def target() -> Iterator[str]:
    """The address of an application."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@contextmanager
def running(*command: str, output: Path, **environ: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A program, which is told to stop at the end."""
    with (
        output.open("wb") as log,
        subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **environ}, stdout=log, stderr=log
        ) as process,
    ):
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)


def get(port: int, path: str, host: str = "127.0.0.1") -> tuple[int, bytes]:
    """Status and content of an answer."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read()


def found(port: int) -> list[dict[str, Any]]:
    """What Prometheus knows by now of the requests."""
    status, content = get(port, f"/api/v1/query?query={quote(QUERY)}")
    # Until it has read its old log, it answers 503.
    return list(json.loads(content)["data"]["result"]) if status == 200 else []


@needs("prometheus")
@pytest.mark.timeout(3 * ANSWER_SECONDS)
def test_prometheus_scrapes_the_edge_and_answers_a_query(tmp_path: Path, target: str) -> None:
    db = tmp_path / "fairlead.db"
    RouteWriter(db).set("app.test", target)
    served, admin, asked = free_port(), free_port(), free_port()
    config = tmp_path / "prometheus.yml"
    config.write_text(CONFIG.format(port=admin))
    edge = (
        *(sys.executable, "-m", "edge", "--db", str(db)),
        *("--http-addr", f"127.0.0.1:{served}", "--admin-addr", f"127.0.0.1:{admin}"),
    )
    prometheus = (
        *(path_of("prometheus"), f"--config.file={config}"),
        *(f"--storage.tsdb.path={tmp_path / 'data'}", f"--web.listen-address=127.0.0.1:{asked}"),
    )
    with running(*edge, output=tmp_path / "edge.log") as process:
        wait_for_port(served, process)
        for _ in range(REQUESTS):
            assert get(served, "/", host="app.test") == (200, b"hello")
        with running(*prometheus, output=tmp_path / "prometheus.log") as process:
            wait_for_port(asked, process)
            deadline = time.monotonic() + ANSWER_SECONDS
            while not (result := found(asked)) and time.monotonic() < deadline:
                time.sleep(LOOK_SECONDS)
    assert [each["value"][1] for each in result] == [str(REQUESTS)], (
        tmp_path / "prometheus.log"
    ).read_text()[-2000:]
    assert result[0]["metric"]["job"] == "fairlead"


@needs("promtool")
def test_the_linter_of_prometheus_finds_nothing_to_say() -> None:
    metrics = Metrics()
    metrics.route("app.test").record(200, 0.25)
    metrics.upstream_errors["reset"] += 1
    done = subprocess.run(
        [path_of("promtool"), "check", "metrics"],
        input=render(metrics),
        capture_output=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr.decode()) == (0, "")

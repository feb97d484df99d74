"""Proves the admin API of a running edge: what it shows, what it does, for whom."""

import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge import compiled
from edge.api.token_form import hash_of, make_token
from edge.control.client import request
from edge.errors import EdgeError
from edge.routing.store_writer import RouteWriter
from edge.routing.token_store import StoredToken
from edge.supervisor.admin import METRICS_TYPE
from edge.wire.codec import CHOICE
from tests.harness import Conversation, Upstream
from tests.process import PATIENCE, TOKEN, Process

NOBODY = 65534
DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture(scope="module")
def conversation() -> Iterator[Conversation]:
    """One for all tests here: none of them changes what the next one looks at."""
    conversation = Conversation()
    yield conversation
    conversation.ends()


@pytest.fixture(scope="module")
def upstream(conversation: Conversation) -> Upstream:
    return Upstream(conversation)


@pytest.fixture(scope="module")
def process(
    conversation: Conversation, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Process:
    """Two workers and one route."""
    db = tmp_path_factory.mktemp("edge") / "fairlead.db"
    RouteWriter(db).set("app.test", upstream.target, {"max_body": 7})
    return Process(conversation, db)


class TestShown:
    def test_a_process_that_answers_is_healthy(self, process: Process) -> None:
        answer = process.admin("/healthz")
        assert (answer.status_code, answer.text) == (200, "ok")
        assert "server" not in answer.headers

    def test_it_is_ready_when_every_worker_serves_a_table(self, process: Process) -> None:
        answer = process.admin("/readyz")
        assert (answer.status_code, answer.text) == (200, "ready")

    def test_the_metrics_are_what_prometheus_reads(self, process: Process) -> None:
        answer = process.admin("/metrics")
        assert answer.headers["content-type"] == METRICS_TYPE
        found = {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }
        assert found["fairlead_workers_serving",] == 2
        assert found["fairlead_routes",] == 1
        assert found["fairlead_routes_last_reload_successful",] == 1
        for worker in "01":
            assert found["fairlead_worker_restarts_total", worker] == 0
            assert found["fairlead_worker_resident_memory_bytes", worker] > 2**20

    def test_the_documentation_names_every_metric(self, process: Process) -> None:
        documented = (DOCS / "behaviour.md").read_text()
        names = re.findall(r"^# TYPE (fairlead_\w+)", process.admin("/metrics").text, re.MULTILINE)
        assert "fairlead_workers_serving" in names
        assert [name for name in names if f"`{name}`" not in documented] == []

    def test_the_documentation_names_every_path(self, process: Process) -> None:
        documented = (DOCS / "behaviour.md").read_text()
        for path, methods in process.admin("/openapi.json").json()["paths"].items():
            (method,) = methods.keys() & {"get", "post"}
            assert f"| `{method.upper()} {path}" in documented

    def test_the_workers_are_shown(self, process: Process) -> None:
        workers = process.workers()
        assert [worker["worker"] for worker in workers] == [0, 1]
        assert len({worker["pid"] for worker in workers}) == 2
        assert {worker["state"] for worker in workers} == {"serving"}
        assert {worker["version"] for worker in workers} == {1}
        assert {worker["codec"] for worker in workers} == {CHOICE.name}
        conversation = compiled.found()
        assert {worker["conversation"] for worker in workers} == {conversation.name}
        assert {worker["why_pure"] for worker in workers} == {
            CHOICE.why or conversation.why or None
        }
        labels = re.findall(
            r"^fairlead_build_info{(.*)} 1", process.admin("/metrics").text, re.MULTILINE
        )
        assert [f'codec="{CHOICE.name}"' in each for each in labels] == [True, True]
        said = f'conversation="{conversation.name}"'
        assert [said in each for each in labels] == [True, True]

    def test_the_routes_are_shown(self, process: Process, upstream: Upstream) -> None:
        shown = process.admin("/routes").json()
        assert (shown["version"], shown["served_version"], shown["problems"]) == (1, 1, [])
        (route,) = shown["routes"]
        assert route["route"] == "app.test"
        assert route["options"] == {"max_body": 7}
        assert route["unavailable"] is None
        assert [target["target"] for target in route["targets"]] == [upstream.target]

    def test_a_url_is_explained(self, process: Process, upstream: Upstream) -> None:
        shown = process.admin("/explain", params={"url": "http://app.test/x"}).json()
        assert (shown["route"], shown["upstream_target"]) == ("app.test", "/x")
        assert shown["refused"] is None
        assert shown["unavailable"] is None
        assert [target["target"] for target in shown["targets"]] == [upstream.target]
        assert process.admin("/explain?url=other.test").json()["route"] is None

    @pytest.mark.parametrize(
        ("query", "reason"),
        [("", "the parameter url is missing"), ("?url=http://app:x:y/", "colon")],
    )
    def test_a_text_that_is_no_url_is_refused(
        self, process: Process, query: str, reason: str
    ) -> None:
        answer = process.admin(f"/explain{query}")
        assert answer.status_code == 400
        assert reason in answer.json()["error"]

    def test_every_path_is_described(self, process: Process) -> None:
        document = process.admin("/openapi.json").json()
        assert document["openapi"].startswith("3.1")
        for path, methods in document["paths"].items():
            for method in methods.keys() & {"get", "post"}:
                answer = process.admin(path, method.upper())
                assert answer.status_code not in (404, 405), path
        for path in ("/", "/metrics/", "/healthz/x"):
            assert process.admin(path).status_code == 404

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
    def test_what_is_shown_takes_no_other_method(self, process: Process, method: str) -> None:
        answer = process.admin("/metrics", method)
        assert answer.status_code == 405
        assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}

    def test_head_has_no_content(self, process: Process) -> None:
        answer = process.admin("/metrics", "HEAD")
        assert answer.status_code == 200
        assert int(answer.headers["content-length"]) > 0
        assert answer.content == b""


class TestChanges:
    def test_with_the_token_it_is_done(self, process: Process) -> None:
        answer = process.admin("/reload", "POST", headers={"Authorization": f"Bearer {TOKEN}"})
        assert answer.status_code == 200
        assert answer.json()["version"] == 1
        assert answer.json()["workers"] == 2

    def test_the_control_socket_needs_none_and_is_for_the_owner_alone(
        self, process: Process
    ) -> None:
        assert process.asks("/reload", version=1)["workers"] == 2
        assert stat.S_IMODE(process.control.stat().st_mode) == 0o600

    def test_the_control_socket_shows_what_tcp_shows(self, process: Process) -> None:
        shown = request(process.control, "GET", "/workers")
        assert shown is not None
        assert len(shown["workers"]) == 2

    @pytest.mark.parametrize(
        ("path", "content", "reason"),
        [
            ("/reload", b"{", "not JSON"),
            ("/reload", b"[]", "not a JSON object"),
            ("/reload", b'{"versoin": 1}', "'versoin' is unknown; fields are timeout, version"),
            ("/reload", b'{"version": true}', "version is not"),
            ("/reload", b'{"version": -1}', "version is not"),
            ("/reload", b'{"timeout": "1"}', "timeout is not"),
            ("/drain", b"{}", "the field target is missing"),
            ("/drain", b'{"target": "app"}', "no port"),
            ("/drain", b'{"target": "a:1", "timeout": 3601}', "timeout is not"),
            ("/drain", b'{"target": "a:1", "tunnel_timeout": true}', "tunnel_timeout is not"),
            ("/undrain", b'{"target": 1}', "the field target is missing"),
            ("/upgrade", b'{"x": 1}', "fields are timeout"),
        ],
    )
    def test_a_body_that_cannot_be_used_is_refused(
        self, process: Process, path: str, content: bytes, reason: str
    ) -> None:
        answer = process.admin(
            path, "POST", content=content, headers={"Authorization": f"Bearer {TOKEN}"}
        )
        assert answer.status_code == 400
        assert reason in answer.json()["error"]

    def test_a_body_that_is_too_large_is_refused(self, process: Process) -> None:
        answer = process.admin(
            "/reload", "POST", content=b" " * 20_000, headers={"Authorization": f"Bearer {TOKEN}"}
        )
        assert answer.status_code == 413

    def test_a_version_that_nobody_wrote_is_not_waited_for_for_ever(self, process: Process) -> None:
        with pytest.raises(EdgeError, match=r"not all workers serve version 99 after 0\.2 s"):
            process.asks("/reload", version=99, timeout=0.2)


class TestWhoMay:
    """Over TCP, also from this machine: nobody without a token, but for what is open."""

    OPEN = ("/healthz", "/readyz")

    def everything(self, process: Process) -> list[tuple[str, str]]:
        paths = process.admin("/openapi.json").json()["paths"]
        found = [(method.upper(), path) for path, methods in paths.items() for method in methods]
        assert len(found) == 12
        return found

    @pytest.mark.parametrize(
        "given",
        [
            {},
            {"Authorization": ""},
            {"Authorization": "Bearer"},
            {"Authorization": "Bearer wrong"},
            {"Authorization": f"Bearer {TOKEN}x"},
            {"Authorization": f"Basic {TOKEN}"},
            {"Authorization": "Bearer fl_" + "0" * 49},
        ],
    )
    def test_all_but_health_needs_the_token(self, process: Process, given: dict[str, str]) -> None:
        for method, path in self.everything(process):
            answer = process.admin(path, method, headers=given)
            if path in self.OPEN or (path == "/metrics" and not given):
                assert answer.status_code == 200, path
            else:
                assert answer.status_code == 401, path
                assert answer.headers["www-authenticate"] == "Bearer"
                assert set(answer.json()) == {"error"}

    @pytest.mark.parametrize(
        "given",
        [
            {"Host": "rebound.test"},
            {"Host": "127.0.0.1.rebound.test"},
            {"X-Forwarded-For": "127.0.0.1"},
            {"Via": "1.1 proxy"},
            {"Forwarded": "for=127.0.0.1"},
        ],
    )
    def test_metrics_are_open_to_direct_clients_on_this_machine_only(
        self, process: Process, given: dict[str, str]
    ) -> None:
        assert process.admin("/metrics", headers={}).status_code == 200
        assert process.admin("/metrics", headers=given).status_code == 401
        with_token = {**given, "Authorization": f"Bearer {TOKEN}"}
        assert process.admin("/metrics", headers=with_token).status_code == 200

    def test_a_named_token_may_what_it_was_made_for_and_no_more(self, process: Process) -> None:
        token = make_token()
        scraper = StoredToken(hash_of(token), "prometheus", "metrics", "", None)
        RouteWriter(process.db).replace_tokens([scraper])
        given = {"Host": "rebound.test", "Authorization": f"Bearer {token}"}
        for method, path in self.everything(process):
            answer = process.admin(path, method, headers=given)
            allowed = path in (*self.OPEN, "/metrics")
            assert answer.status_code == (200 if allowed else 403), path
        RouteWriter(process.db).replace_tokens([])
        assert process.admin("/metrics", headers=given).status_code == 401

    def test_a_page_of_another_origin_is_refused_whatever_it_has(self, process: Process) -> None:
        for headers in ({}, {"Authorization": f"Bearer {TOKEN}"}):
            for method, path in self.everything(process):
                answer = process.admin(path, method, headers={**headers, "Origin": "http://a.test"})
                assert answer.status_code == (200 if path in self.OPEN else 403), path

    def test_a_get_changes_nothing(self, process: Process) -> None:
        before = process.db.read_bytes()
        version = process.workers()[0]["version"]
        for method, path in self.everything(process):
            if method == "GET":
                process.admin(path)
        assert process.workers()[0]["version"] == version
        assert process.db.read_bytes() == before

    def test_an_endless_head_ends(self, process: Process) -> None:
        with socket.create_connection(("127.0.0.1", process.admin_port), PATIENCE) as client:
            answer = endless(client, b"GET /healthz HTTP/1.1\r\nX: ")
            assert answer.startswith(b"HTTP/1.1 431 ") or answer == b""
        assert process.admin("/healthz").text == "ok"


def endless(client: socket.socket, head: bytes) -> bytes:
    """What a server answers before it has read 8 MiB of a head."""
    try:
        client.sendall(head)
        for _ in range(128):
            client.sendall(b"x" * 65536)
    except ConnectionError:
        pass
    else:
        raise AssertionError("it was all taken")
    try:
        return client.recv(65536)
    except ConnectionError:
        return b""  # the answer was lost with what it had not read


def test_without_any_token_nothing_is_done_over_tcp_and_all_at_the_socket(tmp_path: Path) -> None:
    conversation = Conversation()
    process = Process(
        conversation, tmp_path / "fairlead.db", workers="1", api_token="", metrics_auth="token"
    )
    for given in ({}, {"Authorization": "Bearer x"}):
        for method, path in (("POST", "/reload"), ("GET", "/workers"), ("GET", "/metrics")):
            assert process.admin(path, method, headers=given).status_code == 401
    ready = process.admin("/readyz", headers={})
    assert (ready.status_code, ready.text) == (503, "unavailable")
    with pytest.raises(EdgeError, match="does not exist"):
        process.asks("/reload")
    conversation.ends()


def test_the_socket_is_for_no_other_user(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can be another user")
    conversation = Conversation()
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    conversation.closes_at_end(lambda: shutil.rmtree(folder))
    process = Process(conversation, folder / "fairlead.db", workers="1")
    folder.chmod(0o755)
    assert connect_as(NOBODY, process.control, "/workers") == b"PermissionError"
    # Were the file's permissions wrong, the kernel would still say who it is.
    process.control.chmod(0o777)
    assert b" 403 " in connect_as(NOBODY, process.control, "/workers")
    conversation.ends()


def connect_as(user: int, path: Path, resource: str) -> bytes:
    """What another user gets at the socket, or the name of the error."""
    script = (
        "import os, socket, sys\n"
        f"os.setgroups([]); os.setgid({user}); os.setuid({user})\n"
        "with socket.socket(socket.AF_UNIX) as s:\n"
        "    try:\n"
        f"        s.connect({str(path)!r})\n"
        "    except OSError as error:\n"
        "        sys.exit(print(type(error).__name__, end=''))\n"
        f"    s.sendall(b'GET {resource} HTTP/1.0\\r\\n\\r\\n')\n"
        "    while data := s.recv(65536):\n"
        "        sys.stdout.buffer.write(data)\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    return ended.stdout


def test_nobody_at_the_socket_is_none(tmp_path: Path) -> None:
    assert request(tmp_path / "no.sock", "GET", "/workers") is None
    with pytest.raises(EdgeError, match="cannot connect"):
        request(tmp_path / ("x" * 120), "GET", "/workers")

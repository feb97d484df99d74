"""Proves the admin API of a running edge: what it shows to all, what it does for whom."""

import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge.control.client import request
from edge.errors import EdgeError
from edge.routing.store_writer import RouteWriter
from edge.supervisor.admin import METRICS_TYPE
from tests.harness import Conversation, Upstream
from tests.process import Process

TOKEN = "a-token-of-the-tests"
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
    """Two workers, one route, and a token for changes."""
    db = tmp_path_factory.mktemp("edge") / "fairlead.db"
    RouteWriter(db).set("app.test", upstream.target, {"max_body": 7})
    return Process(conversation, db, admin_token=TOKEN)


class TestForAll:
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


class TestForThoseWhoMay:
    @pytest.mark.parametrize(
        "given", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}]
    )
    @pytest.mark.parametrize("path", ["/reload", "/drain", "/undrain", "/upgrade"])
    def test_a_change_over_tcp_needs_the_token(
        self, process: Process, path: str, given: dict[str, str]
    ) -> None:
        answer = process.admin(path, "POST", headers=given)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"

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


def test_without_a_token_nobody_may_change_anything_over_tcp(tmp_path: Path) -> None:
    conversation = Conversation()
    process = Process(conversation, tmp_path / "fairlead.db", workers="1")
    answer = process.admin("/reload", "POST", headers={"Authorization": "Bearer x"})
    assert answer.status_code == 403
    assert "FAIRLEAD_ADMIN_TOKEN" in answer.json()["error"]
    assert "does not exist" in process.admin("/readyz").text
    with pytest.raises(EdgeError, match="does not exist"):
        process.asks("/reload")
    conversation.ends()


def test_nobody_at_the_socket_is_none(tmp_path: Path) -> None:
    assert request(tmp_path / "no.sock", "GET", "/workers") is None
    with pytest.raises(EdgeError, match="cannot connect"):
        request(tmp_path / ("x" * 120), "GET", "/workers")

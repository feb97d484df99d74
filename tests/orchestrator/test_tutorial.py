"""The tutorial, docs/tutorial.md: from `fairlead up` to both versions, the broken app, the end."""

import re
import signal
from pathlib import Path
from typing import Any

from edge.control.client import request
from tests.harness import Conversation
from tests.orchestrator.daemon import Daemon
from tests.orchestrator.repository import Repository
from tests.process import ask
from tests.programs import free_port

UP = ("-m", "fairlead", "up")


def page(text: str, health: str) -> dict[str, str]:
    return {
        "Dockerfile": f"""FROM busybox:latest
RUN mkdir /www && echo '{health}' > /www/healthz && echo '<h1>{text}</h1>' > /www/index.html
EXPOSE 8080
CMD ["httpd", "-f", "-p", "8080", "-h", "/www"]
"""
    }


BROKEN = {
    "Dockerfile": """FROM busybox:latest
CMD ["sh", "-c", "echo bang; echo 'stderr error' >&2; exit 42"]
"""
}


def test_the_tutorial(conversation: Conversation, tmp_path: Path, engine_host: str) -> None:
    # 1: one command starts the edge and the orchestrator.
    port = free_port()
    daemon = Daemon(
        conversation,
        tmp_path / "fairlead.db",
        engine_host,
        http_addr=f"127.0.0.1:{port}",
        admin_addr="127.0.0.1:0",
        workers="2",
    ).starts(UP)
    assert daemon.get("/healthz").text == "ok"
    # It reads its routes anew each second, but a deploy does not count on that.
    daemon.until(lambda: daemon.get("/readyz").status_code == 200, "the engine is found")

    def served(path: str = "/") -> str:
        headers = {"Host": "sim.local"}
        url = f"http://127.0.0.1:{port}{path}"
        return ask("GET", url, headers=headers).text

    def container_says(target: str) -> str:
        return ask("GET", f"http://{target}/healthz").text

    # 2: a push.
    sim = Repository(tmp_path / "sim-app")
    commit = sim.commits(page("fairlead sim ok", "ok"), "sim app v1")
    query: dict[str, Any] = {"domain": "sim.local", "health_path": "/healthz", "wait": 30}
    answer = daemon.is_pushed(sim, "sim-app", **query)
    assert answer.status_code == 200, answer.text + daemon.said()
    first = answer.json()
    assert set(first) == {
        *("provider", "app", "runtime", "image_tag", "new_container_id", "old_container_id"),
        *("routed_target", "deploy_id", "commit", "duration_s", "cutover"),
    }
    assert (first["provider"], first["app"]) == ("github", "sim-app")
    assert (first["runtime"], first["old_container_id"]) == ("dockerfile", "")
    assert (first["commit"], first["deploy_id"]) == (commit, 1)
    tag = rf"fairlead-test/sim-app:\d{{8}}-\d{{6}}-{commit[:7]}"
    assert re.fullmatch(tag, first["image_tag"])
    assert first["routed_target"] == f"{daemon.deploy(1)['address']}:8080"
    assert first["cutover"]["acknowledged"] is True
    assert first["cutover"]["workers"] == 2

    # 3: it runs, is healthy, has the limit of memory, and is served by its name.
    (container,) = daemon.containers("sim-app")
    assert container.id == first["new_container_id"]
    assert container.labels["fairlead.managed"] == "true"
    assert container_says(first["routed_target"]) == "ok\n"
    (numbers,) = daemon.get("/api/stats").json()["containers"]
    assert (numbers["name"], numbers["state"]) == (container.name, "running")
    assert numbers["mem_limit_bytes"] == 268435456
    assert served() == "<h1>fairlead sim ok</h1>\n"
    assert served("/healthz") == "ok\n"

    # 4: the second version takes over, elsewhere; the first one goes.
    sim.commits(page("fairlead sim v2 (blue-green)", "ok-v2"), "v2")
    second = daemon.is_pushed(sim, "sim-app", **query).json()
    assert second["old_container_id"] == first["new_container_id"]
    assert second["routed_target"] != first["routed_target"]
    assert [each.id for each in daemon.containers("sim-app")] == [second["new_container_id"]]
    assert container_says(second["routed_target"]) == "ok-v2\n"
    assert served() == "<h1>fairlead sim v2 (blue-green)</h1>\n"
    assert (second["cutover"]["cut"], second["cutover"]["workers"]) == (0, 2)

    # 5: what is not committed is not deployed, and the log says so.
    (sim.folder / "Dockerfile").write_text("FROM nowhere\n")
    third = daemon.is_pushed(sim, "sim-app", **query).json()
    assert third["commit"] == second["commit"]
    assert "local repository working tree has uncommitted changes" in daemon.said()
    assert "dirty_files=1" in daemon.said()
    assert served() == "<h1>fairlead sim v2 (blue-green)</h1>\n"

    # 6: an app that ends at once. The sender learns nothing; the log has the cause.
    bad = Repository(tmp_path / "broken-app")
    bad.commits(BROKEN, "broken")
    refused = daemon.is_pushed(bad, "broken-app", domain="broken.local", wait=30)
    assert refused.status_code == 500
    assert refused.json() == {
        "error": "deploy failed",
        "deploy_id": 4,
        "app": "broken-app",
        "state": "failed",
    }
    _, _, told = daemon.said().partition("pipeline failed")
    assert "container exited early with code 42" in told
    assert "bang" in told
    assert "stderr error" in told
    assert daemon.containers("broken-app") == []
    assert "broken.local" not in daemon.routes()
    assert served() == "<h1>fairlead sim v2 (blue-green)</h1>\n"

    # 7: clean-up: of what the labels and the prefix name, nothing is left.
    listed = daemon.get("/api/deploys").json()["deploys"]
    assert [each["state"] for each in listed] == ["failed", "live", "retired", "retired"]
    removed = daemon.asks("DELETE", "/api/apps/sim-app")
    assert removed.json() == {"removed": "sim-app"}
    assert daemon.containers() == []
    assert daemon.suspended().keys() == daemon.routes().keys()
    assert request(daemon.db.with_suffix(".sock"), "GET", "/routes") is not None
    assert daemon.ends(signal.SIGTERM) == 0

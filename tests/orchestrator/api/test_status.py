"""Proves what can be read, and by whom, with a real server (security checklist, number 6)."""

import asyncio
from pathlib import Path

from orchestrator.model import DeployState
from tests.orchestrator.surface import surface


def test_health_and_readiness_are_two_things(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with surface(tmp_path) as up:
            assert (await up.http.get("/healthz")).text == "ok"
            assert (await up.http.get("/readyz")).text == "ready"
            up.deploys.missing = "no Docker Engine at unix:///nowhere.sock"
            assert (await up.http.get("/healthz")).text == "ok"
            answer = await up.http.get("/readyz")
            # Whoever asks learns no more: the log and /api/stats say why.
            assert (answer.status_code, answer.text) == (503, "unavailable")

    asyncio.run(scenario())


def test_deploys_are_listed_in_pages_and_by_app(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with surface(tmp_path) as up:
            for app in ("one", "two", "one"):
                fields = {"app": app, "repo": f"https://git.test/{app}"}
                await up.http.post("/api/deploys", json=fields)

            async def ids(**query: str) -> list[int]:
                answer = await up.http.get("/api/deploys", params=query)
                return [row["id"] for row in answer.json()["deploys"]]

            assert await ids() == [3, 2, 1]
            assert await ids(app="one") == [3, 1]
            assert await ids(limit="1", before="3") == [2]
            for query in ({"limit": "0"}, {"limit": "501"}, {"before": "x"}, {"lmit": "1"}):
                assert (await up.http.get("/api/deploys", params=query)).status_code == 400
            apps = (await up.http.get("/api/apps")).json()["apps"]
            assert [app["name"] for app in apps] == ["one", "two"]
            assert (await up.http.get("/api/apps/one")).json()["name"] == "one"
            assert (await up.http.get("/api/apps/three")).status_code == 404

    asyncio.run(scenario())


def test_a_deploy_is_shown_with_its_steps(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with surface(tmp_path) as up:
            await up.push(wait="0")
            shown = (await up.http.get("/api/deploys/1")).json()
            assert (shown["app"], shown["steps"]) == ("sim-app", [])
            for number in ("2", "0", "-1", "x", "9" * 30):
                assert (await up.http.get(f"/api/deploys/{number}")).status_code == 404

    asyncio.run(scenario())


def test_a_log_is_text_or_json_lines_without_secrets(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with surface(tmp_path) as up:
            await up.push(wait="0")
            log = up.deploys.logs.open(1)
            for number in range(4500):
                log.write("build", f"line {number}")
            log.write("", "deploy 1 is live")
            log.close()
            up.services.redactor.add("line 7\n")
            text = (await up.http.get("/api/deploys/1/log")).text
            assert text.count("\n") == 4500
            assert text.endswith("build: line 4499\ndeploy 1 is live\n")
            assert "line 7\n" not in text
            wanted = {"Accept": "application/x-ndjson"}
            answer = await up.http.get("/api/deploys/1/log?after_line=4500", headers=wanted)
            assert answer.json()["step"] == ""
            assert (await up.http.get("/api/deploys/2/log")).status_code == 404

    asyncio.run(scenario())


def test_an_engine_that_is_missing_is_said(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with surface(tmp_path) as up:
            answer = await up.http.get("/api/stats")
            assert answer.status_code == 503
            assert "nowhere.sock" in answer.json()["error"]

    asyncio.run(scenario())


def test_stats_are_those_of_our_own_containers(tmp_path: Path, engine_host: str) -> None:
    async def scenario() -> None:
        async with surface(tmp_path, engine_host) as up:
            assert (await up.http.get("/api/stats")).json() == {"containers": []}

    asyncio.run(scenario())


def test_unknown_paths_and_methods_are_answered_as_all_errors_are(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with surface(tmp_path) as up:
            for method, path, status in (
                ("GET", "/nothing", 404),
                ("GET", "/webhook", 405),
                ("GET", "/api/deploys/", 404),
                ("PUT", "/api/deploys", 405),
            ):
                answer = await up.http.request(method, path)
                assert (answer.status_code, set(answer.json())) == (status, {"error"})

    asyncio.run(scenario())


def test_metrics_count_what_happens(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with surface(tmp_path) as up:
            await up.push(wait="0")
            await up.delivers(b"{}", {"X-GitHub-Event": "ping"})
            await up.deploys.ends(1, DeployState.LIVE)
            text = (await up.http.get("/metrics")).text
            assert (
                'fairlead_webhook_deliveries_total{decision="deploy",provider="github"} 1.0' in text
            )
            assert (
                'fairlead_webhook_deliveries_total{decision="pong",provider="github"} 1.0' in text
            )
            assert "fairlead_deploys_queued 3.0" in text
            assert "fairlead_deploys_running 2.0" in text
            assert "fairlead_docker_engine_up 1.0" in text
            up.deploys.missing = "the engine"
            assert "fairlead_docker_engine_up 0.0" in (await up.http.get("/metrics")).text

    asyncio.run(scenario())

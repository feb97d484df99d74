"""Proves what an operator can ask for by hand, with a real server."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from orchestrator.model import DeployState
from tests.orchestrator.surface import COMMIT, surface

REPO = "https://git.test/owner/app.git"


def test_a_deploy_is_queued_and_shown(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with surface(tmp_path) as up:
            fields = {"app": "app", "repo": REPO, "ref": "main", "domain": "App.Test"}
            answer = await up.http.post("/api/deploys", json=fields)
            assert answer.status_code == 202
            assert answer.json() == {"deploy_id": 1, "app": "app", "state": "queued"}
            assert answer.headers["Location"] == "/api/deploys/1"
            (request,) = up.deploys.requests
            assert (request.branch, request.commit, request.domain) == ("main", "", "app.test")
            assert (request.provider, request.operator) == ("cli", True)

    asyncio.run(scenario())


def test_an_app_that_is_known_needs_no_repository(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with surface(tmp_path) as up:
            await up.http.post("/api/deploys", json={"app": "app", "repo": REPO, "ref": "main"})
            answer = await up.http.post("/api/deploys", json={"app": "app", "ref": COMMIT})
            assert answer.status_code == 202
            again = up.deploys.requests[1]
            assert (again.clone_url, again.branch, again.commit) == (REPO, "main", COMMIT)
            await up.http.post("/api/deploys", json={"app": "app"})
            assert up.deploys.requests[2].branch == "main"

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("fields", "status", "word"),
    [
        ({}, 400, "app"),
        ({"app": "app"}, 400, "repo"),
        ({"app": "../x", "repo": REPO}, 422, "name"),
        ({"app": "app", "repo": "ext::sh -c x"}, 422, "clone URL"),
        ({"app": "app", "repo": "http://git.test/x"}, 422, "http"),
        ({"app": "app", "repo": "--upload-pack=x"}, 422, "-"),
        ({"app": "app", "repo": REPO, "ref": "-x"}, 422, "-x"),
        ({"app": "app", "repo": REPO, "domain": "127.0.0.1"}, 422, "127.0.0.1"),
        ({"app": "app", "repo": REPO, "health_path": "x"}, 422, "health path"),
        ({"app": "app", "repo": REPO, "other": "x"}, 400, "other"),
        ({"app": 3}, 400, "app"),
        ([], 400, "object"),
    ],
)
def test_what_cannot_be_deployed_is_refused_with_what_fits(
    tmp_path: Path, fields: Any, status: int, word: str
) -> None:
    async def scenario() -> None:
        async with surface(tmp_path) as up:
            answer = await up.http.post("/api/deploys", json=fields)
            assert answer.status_code == status
            assert word in answer.json()["error"]
            assert up.deploys.requests == []

    asyncio.run(scenario())


def test_an_app_is_told_whether_its_containers_are_read_only(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with surface(tmp_path) as up:
            await up.http.post("/api/deploys", json={"app": "app", "repo": REPO})
            assert (await up.http.get("/api/apps/app")).json()["read_only"] == "default"
            answer = await up.http.patch("/api/apps/app", json={"read_only": "on"})
            assert answer.json() == {"app": "app", "read_only": "on"}
            (listed,) = (await up.http.get("/api/apps")).json()["apps"]
            assert listed["read_only"] == "on"
            for name, fields, status in (
                ("none", {"read_only": "on"}, 404),
                ("app", {"read_only": "yes"}, 422),
                ("app", {"other": "on"}, 400),
                ("app", {}, 422),
            ):
                refused = await up.http.patch(f"/api/apps/{name}", json=fields)
                assert refused.status_code == status, fields
            assert (await up.http.get("/api/apps/app")).json()["read_only"] == "on"

    asyncio.run(scenario())


def test_a_body_that_a_page_could_send_unasked_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with surface(tmp_path) as up:
            plain = {"Content-Type": "text/plain"}
            body = b'{"app": "app", "repo": "https://git.test/x"}'
            answer = await up.http.post("/api/deploys", content=body, headers=plain)
            assert answer.status_code == 415
            large = await up.http.post("/api/deploys", json={"app": "a" * 70_000})
            assert large.status_code == 413

    asyncio.run(scenario())


def test_credentials_of_a_clone_url_are_never_shown(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with surface(tmp_path) as up:
            url = "https://user:pass-word-2@git.test/owner/app.git"
            await up.http.post("/api/deploys", json={"app": "app", "repo": url})
            assert up.deploys.requests[0].credentials == "user:pass-word-2"
            assert up.deploys.requests[0].clone_url == REPO
            await up.deploys.ends(1, DeployState.FAILED, error="no luck with pass-word-2")
            shown = await up.http.get("/api/deploys/1")
            assert shown.json()["error"] == "no luck with ***"
            assert "pass-word-2" not in (await up.http.get("/api/deploys")).text

    asyncio.run(scenario())


def test_a_deploy_can_be_cancelled_until_it_has_ended(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with surface(tmp_path) as up:
            await up.http.post("/api/deploys", json={"app": "app", "repo": REPO})
            answer = await up.http.post("/api/deploys/1/cancel")
            assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
            assert (await up.http.post("/api/deploys/1/cancel")).status_code == 409
            assert (await up.http.post("/api/deploys/2/cancel")).status_code == 404
            assert (await up.http.post("/api/deploys/x/cancel")).status_code == 404

    asyncio.run(scenario())


def test_an_app_can_be_removed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with surface(tmp_path) as up:
            await up.http.post("/api/deploys", json={"app": "app", "repo": REPO})
            answer = await up.http.delete("/api/apps/app")
            assert (answer.status_code, answer.json()) == (200, {"removed": "app"})
            assert up.deploys.removed == ["app"]
            assert (await up.http.delete("/api/apps/other")).status_code == 404

    asyncio.run(scenario())

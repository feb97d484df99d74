"""Proves the endpoints about links: made, shown, removed, refused where they cannot be meant."""

import asyncio
from pathlib import Path

from tests.orchestrator.surface import surface


def test_a_link_is_made_shown_and_removed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with surface(tmp_path) as up:
            for app in ("web", "api"):
                await up.http.post("/api/deploys", json={"app": app, "repo": "https://git.test/a"})
            made = await up.http.put("/api/apps/web/links/api")
            assert made.json() == {"app": "web", "to": "api", "address": "", "applied": True}
            assert (await up.http.get("/api/apps/web")).json()["links"] == ["api"]
            listed = (await up.http.get("/api/apps")).json()["apps"]
            assert {app["name"]: app["links"] for app in listed} == {"api": [], "web": ["api"]}
            up.deploys.missing = "no engine"
            removed = await up.http.delete("/api/apps/web/links/api")
            assert removed.json() == {"app": "web", "to": "api", "applied": False}
            assert (await up.http.get("/api/apps/web")).json()["links"] == []
            assert (await up.http.delete("/api/apps/web/links/api")).status_code == 404

    asyncio.run(scenario())


def test_what_cannot_be_meant_is_refused(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with surface(tmp_path) as up:
            await up.http.post("/api/deploys", json={"app": "web", "repo": "https://git.test/a"})
            for path, status in (
                ("/api/apps/web/links/web", 422),
                ("/api/apps/web/links/nobody", 404),
                ("/api/apps/nobody/links/web", 404),
                ("/api/apps/web/links/web_api", 422),
            ):
                assert (await up.http.put(path)).status_code == status, path
            assert (await up.http.get("/api/apps/web")).json()["links"] == []

    asyncio.run(scenario())

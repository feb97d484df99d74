"""Proves the endpoints about what is kept: one looks, the other removes."""

import asyncio
from pathlib import Path

from tests.orchestrator.surface import surface

IMAGES = {
    "kind": "images",
    "count": 2,
    "bytes": 12,
    "names": ["fairlead/app:1", "fairlead/app:2"],
}


def test_a_get_only_looks(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with surface(tmp_path) as up:
            found = (await up.http.get("/api/prune")).json()
            assert found == {"pruned": [IMAGES], "more": False, "dry_run": True}
            assert up.deploys.prunes == [True]
            found = (await up.http.post("/api/prune")).json()
            assert found == {"pruned": [IMAGES], "more": False, "dry_run": False}
            assert up.deploys.prunes == [True, False]
            assert (await up.stranger.post("/api/prune")).status_code == 401
            assert up.deploys.prunes == [True, False]

    asyncio.run(scenario())

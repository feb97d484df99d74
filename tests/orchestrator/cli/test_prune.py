"""Proves the command that prunes, against the real application at its socket."""

import asyncio
import json
from pathlib import Path

from tests.orchestrator.cli.test_tokens import run
from tests.orchestrator.surface import surface


def test_it_says_what_goes_and_needs_no_token_here(tmp_path: Path) -> None:
    db = tmp_path / "fairlead.db"

    async def scenario() -> None:
        async with surface(tmp_path, api_token="") as up:
            code, said = await run(db, "prune", "--dry-run")
            assert (code, up.deploys.prunes) == (0, [True])
            heading, row, sum_ = said.splitlines()
            assert heading.split() == ["KIND", "COUNT", "SIZE", "NAMES"]
            assert row.split(maxsplit=4) == [
                *("images", "2", "12", "B", "fairlead/app:1, fairlead/app:2"),
            ]
            assert sum_ == "12 B would be removed"
            code, said = await run(db, "prune", "--json")
            assert (code, up.deploys.prunes) == (0, [True, False])
            assert json.loads(said)["bytes"] == 12

    asyncio.run(scenario())

"""Proves the commands about tokens, against the real application at its socket."""

import asyncio
import os
import sys
from pathlib import Path

from edge.api.token_form import is_token
from tests.orchestrator.surface import surface


async def run(db: Path, *words: str) -> tuple[int, str]:
    """`fairlead` with these words: its exit code, and all that it says."""
    environment = {**os.environ, "FAIRLEAD_DB": str(db)}
    for name in [each for each in environment if each.startswith("GODEPLOY_")]:
        del environment[name]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "fairlead", *words),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


def test_tokens_are_made_listed_and_revoked_without_any_token(tmp_path: Path) -> None:
    db = tmp_path / "fairlead.db"

    async def scenario() -> None:
        async with surface(tmp_path, api_token="") as up:
            code, token = await run(
                *(db, "tokens", "create", "ci", "--scope", "deploy", "--scope", "read"),
                *("--app", "hello", "--days", "90"),
            )
            assert (code, is_token(token.strip())) == (0, True)
            bearer = {"Authorization": f"Bearer {token.strip()}"}
            assert (await up.stranger.get("/api/apps", headers=bearer)).status_code == 200
            code, listed = await run(db, "tokens", "ls")
            heading, row = listed.splitlines()
            assert (code, heading.split()[:3]) == (0, ["NAME", "SCOPES", "APPS"])
            assert row.startswith("ci    deploy read  hello")
            assert "never" not in row
            code, as_json = await run(db, "tokens", "ls", "--json")
            assert (code, '"name": "ci"' in as_json) == (0, True)
            assert token.strip() not in listed + as_json
            again = await run(db, "tokens", "create", "ci", "--scope", "admin")
            assert again[0] == 1
            assert "revoke it first" in again[1]
            assert await run(db, "tokens", "revoke", "ci") == (0, "ci revoked\n")
            assert (await up.stranger.get("/api/apps", headers=bearer)).status_code == 401

    asyncio.run(scenario())


def test_a_scope_is_needed_and_must_be_one() -> None:
    async def scenario() -> None:
        nowhere = Path("/nowhere/f.db")
        assert (await run(nowhere, "tokens", "create", "ci"))[0] == 2
        code, said = await run(nowhere, "tokens", "create", "ci", "--scope", "root")
        assert (code, "'metrics'" in said) == (2, True)

    asyncio.run(scenario())

"""Proves the endpoints about tokens: made, shown once, used, revoked."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from orchestrator.security.tokens import is_token
from tests.orchestrator.surface import surface


def test_a_token_is_shown_once_works_and_is_revoked(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with surface(tmp_path) as up:
            fields = {"name": "ci", "scope": "read deploy", "apps": "hello", "expires_in": "60"}
            made = await up.operator.post("/api/tokens", json=fields)
            assert made.status_code == 201
            token = made.json()["token"]
            assert is_token(token)
            bearer = {"Authorization": f"Bearer {token}"}
            assert (await up.stranger.get("/api/apps", headers=bearer)).status_code == 200
            listed = (await up.operator.get("/api/tokens")).text
            assert token not in listed
            (shown,) = (await up.operator.get("/api/tokens")).json()["tokens"]
            assert (shown["name"], shown["scopes"], shown["apps"]) == (
                *("ci", ["deploy", "read"], ["hello"]),
            )
            assert shown["expires_at"] - shown["created_at"] == pytest.approx(60, abs=10)
            assert shown["used_at"] is not None
            assert (await up.operator.delete("/api/tokens/ci")).json() == {"revoked": "ci"}
            assert (await up.stranger.get("/api/apps", headers=bearer)).status_code == 401
            assert (await up.operator.delete("/api/tokens/ci")).status_code == 404

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"scope": "read"}, "name"),
        ({"name": "No", "scope": "read"}, "No"),
        ({"name": "ci"}, "scope is required"),
        ({"name": "ci", "scope": "read,deploy"}, "unknown scope"),
        ({"name": "ci", "scope": "root"}, "scopes are read, deploy, write, secrets, admin"),
        ({"name": "ci", "scope": "read", "apps": "../x"}, "app name"),
        ({"name": "ci", "scope": "read", "expires_in": "0"}, "expires_in"),
        ({"name": "ci", "scope": "read", "expires_in": "soon"}, "expires_in"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, fields: dict[str, Any], word: str) -> None:
    async def scenario() -> None:
        async with surface(tmp_path) as up:
            refused = await up.http.post("/api/tokens", json=fields)
            assert refused.status_code == 422
            assert word in refused.json()["error"]
            assert (await up.http.get("/api/tokens")).json() == {"tokens": []}

    asyncio.run(scenario())


def test_only_write_deploys_as_an_operator_does(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with surface(tmp_path) as up:
            for number, scope in enumerate(("deploy", "deploy write", "admin")):
                fields = {"name": f"t{number}", "scope": scope}
                token = (await up.http.post("/api/tokens", json=fields)).json()["token"]
                answer = await up.stranger.post(
                    "/api/deploys",
                    json={"app": f"app{number}", "repo": "https://git.test/app"},
                    headers={"Authorization": f"Bearer {token}"},
                )
                assert answer.status_code == 202
            assert [each.operator for each in up.deploys.requests] == [False, True, True]
            assert not any(each.allow_file for each in up.deploys.requests)

    asyncio.run(scenario())

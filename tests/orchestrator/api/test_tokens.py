"""Proves the endpoints about tokens: made, shown once, used, revoked."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from edge.api.permission import Grant, Scope
from edge.api.token_form import hash_of, is_token, make_token
from edge.routing.store_writer import RouteWriter
from edge.routing.token_store import StoredToken
from edge.supervisor.stored_tokens import StoredTokens
from tests.orchestrator.surface import surface
from tests.orchestrator.workshop import until

FIELDS = {"name": "first", "scope": "read"}


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
            scopes = ("deploy", "deploy write", "admin", "deploy write")
            for number, scope in enumerate(scopes):
                # The last one is limited to an app: what is nobody's app's is not its own.
                apps = f"app{number}" if number == 3 else ""
                fields = {"name": f"t{number}", "scope": scope, "apps": apps}
                token = (await up.http.post("/api/tokens", json=fields)).json()["token"]
                answer = await up.stranger.post(
                    "/api/deploys",
                    json={"app": f"app{number}", "repo": "https://git.test/app"},
                    headers={"Authorization": f"Bearer {token}"},
                )
                assert answer.status_code == 202
            assert [each.operator for each in up.deploys.requests] == [False, True, True, False]
            assert not any(each.allow_file for each in up.deploys.requests)

    asyncio.run(scenario())


def test_the_edge_has_a_copy_of_each_from_when_it_is_made_until_it_is_revoked(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with surface(tmp_path) as up:
            db = up.services.settings.db
            RouteWriter(db).set("app.test", "a:1")
            fields = {"name": "prometheus", "scope": "metrics", "expires_in": "60"}
            made = (await up.operator.post("/api/tokens", json=fields)).json()
            assert set(made) == {"name", "token"}
            edge = StoredTokens(db)
            grant = await edge.find(made["token"])
            assert grant == Grant("token prometheus", frozenset({Scope.METRICS}))
            await up.operator.delete("/api/tokens/prometheus")
            assert await edge.find(made["token"]) is None

    asyncio.run(scenario())


def test_one_that_was_made_before_the_first_route_is_known_to_the_edge_with_that_route(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A look while there is a database may take as long as it likes.
    monkeypatch.setattr("orchestrator.edge_tokens.INTERVAL", 3600.0)
    monkeypatch.setattr("orchestrator.edge_tokens.ABSENT_INTERVAL", 0.01)

    async def scenario() -> None:
        async with surface(tmp_path) as up:
            db, copies = up.services.settings.db, up.services.edge_tokens
            copies.start()
            made = (await up.operator.post("/api/tokens", json=FIELDS)).json()
            assert set(made) == {"name", "token"}
            assert not db.exists()
            RouteWriter(db).set("app.test", "a:1")

            async def is_known() -> bool:
                return await StoredTokens(db).find(made["token"]) is not None

            await until(is_known, "a token of the edge")
            await copies.stop()

    asyncio.run(scenario())


def test_where_the_copy_cannot_be_written_it_is_said_and_made_good_later(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with surface(tmp_path) as up:
            db = up.services.settings.db
            RouteWriter(db).set("app.test", "a:1")
            edge, copies = StoredTokens(db), up.services.edge_tokens
            first = (await up.operator.post("/api/tokens", json=FIELDS)).json()["token"]
            with closing(sqlite3.connect(db)) as connection:
                connection.execute("ALTER TABLE proxy_tokens RENAME TO moved")
                connection.execute("CREATE VIEW proxy_tokens AS SELECT * FROM moved")
            answer = await up.operator.post("/api/tokens", json=FIELDS | {"name": "second"})
            assert "the edge's admin API does not know it yet" in answer.json()["warning"]
            refused = await up.operator.delete("/api/tokens/first")
            assert refused.status_code == 503
            assert "first is revoked, but the edge's admin API" in refused.json()["error"]
            bearer = {"Authorization": f"Bearer {first}"}
            assert (await up.stranger.get("/api/apps", headers=bearer)).status_code == 401
            with closing(sqlite3.connect(db)) as connection:
                connection.execute("DROP VIEW proxy_tokens")
                connection.execute("ALTER TABLE moved RENAME TO proxy_tokens")
            assert await edge.find(first) is not None
            await copies.copy()
            assert await edge.find(first) is None
            assert await edge.find(answer.json()["token"]) is not None

    asyncio.run(scenario())


def test_a_backup_of_the_routes_that_is_put_back_brings_no_token_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with surface(tmp_path) as up:
            db, copies = up.services.settings.db, up.services.edge_tokens
            old = StoredToken(hash_of(token := make_token()), "old", "admin", "", None)
            RouteWriter(db).set("app.test", "a:1")
            RouteWriter(db).replace_tokens([old])
            assert await StoredTokens(db).find(token) is not None

            async def is_gone() -> bool:
                return await StoredTokens(db).find(token) is None

            copies.start()
            await until(is_gone, "no such token")
            await copies.stop()

    asyncio.run(scenario())

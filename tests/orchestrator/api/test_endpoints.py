"""Proves that each endpoint checks what its declaration says, before its handler does anything."""

import asyncio
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from edge.api.permission import Scope
from tests.orchestrator.surface import Surface, surface

NAMED = {"id": "1", "name": "app", "to": "other"}

OPEN = {("GET", "/healthz"), ("GET", "/readyz"), ("POST", "/webhook")}

# These look at the app: tokens that are limited to apps may come.
BY_APP = {
    ("GET", "/api/deploys"),
    ("POST", "/api/deploys"),
    ("GET", "/api/deploys/{id}"),
    ("GET", "/api/deploys/{id}/log"),
    ("POST", "/api/deploys/{id}/cancel"),
    ("GET", "/api/apps"),
    ("GET", "/api/apps/{name}"),
    ("DELETE", "/api/apps/{name}"),
    ("GET", "/api/ws/logs"),
    ("GET", "/api/ws/deploys/{id}/log"),
}


class Declared(NamedTuple):
    method: str
    declared_path: str
    scope: str  # empty: it is open
    query: set[str]
    is_socket: bool

    @property
    def path(self) -> str:
        return re.sub(r"\{(\w+)\}", lambda found: NAMED[found[1]], self.declared_path)


def declared(paths: dict[str, dict[str, Any]]) -> Iterator[Declared]:
    """All that is served."""
    for path, operations in paths.items():
        for method, operation in operations.items():
            ((scope,),) = [each["token"] for each in operation.get("security", [{"token": [""]}])]
            names = {
                each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"
            }
            yield Declared(method.upper(), path, scope, names, "101" in operation["responses"])


async def everything(up: Surface) -> list[Declared]:
    found = list(declared((await up.http.get("/openapi.json")).json()["paths"]))
    assert len(found) == 27
    assert {(each.method, each.declared_path) for each in found if not each.scope} == OPEN
    return found


async def status(up: Surface, each: Declared, **headers: str) -> int:
    """Of the answer to what has only these headers."""
    if not each.is_socket:
        # What needs a body is refused for it, if for nothing else.
        answer = await up.stranger.request(each.method, each.path, headers=headers)
        return answer.status_code
    try:
        async with connect(
            f"ws://127.0.0.1:{up.port}{each.path}", additional_headers=headers, proxy=None
        ):
            return 101
    except InvalidStatus as refused:
        return refused.response.status_code


async def token(up: Surface, scope: str, apps: str = "") -> str:
    fields = {"name": f"{scope}{'-limited' if apps else ''}", "scope": scope, "apps": apps}
    answer = await up.http.post("/api/tokens", json=fields)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({}, 401),
        ({"Host": "rebound.test"}, 401),
        ({"Via": "1.1 edge"}, 401),
        ({"X-Forwarded-For": "127.0.0.1"}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Bearer fl_" + "0" * 49}, 401),
        ({"Origin": "http://evil.test"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
def test_nothing_but_what_is_open_is_for_strangers_on_this_machine_either(
    tmp_path: Path, headers: dict[str, str], wanted: int
) -> None:
    async def scenario() -> None:
        async with surface(tmp_path) as up:
            await up.push(wait="0")
            for each in await everything(up):
                found = await status(up, each, **headers)
                if each.path == "/metrics" and not headers:
                    assert found == 200
                elif each.scope:
                    assert found == wanted, each
                elif each.path != "/webhook":
                    assert found == 200, each
                else:
                    assert found == 403
            assert len(up.deploys.requests) == 1
            assert up.deploys.removed == []

    asyncio.run(scenario())


def test_metrics_take_a_token_on_this_machine_too_where_that_is_set(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with surface(tmp_path, metrics_auth="token") as up:
            assert (await up.stranger.get("/metrics")).status_code == 401
            assert (await up.http.get("/metrics")).status_code == 200
            assert (await up.operator.get("/metrics")).status_code == 200

    asyncio.run(scenario())


def test_a_token_that_is_too_small_is_refused_everywhere(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with surface(tmp_path) as up:
            tokens = {scope.value: await token(up, scope) for scope in Scope}
            for each in await everything(up):
                for scope, text in tokens.items():
                    if each.scope:
                        found = await status(up, each, Authorization=f"Bearer {text}")
                        is_enough = scope in (each.scope, "admin")
                        assert (found not in (401, 403)) is is_enough, (each, scope, found)
            assert up.deploys.requests == []
            assert up.deploys.removed == []

    asyncio.run(scenario())


def test_a_token_that_is_limited_to_an_app_reaches_no_other(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with surface(tmp_path) as up:
            for app in ("mine", "app"):
                fields = {"app": app, "repo": f"https://git.test/{app}"}
                await up.http.post("/api/deploys", json=fields)
            limited = {"Authorization": f"Bearer {await token(up, 'admin', apps='mine')}"}
            for each in await everything(up):
                if each.scope and (each.method, each.declared_path) not in BY_APP:
                    assert await status(up, each, **limited) == 403, each

            async def ask(method: str, path: str, **options: Any) -> Any:
                return await up.stranger.request(method, path, headers=limited, **options)

            listed = (await ask("GET", "/api/apps")).json()["apps"]
            assert [app["name"] for app in listed] == ["mine"]
            assert (await ask("GET", "/api/deploys")).status_code == 403
            assert (await ask("GET", "/api/deploys?app=app")).status_code == 403
            assert (await ask("GET", "/api/deploys?app=mine")).status_code == 200
            for method, path in (
                ("GET", "/api/deploys/{}"),
                ("GET", "/api/deploys/{}/log"),
                ("POST", "/api/deploys/{}/cancel"),
            ):
                assert (await ask(method, path.format(2))).status_code == 404, path
                assert (await ask(method, path.format(1))).status_code == 200, path
            for method in ("GET", "DELETE"):
                assert (await ask(method, "/api/apps/app")).status_code == 404
                assert (await ask(method, "/api/apps/mine")).status_code == 200
            assert up.deploys.removed == ["mine"]
            other = await ask("POST", "/api/deploys", json={"app": "app"})
            assert other.status_code == 403
            fields = {"app": "mine", "repo": "https://git.test/mine"}
            assert (await ask("POST", "/api/deploys", json=fields)).status_code == 202
            follow = Declared("GET", "/api/ws/deploys/2/log", "read", set(), True)
            assert await status(up, follow, **limited) == 404

    asyncio.run(scenario())


def test_the_operator_at_the_socket_needs_no_token(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with surface(tmp_path, api_token="") as up:
            paths = (await up.operator.get("/openapi.json")).json()["paths"]
            for each in declared(paths):
                if each.scope and not each.is_socket:
                    answer = await up.operator.request(each.method, each.path)
                    assert answer.status_code not in (401, 403), each
                    assert (await up.stranger.request(each.method, each.path)).status_code == (
                        200 if each.path == "/metrics" else 401
                    )

    asyncio.run(scenario())


def test_a_get_changes_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with surface(tmp_path) as up:
            await up.push(wait="0")
            before = dump(up.services.settings.state_path)
            for each in await everything(up):
                if each.method == "GET":
                    await status(up, each, Authorization=f"Bearer {up.token}")
            assert dump(up.services.settings.state_path) == before
            assert len(up.deploys.requests) == 1

    asyncio.run(scenario())


def dump(db: Path) -> list[str]:
    """All that is in a database."""
    with closing(sqlite3.connect(db)) as connection:
        return list(connection.iterdump())


def test_unknown_parameters_do_not_reach_a_handler(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with surface(tmp_path) as up:
            for each in await everything(up):
                if not each.scope or each.is_socket:
                    continue
                wrong = await up.http.request(each.method, each.path, params={"nonsense": "1"})
                assert wrong.status_code == 400, each
                allowed = ", ".join(sorted(each.query)) or "none"
                assert wrong.json()["error"] == (
                    f"unknown query parameter 'nonsense'; allowed: {allowed}"
                )
                for name in each.query:
                    twice = await up.http.request(each.method, f"{each.path}?{name}=1&{name}=1")
                    assert twice.status_code == 400, each
                    assert twice.json()["error"] == f"query parameter {name!r} is given twice"
            assert up.deploys.requests == []
            assert up.deploys.removed == []

    asyncio.run(scenario())

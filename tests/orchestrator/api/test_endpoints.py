"""Proves that each endpoint checks what its declaration says, before its handler does anything."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.orchestrator.surface import surface


def guarded(paths: dict[str, dict[str, Any]]) -> Iterator[tuple[str, str, set[str]]]:
    """Method, path and the query's parameters of what is served over HTTP with a token only."""
    for path, operations in paths.items():
        for method, operation in operations.items():
            if "security" in operation and "101" not in operation["responses"]:
                known = {
                    each["name"]
                    for each in operation.get("parameters", ())
                    if each["in"] == "query"
                }
                yield method.upper(), path.replace("{id}", "1").replace("{name}", "app"), known


def test_strangers_and_unknown_parameters_do_not_reach_a_handler(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with surface(tmp_path) as up:
            await up.push(wait="0")
            paths = (await up.http.get("/openapi.json")).json()["paths"]
            declared = list(guarded(paths))
            assert len(declared) == 12
            for method, path, known in declared:
                stranger = await up.http.request(method, path, headers={"Via": "1.1 edge"})
                assert stranger.status_code == 401, path
                wrong = await up.http.request(method, path, params={"nonsense": "1"})
                assert wrong.status_code == 400, path
                allowed = ", ".join(sorted(known)) or "none"
                assert wrong.json()["error"] == (
                    f"unknown query parameter 'nonsense'; allowed: {allowed}"
                )
                for name in known:
                    twice = await up.http.request(method, f"{path}?{name}=1&{name}=1")
                    assert twice.status_code == 400, path
                    assert twice.json()["error"] == f"query parameter {name!r} is given twice"
            assert len(up.deploys.requests) == 1
            assert up.deploys.removed == []

    asyncio.run(scenario())

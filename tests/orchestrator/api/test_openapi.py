"""Proves that the description of the endpoints and what is served are the same."""

import asyncio
from pathlib import Path

from starlette.routing import Route, WebSocketRoute

from orchestrator.api.app import create_app
from tests.orchestrator.surface import surface


def test_every_route_is_described_and_nothing_else(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with surface(tmp_path) as up:
            served = set()
            for route in create_app(up.services, up.inbox).routes:
                if isinstance(route, WebSocketRoute):
                    served.add((route.path, "get"))
                else:
                    assert isinstance(route, Route)
                    methods = (route.methods or set()) - {"HEAD"}
                    served |= {(route.path, method.lower()) for method in methods}
            paths = (await up.http.get("/openapi.json")).json()["paths"]
            described = {(path, method) for path, each in paths.items() for method in each}
            assert served == described

    asyncio.run(scenario())


def test_every_parameter_of_a_path_is_described(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with surface(tmp_path) as up:
            paths = (await up.http.get("/openapi.json")).json()["paths"]
            for path, operations in paths.items():
                for operation in operations.values():
                    named = {
                        each["name"]
                        for each in operation.get("parameters", ())
                        if each["in"] == "path"
                    }
                    in_path = {part[1:-1] for part in path.split("/") if part.startswith("{")}
                    assert named == in_path, path
                    assert operation["responses"]

    asyncio.run(scenario())

"""Owns the OpenAPI 3.1 document of the orchestrator, made of its endpoints."""

from collections.abc import Iterable
from importlib.metadata import version

from orchestrator.api.endpoints import Endpoint, Object, Socket


def document(endpoints: Iterable[Endpoint | Socket]) -> Object:
    """The whole document, as `/openapi.json` shows it."""
    paths: dict[str, Object] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = endpoint.operation()
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Fairlead orchestrator",
            "version": version("fairlead"),
            "description": (
                "/api requires the bearer token: FAIRLEAD_API_TOKEN, or the one in the file .token"
                " beside the database. While FAIRLEAD_API_TOKEN is not set, direct clients on this"
                " machine need none."
            ),
        },
        "paths": paths,
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }

"""Owns the endpoints of the admin API, each declared once: its route, who may use it, the fields it
takes, and its part of the OpenAPI document are all made of that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, Final

_TEXT = {"text/plain": {"schema": {"type": "string"}}}
_OBJECT = {"application/json": {"schema": {"type": "object"}}}
_ERROR = {
    "application/json": {
        "schema": {
            "type": "object",
            "properties": {"error": {"type": "string"}},
            "required": ["error"],
        }
    }
}
_TARGET = {"type": "string", "description": "host:port", "examples": ["127.0.0.1:9101"]}
_SECONDS = {"type": "number", "minimum": 0, "maximum": 3600, "description": "seconds"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A method of a path, served by the `Admin` method named `handler`.

    A POST changes something, and takes who may. `fields` are JSON Schemas of what its body may
    have; a GET has `parameters` of OpenAPI, `content`, and with `unready` a 503 that means it.
    """

    method: str
    path: str
    handler: str
    summary: str
    content: object = field(default_factory=lambda: _OBJECT)
    unready: str = ""
    parameters: Sequence[Mapping[str, object]] = ()
    fields: Mapping[str, object] = field(default_factory=dict)
    required: Sequence[str] = ()

    @property
    def is_open(self) -> bool:
        """Whether everybody may use it."""
        return self.method == "GET"

    def operation(self) -> dict[str, Any]:
        """Its description in OpenAPI."""
        if not self.is_open:
            return _post(self.summary, self.fields, self.required)
        described = _get(self.summary, self.content, self.unready)
        return described | ({"parameters": list(self.parameters)} if self.parameters else {})


_URL: Final = {
    "name": "url",
    "in": "query",
    "required": True,
    "schema": {"type": "string"},
    "example": "http://app.test/path",
}

ENDPOINTS: Final = (
    Endpoint("GET", "/healthz", "healthz", "Liveness: the process responds.", _TEXT),
    Endpoint(
        "GET",
        "/readyz",
        "readyz",
        "Readiness: every worker serves a route table.",
        _TEXT,
        "The reason.",
    ),
    Endpoint(
        "GET",
        "/metrics",
        "metrics",
        "Metrics in the Prometheus text format, summed over the workers.",
        _TEXT,
    ),
    Endpoint("GET", "/routes", "routes", "The routes, and the health of their targets."),
    Endpoint("GET", "/workers", "workers", "The worker processes."),
    Endpoint(
        "GET", "/explain", "explain", "The route that a URL matches, and why.", parameters=[_URL]
    ),
    Endpoint("GET", "/openapi.json", "openapi", "This document."),
    Endpoint(
        "POST",
        "/reload",
        "reload",
        "Reload the routes. Responds when every worker serves the version.",
        fields={"version": {"type": "integer", "minimum": 0}, "timeout": _SECONDS},
    ),
    Endpoint(
        "POST",
        "/drain",
        "drain",
        "Send no new requests to a target. Responds when none is in flight.",
        fields={"target": _TARGET, "timeout": _SECONDS, "tunnel_timeout": _SECONDS},
        required=["target"],
    ),
    Endpoint(
        "POST",
        "/undrain",
        "undrain",
        "Send requests to a drained target again.",
        fields={"target": _TARGET},
        required=["target"],
    ),
    Endpoint(
        "POST", "/upgrade", "hand_over", "Upgrade to the code on disk. Responds when it serves."
    ),
)


def document() -> dict[str, Any]:
    """The OpenAPI 3.1 document, as `/openapi.json` shows it."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Fairlead edge",
            "version": version("fairlead"),
            "description": (
                "Health, metrics and routes need no credentials. Changes (POST) are made over the"
                " control socket, or over TCP with the bearer token FAIRLEAD_ADMIN_TOKEN."
            ),
        },
        "paths": {each.path: {each.method.lower(): each.operation()} for each in ENDPOINTS},
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _get(summary: str, content: object, unready: str = "") -> dict[str, Any]:
    responses: dict[str, Any] = {"200": {"description": summary, "content": content}}
    if unready:
        responses["503"] = {"description": unready, "content": content}
    return {"summary": summary, "responses": responses}


def _post(
    summary: str, properties: Mapping[str, object], required: Sequence[str]
) -> dict[str, Any]:
    schema: dict[str, object] = {
        "type": "object",
        "properties": dict(properties),
        "additionalProperties": False,
    }
    if required:
        schema["required"] = list(required)
    refusals = {
        "400": "The body is invalid.",
        "401": "The token is missing or wrong.",
        "403": "No token is set: changes are made over the control socket.",
        "503": "The edge cannot do this now.",
    }
    return {
        "summary": summary,
        "security": [{"token": []}, {}],
        "requestBody": {
            "required": bool(required),
            "content": {"application/json": {"schema": schema}},
        },
        "responses": {"200": {"description": "Done.", "content": _OBJECT}}
        | {status: {"description": text, "content": _ERROR} for status, text in refusals.items()},
    }

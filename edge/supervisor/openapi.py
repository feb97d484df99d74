"""Owns the description of the admin API (OpenAPI 3.1), as `/openapi.json` shows it."""

from importlib.metadata import version
from typing import Any

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


def document() -> dict[str, Any]:
    """The whole document."""
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
        "paths": {
            "/healthz": _get("Liveness: the process responds.", _TEXT),
            "/readyz": _get("Readiness: every worker serves a route table.", _TEXT, "The reason."),
            "/metrics": _get(
                "Metrics in the Prometheus text format, summed over the workers.", _TEXT
            ),
            "/routes": _get("The routes, and the health of their targets.", _OBJECT),
            "/workers": _get("The worker processes.", _OBJECT),
            "/explain": _get("The route that a URL matches, and why.", _OBJECT)
            | {
                "parameters": [
                    {
                        "name": "url",
                        "in": "query",
                        "required": True,
                        "schema": {"type": "string"},
                        "example": "http://app.test/path",
                    }
                ]
            },
            "/openapi.json": _get("This document.", _OBJECT),
            "/reload": _post(
                "Reload the routes. Responds when every worker serves the version.",
                {"version": {"type": "integer", "minimum": 0}, "timeout": _SECONDS},
            ),
            "/drain": _post(
                "Send no new requests to a target. Responds when none is in flight.",
                {"target": _TARGET, "timeout": _SECONDS, "tunnel_timeout": _SECONDS},
                required=["target"],
            ),
            "/undrain": _post(
                "Send requests to a drained target again.", {"target": _TARGET}, ["target"]
            ),
            "/upgrade": _post("Upgrade to the code on disk. Responds when it serves.", {}),
        },
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _get(summary: str, content: object, unready: str = "") -> dict[str, Any]:
    responses: dict[str, Any] = {"200": {"description": summary, "content": content}}
    if unready:
        responses["503"] = {"description": unready, "content": content}
    return {"get": {"summary": summary, "responses": responses}}


def _post(
    summary: str, properties: dict[str, object], required: list[str] | None = None
) -> dict[str, Any]:
    schema: dict[str, object] = {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    if required:
        schema["required"] = required
    refusals = {
        "400": "The body is invalid.",
        "401": "The token is missing or wrong.",
        "403": "No token is set: changes are made over the control socket.",
        "503": "The edge cannot do this now.",
    }
    return {
        "post": {
            "summary": summary,
            "security": [{"token": []}, {}],
            "requestBody": {
                "required": bool(required),
                "content": {"application/json": {"schema": schema}},
            },
            "responses": {"200": {"description": "Done.", "content": _OBJECT}}
            | {
                status: {"description": text, "content": _ERROR}
                for status, text in refusals.items()
            },
        }
    }

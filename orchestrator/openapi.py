"""Owns the description of the orchestrator's HTTP surface (OpenAPI 3.1), as `/openapi.json` shows
it. WebSockets have no place in OpenAPI but the description of the GET that opens them.
"""

from importlib.metadata import version
from typing import Any, Final

_Object = dict[str, Any]

_ERROR: Final[_Object] = {
    "application/json": {
        "schema": {
            "type": "object",
            "properties": {"error": {"type": "string"}},
            "required": ["error"],
        }
    }
}
_ID: Final[_Object] = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": {"type": "integer", "minimum": 1},
}
_NAME: Final[_Object] = {
    "name": "name",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"},
}
_REFUSALS: Final = {
    "400": "A parameter, a field or the body cannot be used.",
    "401": "The token is missing or wrong.",
    "403": "The Origin is foreign.",
    "404": "There is no such thing.",
    "408": "The body took too long.",
    "409": "It is too late for this, or something else stands in the way.",
    "413": "The body is too large.",
    "415": "The body is not said to be JSON.",
    "422": "It cannot be done as asked.",
    "429": "Too many from this address.",
    "500": "The deploy failed, or something went wrong here.",
    "503": "Something is missing now.",
}
_API: Final = ("400", "401", "403")


def document() -> _Object:
    """The whole document."""
    deploy = _schema(
        {
            "app": _text("Name of the app: a-z, 0-9 and -."),
            "repo": _text("Clone URL; may be left out for an app that exists."),
            "ref": _text("Branch or whole commit; the app's branch if left out."),
            "domain": _text("Domain that no other app has; APP.local for a new app."),
            "health_path": _text("Path that a new container is asked for."),
        },
        required=["app"],
    )
    webhook = [
        _query("domain", {"type": "string"}, "Domain of the app that no other app has."),
        _query("health_path", {"type": "string"}, "Path that a new container is asked for."),
        _query("branch", {"type": "string"}, "Branch that is deployed instead of the default one."),
        _wait(),
    ]
    page = [
        _query("limit", {"type": "integer", "minimum": 1, "maximum": 500}, "Rows at most; 50."),
        _query("before", {"type": "integer", "minimum": 1}, "Only rows with a smaller id."),
    ]
    app = _query("app", {"type": "string"}, "Only those of this app.")
    after = _query("after_line", {"type": "integer", "minimum": 0}, "Leave out so many lines.")
    container = _query("container", {"type": "string"}, "Id, its unique beginning, or name.")
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Fairlead orchestrator",
            "version": version("fairlead"),
            "description": (
                "What is under /api takes the bearer token (FAIRLEAD_API_TOKEN, or the one in the"
                " file beside the database). While none was set, direct clients on this machine"
                " need none."
            ),
        },
        "paths": {
            "/healthz": {"get": _open("The process lives.", _plain())},
            "/readyz": {"get": _open("Deploys can be made.", _plain(), "503")},
            "/metrics": {
                "get": _open("Prometheus text format, for this machine.", _plain(), "401")
            },
            "/openapi.json": {"get": _open("This document.", _json())},
            "/webhook": {
                "post": {
                    "summary": "A delivery of GitHub, GitLab, Gitea, Forgejo or Bitbucket.",
                    "parameters": webhook,
                    "requestBody": {"required": True, "content": _json()},
                    "responses": {
                        "200": {"description": "The deploy is live, or: pong.", "content": _json()},
                        "202": _accepted("Ignored, or the deploy is not done yet."),
                        **_refusals(
                            "400", "401", "403", "408", "409", "413", "422", "429", "500", "503"
                        ),
                    },
                }
            },
            "/api/webhooks": {"get": _api("The deliveries, newest first.", _json(), page)},
            "/api/webhooks/{id}": {
                "get": _api("A delivery with headers and body.", _json(), [_ID], "404")
            },
            "/api/webhooks/{id}/replay": {
                "post": _api("Decide it anew.", _json(), [_ID, _wait()], "404", "409", "422", "500")
                | {"description": "Answers as /webhook does."}
            },
            "/api/deploys": {
                "get": _api("The deploys, newest first.", _json(), [app, *page]),
                "post": {
                    "summary": "Deploy an app.",
                    "security": [{"token": []}, {}],
                    "requestBody": {"required": True, "content": deploy},
                    "responses": {
                        "202": _accepted("It is in the queue."),
                        **_refusals(*_API, "408", "409", "413", "415", "422", "503"),
                    },
                },
            },
            "/api/deploys/{id}": {"get": _api("A deploy with its steps.", _json(), [_ID], "404")},
            "/api/deploys/{id}/log": {
                "get": _api(
                    "Its log so far.",
                    {**_plain(), "application/x-ndjson": {"schema": {"type": "string"}}},
                    [_ID, after],
                    "404",
                )
            },
            "/api/deploys/{id}/cancel": {
                "post": _api("End it, unless it is switched.", _json(), [_ID], "404", "409")
            },
            "/api/apps": {"get": _api("The apps, by name.", _json())},
            "/api/apps/{name}": {
                "get": _api("An app.", _json(), [_NAME], "404"),
                "delete": _api("Remove it.", _json(), [_NAME], "404", "409", "503"),
            },
            "/api/stats": {
                "get": _api("CPU, memory and network of each container.", _json(), None, "503")
            },
            "/api/ws/logs": {
                "get": _socket(
                    "Follow a container's output: one line a message.", [container], "503"
                )
            },
            "/api/ws/deploys/{id}/log": {
                "get": _socket(
                    "Follow a deploy's log until it ends: one JSON object a message, with number,"
                    " t (Unix seconds), step and line.",
                    [_ID],
                )
            },
        },
        "components": {"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _open(summary: str, content: _Object, *refusals: str) -> _Object:
    return {
        "summary": summary,
        "responses": {
            "200": {"description": summary, "content": content},
            **_refusals(*refusals),
        },
    }


def _api(
    summary: str, content: _Object, parameters: list[_Object] | None = None, *refusals: str
) -> _Object:
    return {
        "summary": summary,
        "security": [{"token": []}, {}],
        "parameters": parameters or [],
        "responses": {
            "200": {"description": summary, "content": content},
            **_refusals(*_API, *refusals),
        },
    }


def _socket(summary: str, parameters: list[_Object], *refusals: str) -> _Object:
    return {
        "summary": summary,
        "security": [{"token": []}, {}],
        "parameters": parameters,
        "responses": {
            "101": {"description": "A WebSocket (RFC 6455)."},
            **_refusals(*_API, "404", *refusals),
        },
    }


def _refusals(*statuses: str) -> _Object:
    return {status: {"description": _REFUSALS[status], "content": _ERROR} for status in statuses}


def _accepted(summary: str) -> _Object:
    location = {"schema": {"type": "string"}, "description": "Where the deploy is shown."}
    return {"description": summary, "content": _json(), "headers": {"Location": location}}


def _query(name: str, schema: _Object, meaning: str) -> _Object:
    return {"name": name, "in": "query", "schema": schema, "description": meaning}


def _wait() -> _Object:
    schema = {"type": "number", "minimum": 0, "maximum": 30}
    return _query("wait", schema, "Seconds to wait for the result.")


def _schema(properties: _Object, required: list[str]) -> _Object:
    return {
        "application/json": {
            "schema": {
                "type": "object",
                "properties": properties,
                "required": required,
                "additionalProperties": False,
            }
        }
    }


def _text(meaning: str) -> _Object:
    return {"type": "string", "description": meaning}


def _json() -> _Object:
    return {"application/json": {"schema": {"type": "object"}}}


def _plain() -> _Object:
    return {"text/plain": {"schema": {"type": "string"}}}

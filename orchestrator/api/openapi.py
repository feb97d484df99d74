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
    "400": "Invalid parameter, field or body.",
    "401": "Missing or invalid token.",
    "403": "Cross-origin request.",
    "404": "Not found.",
    "408": "The request body was not received in time.",
    "409": "Conflict with the current state.",
    "413": "The request body is too large.",
    "415": "Content-Type is not application/json.",
    "422": "Invalid value.",
    "429": "Too many webhooks from this address.",
    "500": "The deploy failed, or internal error.",
    "503": "Database, Docker Engine or orchestrator unavailable.",
}
_API: Final = ("400", "401", "403")


def document() -> _Object:
    """The whole document."""
    deploy = _schema(
        {
            "app": _text("App name: a-z, 0-9 and -."),
            "repo": _text("Clone URL; required for a new app."),
            "ref": _text("Branch or full commit id; default: the branch of the app."),
            "domain": _text("Domain to add to the app; default for a new app: APP.local."),
            "health_path": _text("Health check path."),
        },
        required=["app"],
    )
    webhook = [
        _query("domain", {"type": "string"}, "Domain to add to the app."),
        _query("health_path", {"type": "string"}, "Health check path."),
        _query("branch", {"type": "string"}, "Branch to deploy instead of the default branch."),
        _wait(),
    ]
    page = [
        _query(
            "limit",
            {"type": "integer", "minimum": 1, "maximum": 500},
            "Max number of rows; default 50.",
        ),
        _query("before", {"type": "integer", "minimum": 1}, "Only rows with a smaller id."),
    ]
    app = _query("app", {"type": "string"}, "Only deploys of this app.")
    after = _query(
        "after_line", {"type": "integer", "minimum": 0}, "Only lines after this line number."
    )
    container = _query("container", {"type": "string"}, "Container name, id or unique id prefix.")
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
        "paths": {
            "/healthz": {"get": _open("Liveness: the process runs.", _plain())},
            "/readyz": {"get": _open("Readiness: deploys can run.", _plain(), "503")},
            "/metrics": {"get": _open("Metrics in the Prometheus text format.", _plain(), "401")},
            "/openapi.json": {"get": _open("This OpenAPI document.", _json())},
            "/webhook": {
                "post": {
                    "summary": "Push webhook of GitHub, GitLab, Gitea, Forgejo or Bitbucket.",
                    "parameters": webhook,
                    "requestBody": {"required": True, "content": _json()},
                    "responses": {
                        "200": {
                            "description": "The deploy is live; or pong, for a ping.",
                            "content": _json(),
                        },
                        "202": _accepted("Ignored, or the deploy has not finished yet."),
                        **_refusals(
                            "400", "401", "403", "408", "409", "413", "422", "429", "500", "503"
                        ),
                    },
                }
            },
            "/api/webhooks": {"get": _api("List webhook deliveries, newest first.", _json(), page)},
            "/api/webhooks/{id}": {
                "get": _api("Show a webhook delivery with headers and body.", _json(), [_ID], "404")
            },
            "/api/webhooks/{id}/replay": {
                "post": _api(
                    "Process the delivery again.",
                    _json(),
                    [_ID, _wait()],
                    "404",
                    "409",
                    "422",
                    "500",
                )
                | {"description": "Responds as /webhook does."}
            },
            "/api/deploys": {
                "get": _api("List deploys, newest first.", _json(), [app, *page]),
                "post": {
                    "summary": "Deploy an app.",
                    "security": [{"token": []}, {}],
                    "requestBody": {"required": True, "content": deploy},
                    "responses": {
                        "202": _accepted("The deploy is queued."),
                        **_refusals(*_API, "408", "409", "413", "415", "422", "503"),
                    },
                },
            },
            "/api/deploys/{id}": {
                "get": _api("Show a deploy with its steps.", _json(), [_ID], "404")
            },
            "/api/deploys/{id}/log": {
                "get": _api(
                    "Log of the deploy so far.",
                    {**_plain(), "application/x-ndjson": {"schema": {"type": "string"}}},
                    [_ID, after],
                    "404",
                )
            },
            "/api/deploys/{id}/cancel": {
                "post": _api(
                    "Cancel the deploy, unless its routes are switched.",
                    _json(),
                    [_ID],
                    "404",
                    "409",
                )
            },
            "/api/apps": {"get": _api("List apps by name.", _json())},
            "/api/apps/{name}": {
                "get": _api("Show an app.", _json(), [_NAME], "404"),
                "delete": _api(
                    "Remove the app: its routes, containers and images.",
                    _json(),
                    [_NAME],
                    "404",
                    "409",
                    "503",
                ),
            },
            "/api/stats": {
                "get": _api(
                    "CPU, memory and network usage of each container.", _json(), None, "503"
                )
            },
            "/api/ws/logs": {
                "get": _socket(
                    "Follow the output of a container, one line per message.", [container], "503"
                )
            },
            "/api/ws/deploys/{id}/log": {
                "get": _socket(
                    "Follow the log of a deploy until it ends: one JSON object per message, with"
                    " number, time (Unix seconds), step and line.",
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
    location = {"schema": {"type": "string"}, "description": "URL of the deploy."}
    return {"description": summary, "content": _json(), "headers": {"Location": location}}


def _query(name: str, schema: _Object, meaning: str) -> _Object:
    return {"name": name, "in": "query", "schema": schema, "description": meaning}


def _wait() -> _Object:
    schema = {"type": "number", "minimum": 0, "maximum": 30}
    return _query("wait", schema, "Max seconds to wait for the result.")


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

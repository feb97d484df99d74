"""Owns what the OpenAPI document says of the API as a whole."""

from typing import Final

from edge.api.openapi import Api

_APP: Final = {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"}

API: Final = Api(
    title="Fairlead orchestrator",
    description=(
        "Each operation names the scope that its bearer token needs: `fairlead tokens create` makes"
        " tokens, and FAIRLEAD_API_TOKEN is one of an admin. The Unix socket FAIRLEAD_API_SOCKET"
        " needs none."
    ),
    errors={
        400: "Invalid parameter, field or body.",
        401: "Missing or invalid token.",
        403: "The token does not suffice, or a foreign page asks.",
        404: "Not found.",
        408: "The request body was not received in time.",
        409: "Conflict with the current state.",
        413: "The request body is too large.",
        415: "Content-Type is not application/json.",
        422: "Invalid value.",
        429: "Too many webhooks from this address.",
        500: "The deploy failed, or internal error.",
        503: "Database, Docker Engine or orchestrator unavailable.",
    },
    guard_errors=(400, 401, 403),
    path_schemas={
        "id": {"type": "integer", "minimum": 1},
        "name": _APP,
        "to": _APP,
    },
)

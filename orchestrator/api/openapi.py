"""Owns what the OpenAPI document says of the API as a whole."""

from typing import Final

from edge.api.openapi import Api

API: Final = Api(
    title="Fairlead orchestrator",
    description=(
        "/api requires the bearer token: FAIRLEAD_API_TOKEN, or the one in the file .token beside"
        " the database. While FAIRLEAD_API_TOKEN is not set, direct clients on this machine need"
        " none."
    ),
    errors={
        400: "Invalid parameter, field or body.",
        401: "Missing or invalid token.",
        403: "Cross-origin request.",
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
        "name": {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"},
    },
)

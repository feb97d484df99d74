"""Owns what the changes of the admin API have in common: the fields that they take."""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from edge.api.endpoint import Endpoint
from edge.api.openapi import Object, answer, fields_body
from edge.api.permission import Permission
from edge.routing.route import parse_target

# Bytes of a request's body: a few numbers.
MAX_BODY: Final = 16 * 1024
# Seconds that are waited for what a request asks for, at most.
MAX_TIMEOUT: Final = 3600

TARGET: Final[Object] = {
    "type": "string",
    "description": "host:port",
    "examples": ["127.0.0.1:9101"],
}
SECONDS: Final[Object] = {
    "type": "number",
    "minimum": 0,
    "maximum": MAX_TIMEOUT,
    "description": "seconds",
}
VERSION: Final[Object] = {"type": "integer", "minimum": 0}

Fields = Mapping[str, object]


def change(
    path: str,
    permission: Permission,
    apply: Callable[[Fields], Awaitable[Response]],
    summary: str,
    fields: Mapping[str, Object],
    required: Sequence[str] = (),
) -> Endpoint:
    """A POST. `apply` gets what the body has of `fields`, which are JSON Schemas;
    it checks what they say.
    """

    async def handler(request: Request) -> Response:
        return await apply(await _body_fields(request, fields.keys()))

    return Endpoint(
        method="POST",
        path=path,
        permission=permission,
        handler=handler,
        summary=summary,
        body=fields_body(fields, required),
        answers={200: answer("Done.")},
    )


def version_of(fields: Fields) -> int:
    """The field `version`, 0 unless told. Raises HTTPException 400."""
    version = fields.get("version", 0)
    if type(version) is not int or version < 0:
        raise HTTPException(400, "version is not a whole number from 0")
    return version


def seconds_of(fields: Fields, name: str, default: float) -> float:
    """The field `name`. Raises HTTPException 400."""
    value = fields.get(name, default)
    if type(value) not in (int, float) or not 0 <= float(value) <= MAX_TIMEOUT:  # type: ignore[arg-type]
        raise HTTPException(400, f"{name} is not a number of seconds from 0 to {MAX_TIMEOUT}")
    return float(value)  # type: ignore[arg-type]


def target_of(fields: Fields) -> str:
    """The field `target`, which must be there. Raises HTTPException 400, RouteError."""
    target = fields.get("target")
    if not isinstance(target, str):
        raise HTTPException(400, 'the field target is missing: send {"target": "host:port"}')
    return parse_target(target)


async def _body_fields(request: Request, known: Collection[str]) -> Fields:
    """The JSON object in the body; an empty body is an empty object."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY:
            raise HTTPException(413, f"the body is larger than {MAX_BODY} bytes")
    try:
        fields = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError as error:
        raise HTTPException(400, f"the body is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise HTTPException(400, "the body is not a JSON object")
    for name in fields:
        if name not in known:
            possible = ", ".join(sorted(known))
            raise HTTPException(400, f"the field {name!r} is unknown; fields are {possible}")
    return fields

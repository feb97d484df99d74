"""Owns how the orchestrator reads requests and answers them: JSON, errors, bounds.

Every answer that carries text of others passes the masker here.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response

from edge.errors import StoreError
from orchestrator.errors import (
    EngineUnavailableError,
    OrchestratorError,
    RefusedError,
    StepError,
)
from orchestrator.masker import Redactor
from orchestrator.parts import ApiServices

logger = logging.getLogger(__name__)

# Seconds within which a body must be here whole.
BODY_TIMEOUT: Final = 30.0
# Bytes of a body that is too large which are still read, so that the client sees the answer and
# not a reset connection; a sender of more is up to no good.
MAX_DISCARDED_BODY: Final = 32 * 2**20
# Bytes of a JSON body of the API: names and a URL.
MAX_JSON_BODY: Final = 64 * 1024
# Rows that one answer lists at most.
MAX_ROWS: Final = 500

Handler = Callable[[Request], Awaitable[Response]]


class Responses:
    """What the answers of one daemon have in common."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor

    def json(
        self, content: object, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> Response:
        """`content` as JSON, without secrets."""
        return Response(
            orjson.dumps(
                self._redactor.redact_json(content),
                option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS,
            ),
            status_code=status,
            media_type="application/json",
            headers={
                "Cache-Control": "no-store",
                "X-Content-Type-Options": "nosniff",
                **(headers or {}),
            },
        )

    def error(self, reason: str, status: int, headers: Mapping[str, str] | None = None) -> Response:
        """An error, as all of them look."""
        return self.json({"error": reason}, status, headers)

    def from_error(self, error: Exception) -> Response:
        """What a client is told of an error; of an unexpected one nothing but that it happened."""
        if isinstance(error, HTTPException):
            return self.error(str(error.detail), error.status_code, error.headers)
        if isinstance(error, RefusedError):
            return self.error(str(error), error.status)
        if isinstance(error, EngineUnavailableError):
            return self.error(str(error), 503)
        if isinstance(error, StepError):
            return self.error(str(error), 502)
        if isinstance(error, OrchestratorError):
            return self.error(str(error), 500)
        if isinstance(error, StoreError):
            # A full disk, mostly. Whoever reads the answer may be a stranger: no path of ours.
            logger.error("nothing can be stored", extra={"fields": {"err": str(error)}})
            return self.error(
                "the database cannot be used now: the log says why", 503, {"Retry-After": "10"}
            )
        if isinstance(error, ClientDisconnect):
            return Response(status_code=400)  # nobody reads it
        logger.error("a request failed", exc_info=error)
        return self.error("something went wrong here: the log says what", 500)

    def handle_errors(self, handler: Handler) -> Handler:
        """`handler`, whose errors are answered."""

        async def safe(request: Request) -> Response:
            try:
                return await handler(request)
            except Exception as error:
                return self.from_error(error)

        return safe


def require_auth(services: ApiServices, responses: Responses, handler: Handler) -> Handler:
    """`handler` for those who may use the API."""

    async def authorized(request: Request) -> Response:
        refusal = services.auth.check(peer_address(request), request.headers)
        if refusal is not None:
            challenge = {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else None
            return responses.error(refusal.reason, refusal.status, challenge)
        return await handler(request)

    return responses.handle_errors(authorized)


def peer_address(connection: HTTPConnection) -> str:
    """The address at the other end of the connection."""
    return connection.client.host if connection.client else ""


async def read_body(request: Request, most: int) -> bytes:
    """The whole body. Raises HTTPException: 413 over `most` bytes, 408 where it takes too long."""
    too_large = HTTPException(
        413, f"the body is larger than {most} bytes", headers={"Connection": "close"}
    )
    declared = request.headers.get("content-length", "")
    # A client that asks before it sends gets its answer at once (RFC 9110 section 10.1.1).
    if "expect" in request.headers and declared.isdecimal() and int(declared) > most:
        raise too_large
    body = bytearray()
    size = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            async for piece in request.stream():
                size += len(piece)
                if size <= most:
                    body += piece
                elif size > most + MAX_DISCARDED_BODY:
                    break
    except TimeoutError:
        raise HTTPException(
            408, f"the body took longer than {BODY_TIMEOUT:g} s", headers={"Connection": "close"}
        ) from None
    if size > most:
        raise too_large
    return bytes(body)


async def read_json(request: Request, known: set[str]) -> dict[str, str]:
    """The texts of the JSON object in the body. Raises HTTPException 400."""
    # A page can send text/plain, but not JSON, to another origin without being asked (Fetch 2.2.2).
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, "send the body as JSON, with Content-Type: application/json")
    try:
        fields = orjson.loads(await read_body(request, MAX_JSON_BODY))
    except orjson.JSONDecodeError as error:
        raise HTTPException(400, f"the body is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise HTTPException(400, "the body is not a JSON object")
    for name, value in fields.items():
        if name not in known:
            possible = ", ".join(sorted(known))
            raise HTTPException(400, f"the field {name!r} is unknown; possible: {possible}")
        if not isinstance(value, str):
            raise HTTPException(400, f"the field {name!r} is not a text")
    return fields


def parse_query(request: HTTPConnection, known: set[str]) -> dict[str, str]:
    """The parameters of the query. Raises HTTPException 400 for unknown or repeated ones."""
    found: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name not in known:
            possible = ", ".join(sorted(known)) or "none"
            raise HTTPException(400, f"the parameter {name!r} is unknown; possible: {possible}")
        if name in found:
            raise HTTPException(400, f"the parameter {name!r} is there twice")
        found[name] = value
    return found


def parse_number(text: str, name: str, least: int, most: int) -> int:
    """A whole number of the query. Raises HTTPException 400."""
    if not (text.isascii() and text.isdecimal() and len(text) < 19 and least <= int(text) <= most):
        raise HTTPException(400, f"{name} is not a number from {least} to {most}")
    return int(text)


def parse_page(query: Mapping[str, str]) -> dict[str, Any]:
    """Which rows: `limit` (50 unless told) and `before`, an id."""
    before = query.get("before")
    return {
        "limit": parse_number(query.get("limit", "50"), "limit", 1, MAX_ROWS),
        "before": None if before is None else parse_number(before, "before", 1, 2**62),
    }


def path_id(request: HTTPConnection) -> int:
    """The id that the path names. Raises HTTPException 404 where it can be none."""
    text = request.path_params["id"]
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise HTTPException(404, "there is no such id")
    return int(text)

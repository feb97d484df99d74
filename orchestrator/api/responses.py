"""Owns how requests of the API are read and responses made: JSON, errors, limits.

Every response with text of others is redacted here.
"""

import asyncio
import logging
from collections.abc import Collection, Mapping
from typing import Any, Final

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response

from edge.errors import EdgeError, StoreError
from orchestrator.errors import (
    EngineUnavailableError,
    OrchestratorError,
    RefusedError,
    StepError,
)
from orchestrator.security.redact import Redactor

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


class Responses:
    """Builds the responses of the API."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor

    def json(
        self, content: object, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> Response:
        """`content` as JSON, with secrets redacted."""
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
        """The JSON of every error: {"error": reason}."""
        return self.json({"error": reason}, status, headers)

    def from_error(self, error: Exception) -> Response:
        """The response for an error; one that is not ours is a 500 without its text."""
        if isinstance(error, HTTPException):
            return self.error(str(error.detail), error.status_code, error.headers)
        if isinstance(error, RefusedError):
            return self.error(str(error), error.status)
        if isinstance(error, EngineUnavailableError):
            return self.error(str(error), 503)
        if isinstance(error, StepError):
            return self.error(str(error), 502)
        if isinstance(error, OrchestratorError | EdgeError):
            return self.error(str(error), 500)
        if isinstance(error, StoreError):
            # A full disk, mostly. Whoever reads the answer may be a stranger: no path of ours.
            logger.error("database error", extra={"fields": {"err": str(error)}})
            return self.error(
                "database unavailable: see the log of the orchestrator", 503, {"Retry-After": "10"}
            )
        if isinstance(error, ClientDisconnect):
            return Response(status_code=400)  # nobody reads it
        logger.error("internal error while serving a request", exc_info=error)
        return self.error("internal error: see the log of the orchestrator", 500)


def peer_address(connection: HTTPConnection) -> str:
    """The address at the other end of the connection."""
    return connection.client.host if connection.client else ""


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The whole body. Raises HTTPException: 413 over `max_bytes`, 408 where it takes too long."""
    too_large = HTTPException(
        413, f"request body is larger than {max_bytes} bytes", headers={"Connection": "close"}
    )
    declared = request.headers.get("content-length", "")
    # A client that asks before it sends gets its answer at once (RFC 9110 section 10.1.1).
    if "expect" in request.headers and declared.isdecimal() and int(declared) > max_bytes:
        raise too_large
    body = bytearray()
    size = 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            async for piece in request.stream():
                size += len(piece)
                if size <= max_bytes:
                    body += piece
                elif size > max_bytes + MAX_DISCARDED_BODY:
                    break
    except TimeoutError:
        raise HTTPException(
            408,
            f"request body was not received within {BODY_TIMEOUT:g} s",
            headers={"Connection": "close"},
        ) from None
    if size > max_bytes:
        raise too_large
    return bytes(body)


async def read_json(request: Request, known: set[str]) -> dict[str, str]:
    """The texts of the JSON object in the body. Raises HTTPException 400."""
    # A page can send text/plain, but not JSON, to another origin without being asked (Fetch 2.2.2).
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, "unsupported Content-Type: send application/json")
    try:
        fields = orjson.loads(await read_body(request, MAX_JSON_BODY))
    except orjson.JSONDecodeError as error:
        raise HTTPException(400, f"invalid JSON in the request body: {error}") from None
    if not isinstance(fields, dict):
        raise HTTPException(400, "the request body must be a JSON object")
    for name, value in fields.items():
        if name not in known:
            allowed = ", ".join(sorted(known))
            raise HTTPException(400, f"unknown field {name!r}; allowed: {allowed}")
        if not isinstance(value, str):
            raise HTTPException(400, f"field {name!r} must be a string")
    return fields


def check_query(request: HTTPConnection, known: Collection[str]) -> None:
    """Raises HTTPException 400 for parameters of the query that are unknown or repeated."""
    found: set[str] = set()
    for name, _ in request.query_params.multi_items():
        if name not in known:
            allowed = ", ".join(sorted(known)) or "none"
            raise HTTPException(400, f"unknown query parameter {name!r}; allowed: {allowed}")
        if name in found:
            raise HTTPException(400, f"query parameter {name!r} is given twice")
        found.add(name)


def parse_number(text: str, name: str, minimum: int, maximum: int) -> int:
    """A whole number of the query. Raises HTTPException 400."""
    if not (_is_decimal(text) and minimum <= int(text) <= maximum):
        raise HTTPException(400, f"{name} must be a number from {minimum} to {maximum}")
    return int(text)


def _is_decimal(text: str) -> bool:
    """Whether it is a whole number that SQLite can hold."""
    return text.isascii() and text.isdecimal() and len(text) < 19


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
    if not _is_decimal(text):
        raise HTTPException(404, "no such id")
    return int(text)

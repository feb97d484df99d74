"""Owns the responses that the edge makes itself. Pure.

Nothing of the request goes into them but its id, which is the edge's own or a trusted proxy's, and
what TRACE is there to show.
"""

from collections.abc import Sequence
from http import HTTPStatus

import orjson

from edge.wire.request_head import RequestFields

# Those that Python 3.11 still calls by their names from before RFC 9110.
_NEWER_PHRASES = {413: "Content Too Large", 414: "URI Too Long"}


def reason_phrase(status: int) -> str:
    """The standard phrase of a status code (RFC 9110 section 15)."""
    return _NEWER_PHRASES.get(status) or HTTPStatus(status).phrase


def error_body(status: int, detail: str, request_id: str, as_json: bool) -> tuple[bytes, bytes]:
    """The media type and the content of an error response."""
    phrase = reason_phrase(status)
    if as_json:
        content = {
            "status": status,
            "error": phrase,
            "detail": detail,
            "request_id": request_id,
        }
        return b"application/json", orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE)
    text = f"{status} {phrase}: {detail}\nrequest id: {request_id}\n"
    return b"text/plain; charset=utf-8", text.encode()


def response(
    status: int,
    fields: Sequence[bytes],
    request_id_line: bytes,
    content: bytes,
    with_content: bool,
) -> bytes:
    """A whole response; for HEAD, `with_content` is false and only the length remains."""
    head = [
        f"HTTP/1.1 {status} {reason_phrase(status)}".encode("ascii"),
        *fields,
        b"Content-Length: %d" % len(content),
        request_id_line,
    ]
    return b"\r\n".join(head) + (content if with_content else b"")


def trace_content(request_target: bytes, fields: RequestFields) -> bytes:
    """The content of an answer to TRACE (RFC 9110 section 9.3.8).

    It shows where the request went and nothing that it carried: cookies and credentials have no
    business in a response.
    """
    lines = [b"TRACE %b HTTP/1.%d" % (request_target, fields.minor)]
    for name in (b"Host", b"Max-Forwards", b"Via"):
        value = fields.value(name.lower())
        if value:
            lines.append(name + b": " + value)
    return b"\r\n".join([*lines, b"", b""])


def prefers_json(accept: bytes) -> bool:
    """Whether an Accept field ranks JSON above plain text (RFC 9110 section 12.5.1)."""
    json = _quality(accept, b"application/json")
    return json > 0 and json > _quality(accept, b"text/plain")


def _quality(accept: bytes, media_type: bytes) -> float:
    """The weight of the most specific range in `accept` that takes in `media_type`."""
    ranges = {media_type: 3, media_type.partition(b"/")[0] + b"/*": 2, b"*/*": 1}
    best, quality = 0, 0.0
    for member in accept.lower().split(b","):
        media_range, *parameters = (part.strip(b" \t") for part in member.split(b";"))
        rank = ranges.get(media_range, 0)
        if rank > best:
            best, quality = rank, _weight(parameters)
    return quality


def _weight(parameters: Sequence[bytes]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name == b"q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0

"""Owns what a route or a method changes in a request's head on its way to the upstream. Pure."""

import re
from typing import Final

from edge.errors import HttpError
from edge.wire.request_head import RequestFields

# The methods that Max-Forwards is for (RFC 9110 section 7.6.2).
_HOP_LIMITED: Final = (b"OPTIONS", b"TRACE")

_MAX_FORWARDS: Final = re.compile(rb"\r\nMax-Forwards:[^\r]*", re.IGNORECASE)
_AUTHORIZATION: Final = re.compile(rb"\r\nAuthorization:([^\r]*)", re.IGNORECASE)


def rewritten_head(
    method: bytes,
    request_target: bytes,
    section: bytes,
    request_id_line: bytes,
    *,
    max_forwards: bytes | None = None,
    drop_authorization: bool = False,
) -> bytes:
    """The request's head for the upstream, to which the field `section` would go unchanged.

    `max_forwards` is the field's value, counted down for a method that it is for; raises
    `HttpError` 400 if that cannot be done.
    """
    if max_forwards is not None and method in _HOP_LIMITED:
        line = b"\r\nMax-Forwards: %d" % (parse_max_forwards(max_forwards) - 1)
        section = _MAX_FORWARDS.sub(line, section)
    if drop_authorization:
        # The first field is Host, so each of the others has its CRLF before it.
        section = _AUTHORIZATION.sub(b"", section)
    return b"%b %b HTTP/1.1\r\n%b%b" % (method, request_target, section, request_id_line)


def is_last_hop(method: bytes, max_forwards: bytes) -> bool:
    """Whether a request with this Max-Forwards may go no further; raises `HttpError` 400."""
    return method in _HOP_LIMITED and parse_max_forwards(max_forwards) == 0


def parse_max_forwards(value: bytes) -> int:
    """Max-Forwards of OPTIONS and TRACE (RFC 9110 section 7.6.2); raises `HttpError` 400."""
    if not value.isdigit() or len(value) > 9:
        raise HttpError(400, "Max-Forwards is malformed")
    return int(value)


def authorization(fields: RequestFields) -> bytes:
    """The value of Authorization; not by `RequestFields.value`, which takes 5 us."""
    return b",".join(_AUTHORIZATION.findall(fields.raw)).strip(b" \t")

"""Owns response heads: bytes in, their meaning and the fields to forward out. Pure; no I/O.

As with requests, httptools holds the grammar of the field section, and what it lets pass is judged
here. A target that sends the same head again (most do) is compared, not parsed: `ResponseHead.raw`.
"""

import re
from collections.abc import Iterable
from typing import Final

import httptools

from edge.wire import framing
from edge.wire.fields import (
    ILLEGAL,
    KNOWN_OPTIONS,
    NO_CALLBACKS,
    connection_options,
    list_members,
    without,
)
from edge.wire.framing import FramingError

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: ([\t\x20-\x7e\x80-\xff]*))?\r\n")
_PARTIAL_STATUS_LINE = re.compile(rb"HTTP/1\.[01] [1-9][0-9][0-9](?: [\t\x20-\x7e\x80-\xff]*)?\r?")
_SHORTEST_STATUS_LINE: Final = b"HTTP/1.1 200"

_RESPONSE_SPECIAL = re.compile(
    rb"\r\n(?=[ckpstux])(c(?:onnection|ontent-length)|keep-alive|proxy-[^:]*|server"
    rb"|t(?:e|railer|ransfer-encoding)|upgrade|x-request-id):[ \t]*([^\r]*)"
)


class ResponseHead:
    """The meaning of a response head.

    `raw` is the head as it came, of `size` bytes. `fields` is what is forwarded of it: the status
    line and the fields with their CRLFs, without what belongs to the hop, without X-Request-Id,
    which is the edge's own, and without the blank line. `framing_length` is the body's length as
    the fields have it, in bytes, or `CHUNKED` or `UNTIL_CLOSE`. `changed` is what the route that
    asked last makes of `fields`.
    """

    __slots__ = (
        "changed",
        "fields",
        "framing_length",
        "has_date",
        "keep_alive",
        "keep_alive_seconds",
        "passthrough_length",
        "raw",
        "size",
        "status",
        "upgrade",
    )

    def __init__(self, raw: bytes, status: int) -> None:
        self.raw = raw
        self.size = len(raw)
        self.status = status
        self.fields = b""
        # By whom, and to what: for a response that comes again and again.
        self.changed: tuple[object, bytes] | None = None
        self.framing_length = framing.UNTIL_CLOSE
        self.keep_alive = True
        self.keep_alive_seconds: int | None = None
        self.has_date = False
        self.upgrade: tuple[bytes, ...] = ()
        # The common case, made ready: a final response with a Date whose body has a known length.
        # For a client that stays connected, its head is `fields` and the request's id.
        self.passthrough_length = -1

    def __repr__(self) -> str:
        return f"<ResponseHead {self.status} framing_length={self.framing_length}>"

    def length(self, method: bytes) -> int:
        """Length of the body of this response to a `method` request (RFC 9112 section 6.3)."""
        # Step 1.
        if method == b"HEAD" or self.status < 200 or self.status in (204, 304):
            return 0
        return self.framing_length


def check_incomplete_response(data: bytes, max_head: int) -> None:
    """Refuse what can be refused before a response head is complete; raises `FramingError`."""
    line_end = data.find(b"\r\n")
    if line_end >= 0:
        good = _STATUS_LINE.match(data) is not None
    elif len(data) <= len(_SHORTEST_STATUS_LINE):
        # Too short for a pattern: is it the beginning of some status line?
        good = _PARTIAL_STATUS_LINE.fullmatch(data + _SHORTEST_STATUS_LINE[len(data) :]) is not None
    else:
        good = _PARTIAL_STATUS_LINE.fullmatch(data) is not None
    if not good:
        raise FramingError("invalid status line")
    if ILLEGAL.search(data):
        raise FramingError("invalid character in the head")
    if len(data) > max_head:
        raise FramingError("head too large")


def parse_response_head(raw: bytes, max_fields: int, hide_server: bool) -> ResponseHead:
    """Judge a response head, from the status line to the blank line.

    Raises `FramingError` (the upstream's fault: 502). How long the body is depends on the request
    too, and is asked of `ResponseHead.length`.
    """
    status_line = _STATUS_LINE.match(raw)
    if status_line is None:
        raise FramingError("invalid status line")
    if raw.count(b"\n") - 2 > max_fields:
        raise FramingError("too many header fields")
    try:
        httptools.HttpResponseParser(NO_CALLBACKS).feed_data(raw)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        raise FramingError("malformed head") from None

    minor, status, reason = status_line.groups()
    head = ResponseHead(raw, int(status))
    is_1_1 = minor == b"1"
    # No content, so no length either, whatever the field says (RFC 9110 section 8.6).
    lengthless = head.status < 200 or head.status == 204
    # The version is the edge's own (RFC 9110 section 6.2), and the space before the reason is not
    # optional (RFC 9112 section 4).
    kept: list[bytes] = [b"HTTP/1.1 %b %b" % (status, reason or b"")]
    kept_to = 0
    found: dict[bytes, list[bytes]] = {}
    fields = raw[status_line.end() - 2 :]
    lower = fields.lower()
    for special in _RESPONSE_SPECIAL.finditer(lower):
        name = special[1]
        start, end = special.span(2)
        found.setdefault(name, []).append(fields[start:end].rstrip(b" \t"))
        if (name == b"server" and not hide_server) or (
            name == b"content-length" and not lengthless
        ):
            continue
        if name == b"upgrade" and head.status == 426:
            # The one response whose Upgrade is for the client to read (RFC 9110 section 15.5.22).
            continue
        kept.append(fields[kept_to : special.start()])
        kept_to = end
    kept.append(fields[kept_to:-2])
    if head.status == 426 and b"upgrade" in found:
        kept.append(b"Connection: upgrade\r\n")
    head.fields = b"".join(kept)
    head.has_date = b"\r\ndate:" in lower
    head.framing_length = framing.response_length(
        found.get(b"transfer-encoding", ()), found.get(b"content-length", ()), is_1_1
    )

    options = connection_options(b",".join(found.get(b"connection", ())))
    if options is None:
        raise FramingError("malformed Connection field")
    head.keep_alive = b"close" not in options and (is_1_1 or b"keep-alive" in options)
    if options - KNOWN_OPTIONS:
        head.fields = without(head.fields, options - KNOWN_OPTIONS - {b"content-length"})
        head.has_date = head.has_date and b"date" not in options
    if b"upgrade" in found:
        head.upgrade = tuple(list_members(found[b"upgrade"]))
    if b"keep-alive" in found:
        head.keep_alive_seconds = _keep_alive_timeout(found[b"keep-alive"])
    length = head.length(b"GET")
    if head.status >= 200 and length >= 0 and head.has_date:
        head.passthrough_length = length
    return head


def _keep_alive_timeout(values: Iterable[bytes]) -> int | None:
    """Seconds in `timeout=N` of a Keep-Alive field (RFC 2068 section 19.7.1); None if unsaid."""
    for parameter in list_members(values):
        name, _, seconds = parameter.partition(b"=")
        if name.lower() == b"timeout" and seconds.isdigit() and len(seconds) <= 6:
            return int(seconds)
    return None

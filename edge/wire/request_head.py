"""Owns request heads: bytes in, their meaning and the fields to forward out. Pure; no I/O.

A head is judged twice. httptools (llhttp, strict) holds the grammar of the field section; what it
lets pass (it knows nothing of Host, of HTTP/1.0, of what a proxy must not forward) is refused
here. The request line is not shown to httptools, because it refuses methods it has not heard of.

The field section is read apart from the request line, so that a connection which sends the same
fields again (most do) can compare instead of parse: `RequestFields.raw`.
"""

import re
from typing import Final

import httptools

from edge.errors import HttpError
from edge.hosts import parse_authority
from edge.wire import framing
from edge.wire.fields import (
    ILLEGAL,
    KNOWN_OPTIONS,
    NO_CALLBACKS,
    TOKEN,
    TOKEN_CHARS,
    connection_options,
    list_members,
    without,
)
from edge.wire.framing import FramingError

# RFC 9112 section 3: one space on each side; a target of visible ASCII without `#`, which has no
# business on the wire; exactly these two versions.
match_request_line = re.compile(
    rb"([" + TOKEN_CHARS + rb"]+) ([\x21\x22\x24-\x7e]+) HTTP/1\.([01])\r\n"
).match
_OTHER_VERSION = re.compile(
    rb"[" + TOKEN_CHARS + rb"]+ [\x21\x22\x24-\x7e]+ HTTP/(?!1\.[01]\r\n)[0-9]\.[0-9]\r\n"
)

_ABSOLUTE_FORM = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?]*)(.*)")

# The fields that a proxy has to look at, in a section in lower case. `_` counts as `-`, because CGI
# and WSGI read both as one name. The look-ahead spares the alternatives for most fields (2.7 us
# without it, 1.4 with it). `Proxy` is no field at all: CGI turns it into HTTP_PROXY (httpoxy,
# CVE-2016-5385). `HTTP2-Settings` belongs to the h2c upgrade.
_REQUEST_SPECIAL = re.compile(
    rb"\r\n(?=[cefhkmptuvx])(c(?:onnection|ontent[-_]length)|expect|forwarded"
    rb"|h(?:ost|ttp2[-_]settings)|keep[-_]alive|max[-_]forwards"
    rb"|proxy(?:[-_]authorization|[-_]connection)?|t(?:e|railer|ransfer[-_]encoding)|upgrade|via"
    rb"|x[-_](?:forwarded[-_][^:]*|re(?:al[-_]ip|quest[-_]id))):[ \t]*([^\r]*)"
)

# What a Connection field cannot take away unnoticed (RFC 9110 section 7.6.1: an attack, or a
# mistake that looks like one).
_END_TO_END: Final = frozenset(
    (
        b"content-length",
        b"expect",
        b"forwarded",
        b"host",
        b"max-forwards",
        b"transfer-encoding",
        b"via",
        b"x-real-ip",
        b"x-request-id",
    )
)
_X_FORWARDED: Final = b"x-forwarded-"
# Dropped whoever sent them: what belongs to the hop (RFC 9110 sections 7.6.1 and 11.7.2).
_REQUEST_HOP_BY_HOP: Final = frozenset(
    (
        b"http2-settings",
        b"keep-alive",
        b"proxy",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
    )
)

# Bytes of a request line beside its target: the method, the version and two spaces.
REQUEST_LINE_OVERHEAD: Final = 64


class RequestFields:
    """The meaning of a request's field section.

    `raw` is the section as it came, from the CRLF that ends the request line to the blank line.
    `authority` is what the client asked for, `host` what that is routed by.
    `end_to_end` are the fields to forward as they came, each with its CRLF before it, without those
    that the edge sets itself: Host, the forwarding fields, Via, X-Request-Id, what frames a chunked
    body, and what belongs to the hop. `forwarded` are the values of the forwarding fields, Via and
    X-Request-Id, by name.
    """

    __slots__ = (
        "authority",
        "default_handling",
        "end_to_end",
        "expects_continue",
        "forwarded",
        "host",
        "keep_alive",
        "length",
        "max_forwards",
        "minor",
        "raw",
        "upgrade",
        "user_agent",
    )

    def __init__(self, raw: bytes, minor: int) -> None:
        self.raw = raw
        self.minor = minor
        self.authority = b""
        self.host = ""
        self.length = 0
        self.end_to_end = b""
        self.forwarded: dict[bytes, list[bytes]] = {}
        self.upgrade: tuple[bytes, ...] = ()
        self.user_agent: bytes | None = None  # for the access log, once that has asked
        self.keep_alive = True
        self.expects_continue = False
        self.max_forwards: bytes | None = None
        # Nothing about the request bears on how its response is sent.
        self.default_handling = False

    def __repr__(self) -> str:
        return f"<RequestFields host={self.host!r} length={self.length}>"

    def value(self, name: bytes) -> bytes:
        """The values of the field `name` (lower case), joined as one list; empty if absent."""
        values = []
        for line in self.raw.split(b"\r\n"):
            field, _, value = line.partition(b":")
            if field.lower() == name:
                values.append(value.strip(b" \t"))
        return b", ".join(values)


def check_incomplete_head(data: bytes, scanned: int, max_target: int, max_head: int) -> None:
    """Refuse what can be refused before a request head is complete.

    `data` begins with the request line; its first `scanned` bytes were looked at before. Raises
    `HttpError`: 414 before 431, because the target is the smaller limit.
    """
    line_end = data.find(b"\r\n")
    if line_end < 0:
        # The target is not over yet.
        if len(data) > max_target + REQUEST_LINE_OVERHEAD:
            raise HttpError(414, "the request target is too long")
    elif match_request_line(data) is None:
        raise bad_request_line(data[: line_end + 2], max_target)
    if ILLEGAL.search(data, max(0, scanned - 2)):
        raise HttpError(400, "the request head contains an invalid character")
    if len(data) > max_head:
        raise HttpError(431, "the request head is too large")


def bad_request_line(line: bytes, max_target: int) -> HttpError:
    """The error that fits a complete request line which `match_request_line` does not take."""
    if len(line) - 2 > max_target + REQUEST_LINE_OVERHEAD:
        return HttpError(414, "the request target is too long")
    if _OTHER_VERSION.fullmatch(line):
        return HttpError(505, "only HTTP/1.1 and HTTP/1.0 are supported")
    return HttpError(400, "the request line is malformed")


def split_absolute_form(target: bytes, method: bytes) -> tuple[bytes, bytes] | None:
    """The authority and the origin-form of a target in absolute-form; None if it is not in it.

    RFC 9112 sections 3.2.2 and 3.2.4: OPTIONS without path and query asks about the whole server.
    """
    match = _ABSOLUTE_FORM.fullmatch(target)
    if match is None:
        return None
    authority, path = match.groups()
    if not path and method == b"OPTIONS":
        return authority, b"*"
    return authority, path if path.startswith(b"/") else b"/" + path


def parse_request_fields(raw: bytes, minor: int, max_fields: int) -> RequestFields:
    """Judge the field section of an HTTP/1.`minor` request.

    Raises `HttpError`: 400 for whatever is doubtful, 417 for an unknown expectation, 431 for too
    many fields.
    """
    if raw.count(b"\n") - 2 > max_fields:
        raise HttpError(431, "the request has too many header fields")
    try:
        httptools.HttpRequestParser(NO_CALLBACKS).feed_data(b"GET / HTTP/1.1" + raw)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        raise HttpError(400, "the request head is malformed") from None

    fields = RequestFields(raw, minor)
    kept: list[bytes] = []
    kept_to = 0
    found: dict[bytes, list[bytes]] = {}
    for special in _REQUEST_SPECIAL.finditer(raw.lower()):
        name = special[1]
        if b"_" in name:
            name = name.replace(b"_", b"-")
            if name in _FRAMING_FIELDS:
                raise HttpError(400, "a Content-Length or Transfer-Encoding field is misspelled")
            misspelled = True
        else:
            misspelled = False
        start, end = special.span(2)
        if not misspelled:
            found.setdefault(name, []).append(raw[start:end].rstrip(b" \t"))
        if name in _KEPT and (minor or name != b"expect"):
            continue
        kept.append(raw[kept_to : special.start()])
        kept_to = end
    kept.append(raw[kept_to:-4])
    fields.end_to_end = b"".join(kept)

    hosts = found.pop(b"host", ())
    if len(hosts) != 1:
        raise HttpError(400, "the request must have exactly one Host field")
    fields.authority = hosts[0]
    fields.host = parse_authority(hosts[0])
    if found and (found != _KEEPS_ALIVE or not minor):
        _interpret_special(fields, found)
    else:
        fields.keep_alive = minor == 1
    fields.default_handling = fields.keep_alive and minor == 1 and not fields.upgrade
    return fields


# What browsers say beside Host, although it is the default: 1 us less for each of their requests.
_KEEPS_ALIVE: Final = {b"connection": [b"keep-alive"]}
# Forwarded where they stand.
_KEPT: Final = frozenset((b"content-length", b"expect", b"max-forwards"))
# A spelling with `_` of these is never innocent.
_FRAMING_FIELDS: Final = frozenset((b"content-length", b"transfer-encoding"))


def _interpret_special(fields: RequestFields, found: dict[bytes, list[bytes]]) -> None:
    """What the fields in `found` (values by name) mean for `fields`; raises `HttpError`."""
    minor = fields.minor
    try:
        fields.length = framing.request_length(
            found.pop(b"transfer-encoding", ()), found.pop(b"content-length", ()), minor
        )
    except FramingError as error:
        raise HttpError(400, f"the request body's length is ambiguous: {error}") from None
    expectations = found.pop(b"expect", ())
    # RFC 9110 section 10.1.1: an expectation in HTTP/1.0 is ignored, so it ends here.
    if expectations and minor:
        if len(expectations) != 1 or expectations[0].lower() != b"100-continue":
            raise HttpError(417, "the only supported expectation is 100-continue")
        fields.expects_continue = True
    max_forwards = found.pop(b"max-forwards", ())
    if max_forwards:
        # Only TRACE and OPTIONS have to understand it (RFC 9110 section 7.6.2): judged there.
        fields.max_forwards = b",".join(max_forwards)
    options = connection_options(b",".join(found.pop(b"connection", ())))
    if options is None:
        raise HttpError(400, "the Connection field is malformed")
    fields.keep_alive = b"close" not in options and (minor == 1 or b"keep-alive" in options)
    if options - KNOWN_OPTIONS:
        _remove_connection_fields(fields, options - KNOWN_OPTIONS)
    upgrade = found.pop(b"upgrade", ())
    # RFC 9110 section 7.8: from HTTP/1.0 it is ignored; h2c would tunnel past every rule here. A
    # request with a body stays an ordinary one: its end and the tunnel's begin are too easily
    # taken for each other.
    if upgrade and b"upgrade" in options and minor and not fields.length:
        fields.upgrade = tuple(
            protocol for protocol in list_members(upgrade) if protocol.lower() != b"h2c"
        )
        if not all(TOKEN.fullmatch(part) for p in fields.upgrade for part in p.split(b"/", 1)):
            raise HttpError(400, "the Upgrade field is malformed")
    fields.forwarded = {
        name: values for name, values in found.items() if name not in _REQUEST_HOP_BY_HOP
    }


def _remove_connection_fields(fields: RequestFields, named: frozenset[bytes]) -> None:
    canonical = {name.replace(b"_", b"-") for name in named}
    if canonical & _END_TO_END or any(name.startswith(_X_FORWARDED) for name in canonical):
        raise HttpError(400, "the Connection field names an end-to-end field")
    fields.end_to_end = without(fields.end_to_end, canonical)

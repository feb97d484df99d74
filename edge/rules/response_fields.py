"""Owns what a route changes in the fields of its responses: which are set, which are removed. Pure.

What frames a message, belongs to the hop or is the edge's own duty stays out of a route's reach.
"""

import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    # Commands about routes know these rules, and need not load a parser.
    from edge.wire.response_head import ResponseHead

MAX_NAME: Final = 100  # characters
MAX_VALUE: Final = 8192  # characters; the policies of large sites have 4,000

_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# RFC 9110 section 5.5, without the octets above ASCII, whose meaning nobody can tell.
_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")

_RESERVED: Final = frozenset(
    (
        "connection",
        "content-length",
        "date",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-request-id",
    )
)
# What is said of the target's content, or of how long it may be kept, is not true of an error that
# the edge makes: an error that caches keep for a year would be the worse one. Content-*, too.
_OF_CONTENT: Final = frozenset(
    (
        "accept-ranges",
        "age",
        "cache-control",
        "cdn-cache-control",
        "etag",
        "expires",
        "last-modified",
        "location",
        "surrogate-control",
    )
)
_POLICIES: Final = frozenset(("content-security-policy", "content-security-policy-report-only"))


def name_error(name: str) -> str:
    """Why a route may not set or remove the field `name`, as the end of a sentence; "" if it may.

    `_` counts as `-`, as it does for servers behind CGI.
    """
    if len(name) > MAX_NAME:
        return f"is longer than {MAX_NAME} characters"
    if not _TOKEN.fullmatch(name):
        return "is not a field name: write letters, digits and -, such as X-Frame-Options"
    known = name.lower().replace("_", "-")
    if known in _RESERVED or known.startswith("proxy-"):
        return "cannot be changed by a route: the edge itself manages it"
    return ""


def value_error(value: str) -> str:
    """Why `value` cannot be that of a field, as the end of a sentence; "" if it can."""
    if len(value) > MAX_VALUE:
        return f"has a value longer than {MAX_VALUE} characters"
    if not _VALUE.fullmatch(value):
        return "has a value with a line break, a control character or a non-ASCII character"
    return ""


class ResponseFields:
    """The changes that one route makes; `local_reply_lines` are the lines for local replies."""

    __slots__ = ("_lines", "_removed", "local_reply_lines")

    def __init__(self, given: Mapping[str, str], removed: Collection[str]) -> None:
        lines = {name: f"{name}: {value}".encode("ascii") for name, value in given.items()}
        names = b"|".join(re.escape(name.encode("ascii")) for name in [*given, *removed])
        self._removed = re.compile(rb"\r\n(?:%b):[^\r]*" % names, re.IGNORECASE)
        self._lines = b"".join(line + b"\r\n" for line in lines.values())
        self.local_reply_lines = tuple(
            line for name, line in lines.items() if _fits_local_replies(name.lower())
        )

    def apply(self, head: "ResponseHead") -> bytes:
        """The status line and the fields of `head`, changed. Worked out once for one head."""
        if head.changed is None or head.changed[0] is not self:
            head.changed = (self, self._removed.sub(b"", head.fields) + self._lines)
        return head.changed[1]


def _fits_local_replies(name: str) -> bool:
    return name in _POLICIES or not (name in _OF_CONTENT or name.startswith("content-"))

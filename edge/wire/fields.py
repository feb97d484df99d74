"""Owns what the field sections of requests and responses have in common. Pure; no I/O."""

import re
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Final

TOKEN_CHARS: Final = rb"!#$%&'*+\-.^_`|~0-9A-Za-z"
TOKEN: Final = re.compile(rb"[" + TOKEN_CHARS + rb"]+")

# What no head may hold, looked for while it is still incomplete: a client that ends its lines with
# a bare LF would otherwise wait for the head timeout to learn so (RFC 9112 section 2.2).
ILLEGAL: Final = re.compile(rb"(?<!\r)\n|\r(?!\n|\Z)|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r\n[ \t]")

NO_CALLBACKS: Final = object()  # a protocol without callbacks: httptools then calls none

KNOWN_OPTIONS: Final = frozenset((b"close", b"keep-alive", b"upgrade"))


# Nearly every message says one of a handful of values; a client that invents others only empties
# the cache.
@lru_cache(maxsize=256)
def connection_options(value: bytes) -> frozenset[bytes] | None:
    """The options in a Connection field, in lower case; None if one is not a token."""
    options = frozenset(option.lower() for option in list_members([value]))
    return options if all(map(TOKEN.fullmatch, options)) else None


def list_members(values: Iterable[bytes]) -> list[bytes]:
    """The members of a field that is a list, in however many lines it came (RFC 9110 5.6.1)."""
    return [
        member for value in values for part in value.split(b",") if (member := part.strip(b" \t"))
    ]


def without(kept: bytes, names: Collection[bytes]) -> bytes:
    """The lines in `kept` (each with its CRLF before it) that are not called any of `names`."""
    first, *lines = kept.split(b"\r\n")
    lines = [
        line for line in lines if line.partition(b":")[0].lower().replace(b"_", b"-") not in names
    ]
    return b"\r\n".join([first, *lines])

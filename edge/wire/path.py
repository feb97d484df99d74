"""Owns the path of a request: its normal form, and how else an application may read it. Pure.

Two spellings of one path (`/admin` and `//x/../%61dmin`) must not pass for two. What RFC 3986
section 6.2.2 calls equivalent has one normal form. The rest depends on who reads: to some, `%2F`
and a backslash are slashes, `;` begins parameters that are not part of the name, and what was
encoded twice is decoded twice. `boldest_readings` are those of applications that do all of it.
"""

import re
from collections.abc import Mapping
from typing import Final

from edge.errors import HttpError

# Nothing in it could be read in another way; the query is not looked at. `*` is that of OPTIONS.
# One search for a bad byte would take as long, and could not stop at the query.
is_clean = re.compile(
    rb"\*\Z|(?:/(?!/|\.\.?(?:[/?]|\Z))[^/?%;\\]*+)++(?:\?|\Z)",
).match

# As the client may write them: RFC 3986 section 6.2.2.2 decodes unreserved characters first.
has_dot_segments = re.compile(rb"/(?:\.|%2[Ee]){1,2}(?:/|\Z)").search

_UNRESERVED: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
_HEX: Final = "0123456789ABCDEFabcdef"
# What a `%` with the two digits behind it stands for, by the digits.
_DECODED: Final = {
    (high + low).encode(): bytes.fromhex(high + low) for high in _HEX for low in _HEX
}
_NORMALIZED: Final = {
    digits: byte if byte in _UNRESERVED else b"%" + digits.upper()
    for digits, byte in _DECODED.items()
    if byte != b"\0"  # it ends a string in C, and no path has it
}
_DECODED_BUT_SLASHES: Final = {
    digits: b"_" if byte in b"/\\" else byte for digits, byte in _DECODED.items()
}

_SLASHES: Final = re.compile(rb"//+")
_AMBIGUOUS_BYTE: Final = re.compile(rb"[%;\\]")
# A `%` that is itself encoded, however many times, before what it then escapes.
_ENCODED_AGAIN: Final = re.compile(rb"%(?:25)+(?=[0-9A-Fa-f]{2})")
_PARAMETERS: Final = re.compile(rb";[^/]*")
# A dot segment that only shows now; NUL; UTF-8 that is longer than need be (RFC 3629 section 3),
# which hides `.` and `/` from whoever compares bytes.
_NEVER_MEANT: Final = re.compile(
    rb"/\.\.?(?:[/?#]|\Z)|\0|[\xc0\xc1][\x80-\xbf]|\xe0[\x80-\x9f][\x80-\xbf]"
    rb"|\xf0[\x80-\x8f][\x80-\xbf]"
)
_END: Final = re.compile(rb"[?#].*", re.DOTALL)


def normalize(path: bytes, merge_slashes: bool = True) -> bytes:
    """The normal form of a path without its query (RFC 3986 section 6.2.2).

    Unreserved characters are decoded, other escapes get capital digits, dot segments are resolved.
    Raises `HttpError` 400 for an invalid escape, for `%00`, for a path that climbs above the root
    (as nginx does), and where it matters whether slashes are merged before dot segments are
    resolved (nginx) or after it (Envoy).
    """
    try:
        decoded = _decode(path, _NORMALIZED)
    except KeyError:
        raise HttpError(400, "the path has an invalid escape") from None
    resolved = _resolve(decoded)
    if not merge_slashes or b"//" not in decoded:
        return resolved
    merged = _resolve(_SLASHES.sub(b"/", decoded))
    if merged != _SLASHES.sub(b"/", resolved):
        raise ambiguous_path()
    return merged


def normalize_target(target: bytes, merge_slashes: bool = True) -> bytes:
    """As `normalize`, for a target in origin-form with its query, or `*`."""
    if is_clean(target):
        return target
    path, mark, query = target.partition(b"?")
    return normalize(path, merge_slashes) + mark + query


def boldest_readings(path: bytes, escaped_slashes: bool = True) -> tuple[bytes, ...]:
    """What applications may read that decode a path in normal form as far as it goes.

    One with the parameters of its segments and one without. `escaped_slashes`: `%2F` and `%5C` are
    taken for slashes. Whoever decodes less sees some of these slashes and no others, so every
    prefix of segments that he finds is found here too, for there are no dot segments that could
    take a segment back. Raises `HttpError` 400 if there are, or bytes that no text holds.
    """
    if not _AMBIGUOUS_BYTE.search(path):
        return (path,)
    table = _DECODED if escaped_slashes else _DECODED_BUT_SLASHES
    whole = _decode(_ENCODED_AGAIN.sub(b"%", path), table).replace(b"\\", b"/")
    bare = _PARAMETERS.sub(b"", whole)
    if _NEVER_MEANT.search(whole) or _NEVER_MEANT.search(bare):
        raise ambiguous_path()
    return _END.sub(b"", whole), _END.sub(b"", bare)


def merge_slashes(path: bytes) -> bytes:
    """`path` with one slash for several in a row."""
    return _SLASHES.sub(b"/", path)


def strip_prefix(target: bytes, prefix: bytes) -> bytes:
    """What is left of a target, or path, that begins with `prefix`.

    It never begins with two slashes, or with what browsers take for that: it would be the authority
    of a relative reference (RFC 3986 section 4.2), wherever the upstream repeats it.
    """
    return b"/" + target[len(prefix) :].lstrip(b"/\\")


def ambiguous_path() -> HttpError:
    """The error for a path that means one thing to the edge, and may mean another to a target."""
    return HttpError(400, "the path can be read in more than one way")


def _decode(path: bytes, table: Mapping[bytes, bytes]) -> bytes:
    """`path` with its escapes by `table`; raises KeyError for one that is not in it."""
    start, *escapes = path.split(b"%")
    return start + b"".join([table[text[:2]] + text[2:] for text in escapes])


def _resolve(path: bytes) -> bytes:
    """`path` without dot segments (RFC 3986 section 5.2.4)."""
    if b"/." not in path:
        return path
    kept: list[bytes] = []
    segments = path.split(b"/")[1:]
    for segment in segments:
        if segment == b"..":
            if not kept:
                raise HttpError(400, "the path climbs above the root")
            kept.pop()
        elif segment != b".":
            kept.append(segment)
    if segments[-1] in (b".", b".."):
        kept.append(b"")
    return b"/" + b"/".join(kept)

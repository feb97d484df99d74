"""Owns the cookie by which a client comes back to the same target. Pure.

Its value is a hash, so that a client learns no address from it; the domain of the route is part of
it, so that the cookies of two routes of one host are never taken for each other.
"""

import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

NAME: Final = "fairlead"

_VALUE_BYTES: Final = 8
_COOKIE: Final = re.compile(
    rb"(?:^|[;,])[ \t]*%b=([0-9a-f]{%d})[ \t]*(?=[;,]|$)" % (NAME.encode(), 2 * _VALUE_BYTES)
)


def cookie_value(domain: str, address: str, secret: str) -> bytes:
    """What stands for the target `address` of the route `domain`, the same in every process."""
    key = blake2b(secret.encode()).digest() if secret else b""
    text = f"{domain}\0{address}".encode()
    return blake2b(text, digest_size=_VALUE_BYTES, key=key).hexdigest().encode()


def cookie_line(value: bytes, prefix: bytes) -> bytes:
    """The Set-Cookie field, with its CRLF. It holds until the browser is closed.

    The path is the one that the client knows, whatever the target gets: a prefix of a route is
    matched as the path of a cookie is (RFC 6265 section 5.1.4), but a semicolon would end it.
    """
    path, semicolon, _ = prefix.partition(b";")
    if semicolon:
        path = path[: path.rfind(b"/")]
    return b"Set-Cookie: %b=%b; Path=%b; HttpOnly; SameSite=Lax\r\n" % (
        NAME.encode(),
        value,
        path or b"/",
    )


def cookie_values(cookies: bytes) -> Sequence[bytes]:
    """Those of a Cookie field that can be ours, the closest path first (RFC 6265 section 5.4)."""
    return _COOKIE.findall(cookies)

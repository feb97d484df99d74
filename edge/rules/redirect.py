"""Owns where a redirect leads: what `--redirect` may say, and the Location made of it. Pure."""

import re
from ipaddress import ip_address
from typing import Final, NamedTuple

from edge.errors import ConfigError, RouteError
from edge.settings.syntax import parse_address

_TARGET: Final = re.compile(r"(https?)://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
_PORT: Final = re.compile(r":[0-9]*$")
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
# Visible ASCII that no URI may hold (RFC 3986 section 2). Clients send it all the same; other
# characters do not get this far, CR and LF least of all.
_NOT_IN_A_URI: Final = re.compile(rb'["<>\\^`{|}]')


class Redirect(NamedTuple):
    """A scheme, and a host and port that replace those of the request if there are any."""

    scheme: str
    host: str  # empty: that of the request
    port: int  # of the host; the scheme's own where none was named

    def __str__(self) -> str:
        return f"{self.scheme}://{self._authority(self.host) if self.host else ''}"

    def leads_back(self, scheme: bytes, host: str, authority: bytes) -> bool:
        """Whether a request that came by `scheme` for `authority` would be sent where it is."""
        if scheme.decode("latin-1").lower() != self.scheme:
            return False
        return not self.host or (host == self.host and self._port_of(authority) == self.port)

    def location(self, host: str, target: bytes) -> bytes:
        """The Location for a request to `host` (valid, without port) and its target."""
        path = b"" if target == b"*" else _NOT_IN_A_URI.sub(_encoded, target)
        authority = self._authority(self.host) if self.host else host
        return f"{self.scheme}://{authority}".encode("ascii") + path

    def _authority(self, host: str) -> str:
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def _port_of(self, authority: bytes) -> int:
        _, colon, port = authority.rpartition(b":")
        return int(port) if colon and port.isdigit() else _DEFAULT_PORTS[self.scheme]


def parse_redirect(text: str) -> Redirect:
    """`https://`, `http://other.test` or `https://other.test:8443`; a slash may follow.

    Raises RouteError with the end of a sentence about it.
    """
    match = _TARGET.fullmatch(text)
    if match is None:
        raise RouteError("does not begin with https:// or http://: write https://other.test")
    scheme, authority, rest = match[1].lower(), match[2], match[3]
    if rest not in ("", "/"):
        raise RouteError("has a path: leave it out, the request's path and query are kept")
    if not authority:
        return Redirect(scheme, "", _DEFAULT_PORTS[scheme])
    named = authority if _PORT.search(authority) else f"{authority}:{_DEFAULT_PORTS[scheme]}"
    try:
        host, port = parse_address(named)
    except ConfigError:
        raise _no_host() from None
    host = host.lower().removesuffix(".")
    if not host or not host.isascii() or ".." in host or "%" in host:
        raise _no_host()
    if ":" in host:
        host = f"[{ip_address(host)}]"
    return Redirect(scheme, host, port)


def _no_host() -> RouteError:
    return RouteError("has no valid host: write https:// alone or https://other.test")


def _encoded(match: re.Match[bytes]) -> bytes:
    return b"%%%02X" % match[0][0]

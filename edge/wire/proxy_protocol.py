"""Owns the PROXY header, versions 1 and 2: bytes in, the client's address out. Pure.

A proxy that passes TCP on and speaks no HTTP says in it who the client is, before the first byte of
the connection. The rules are those of haproxy's doc/proxy-protocol.txt.
"""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from edge.hosts import unmapped

# The longest line of version 1, with its CRLF (section 2.1: 107 bytes, UNKNOWN included).
MAX_LINE: Final = 107
# Bytes of a header of version 2. Addresses take 216 at most; the rest are TLVs, of which the
# certificate names of a TLS client are the largest in use.
MAX_BINARY: Final = 4096

_SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED: Final = 16  # bytes of version 2 before the addresses
_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6 = 0x11, 0x21
# Bytes of both addresses and ports, by family (the upper half of its byte): none, IPv4, IPv6, Unix.
_ADDRESS_BYTES: Final = (0, 12, 36, 216)
_MAX_TRANSPORT: Final = 2  # the lower half: none, stream, datagram

_PORT = rb"(?:0|[1-9][0-9]{0,4})"
_LINE = re.compile(
    rb"PROXY (?:UNKNOWN(?: [^\r\n]*)?"
    rb"|TCP(?P<family>[46]) (?P<source>[0-9A-Fa-f:.]+) (?P<destination>[0-9A-Fa-f:.]+)"
    rb" (?P<source_port>" + _PORT + rb") (?P<destination_port>" + _PORT + rb"))\r\n"
)
_LINE_PREFIX: Final = b"PROXY "


class ProxyHeaderError(Exception):
    """What came is no PROXY header."""


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """A whole header. Without a `source`, the connection's own address is the client's."""

    size: int  # bytes
    source: str | None


def parse_proxy_header(data: bytes) -> ProxyHeader | None:
    """The header that `data` begins with; None while it is incomplete.

    Raises `ProxyHeaderError` as soon as it can be none.
    """
    if data.startswith(_SIGNATURE[: len(data)]):
        return _binary(data)
    if data.startswith(_LINE_PREFIX[: len(data)]):
        return _line(data)
    raise ProxyHeaderError("the connection does not begin with a PROXY header")


def _line(data: bytes) -> ProxyHeader | None:
    end = data.find(b"\r\n", 0, MAX_LINE) + 2
    if end < 2:
        if len(data) >= MAX_LINE:
            raise ProxyHeaderError("the line is too long")
        if b"\n" in data:
            raise ProxyHeaderError("the line ends with a bare LF")
        return None
    match = _LINE.fullmatch(data, 0, end)
    if match is None:
        raise ProxyHeaderError("the line is malformed")
    if match["family"] is None:
        return ProxyHeader(end, None)
    version = 4 if match["family"] == b"4" else 6
    _checked(match["destination"], version)
    if int(match["source_port"]) > 65535 or int(match["destination_port"]) > 65535:
        raise ProxyHeaderError("a port is out of range")
    return ProxyHeader(end, str(unmapped(_checked(match["source"], version))))


def _checked(text: bytes, version: int) -> IPv4Address | IPv6Address:
    try:
        address = ip_address(text.decode("ascii"))
    except ValueError:
        raise ProxyHeaderError("an address is malformed") from None
    if address.version != version:
        raise ProxyHeaderError("an address is of the wrong family")
    return address


def _binary(data: bytes) -> ProxyHeader | None:
    if len(data) < _FIXED:
        return None
    command, family = data[12], data[13]
    size = _FIXED + int.from_bytes(data[14:16], "big")
    if size > MAX_BINARY:
        raise ProxyHeaderError("the header is too long")
    if command == _LOCAL:
        # The proxy speaks for itself, such as to see whether we are well: what follows is void.
        return ProxyHeader(size, None) if len(data) >= size else None
    if command != _PROXY:
        raise ProxyHeaderError("unknown version or command")
    if family >> 4 >= len(_ADDRESS_BYTES) or family & 15 > _MAX_TRANSPORT:
        raise ProxyHeaderError("unknown address family or transport")
    if size < _FIXED + _ADDRESS_BYTES[family >> 4]:
        raise ProxyHeaderError("the header is too short for its addresses")
    if len(data) < size:
        return None
    if family == _TCP4:
        return ProxyHeader(size, str(unmapped(IPv4Address(data[16:20]))))
    if family == _TCP6:
        return ProxyHeader(size, str(unmapped(IPv6Address(data[16:32]))))
    # Of Unix sockets, datagrams and the unspecified, no address is of use here (section 2.2).
    return ProxyHeader(size, None)

"""Owns the field Forwarded (RFC 7239): its elements, and what a chain of proxies makes of it."""

import re
from collections.abc import Mapping, Sequence
from ipaddress import ip_address

from edge.wire.fields import list_members

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_QUOTED = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t \x21-\x7e\x80-\xff])*"'
_PAIR = _TOKEN + rb"=(?:" + _TOKEN + rb"|" + _QUOTED + rb")"
_ELEMENT = _PAIR + rb"(?:[ \t]*;[ \t]*" + _PAIR + rb")*"
_WELL_FORMED = re.compile(_ELEMENT + rb"(?:[ \t]*,[ \t]*" + _ELEMENT + rb")*")
_PLAIN = re.compile(_TOKEN)
_TO_ESCAPE = re.compile(rb'["\\]')


def element(address: str, host: bytes, proto: bytes) -> bytes:
    """What one proxy says: who asked it, for which host, over which protocol."""
    return b"for=%b;host=%b;proto=%b" % (_node(address), _value(host), _value(proto))


def earlier_elements(said: Mapping[bytes, Sequence[bytes]]) -> list[bytes]:
    """What the proxies before said, by the fields of a trusted one (names in lower case).

    A Forwarded that is malformed is dropped: an open quote in it would swallow what is appended.
    Without a sound one, X-Forwarded-For is read in its place (RFC 7239 section 7.4), so that the
    client is not lost behind a proxy that speaks the older fields only.
    """
    listed = b", ".join(value for value in said.get(b"forwarded", ()) if value)
    if _WELL_FORMED.fullmatch(listed):
        return [listed]
    elements = [
        b"for=" + _node(address.decode("latin-1"))
        for address in list_members(said.get(b"x-forwarded-for", ()))
    ]
    if elements:
        # The first proxy is the one that these two are about.
        for parameter, name in ((b"host", b"x-forwarded-host"), (b"proto", b"x-forwarded-proto")):
            members = list_members(said.get(name, ()))
            if members:
                elements[0] += b";%b=%b" % (parameter, _value(members[0]))
    return elements


def _node(address: str) -> bytes:
    """A node identifier (RFC 7239 section 6): what is no address is `unknown`."""
    try:
        version = ip_address(address).version
    except ValueError:
        return b"unknown"
    return b'"[%b]"' % address.encode("ascii") if version == 6 else address.encode("ascii")


def _value(text: bytes) -> bytes:
    if _PLAIN.fullmatch(text):
        return text
    return b'"%b"' % _TO_ESCAPE.sub(rb"\\\g<0>", text)

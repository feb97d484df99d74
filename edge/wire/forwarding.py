"""Owns the fields that tell an upstream about the client. Pure.

What a client says of itself is believed only if it is a trusted proxy; from everybody else the
whole family of fields is replaced, because an application cannot tell who wrote it.
"""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

from edge.hosts import unmapped
from edge.wire.fields import list_members
from edge.wire.forwarded import earlier_elements, element
from edge.wire.framing import CHUNKED
from edge.wire.request_head import RequestFields

Networks = Sequence[IPv4Network | IPv6Network]


class Peer:
    """Who is at the other end of a client connection, and whether what it forwards is believed.

    `with_forwarded`: upstreams are told in Forwarded (RFC 7239) too.
    """

    __slots__ = (
        "address",
        "encoded",
        "forwarding",
        "trusted",
        "trusted_proxies",
        "with_forwarded",
    )

    def __init__(
        self, address: str, trusted_proxies: Networks, with_forwarded: bool = False
    ) -> None:
        # A link-local IPv6 address carries its zone (`fe80::1%eth0`), meaningless elsewhere.
        self.address = address.partition("%")[0]
        self.encoded = self.address.encode("ascii")
        # What replaces the forwarding fields of a client, up to the value of X-Forwarded-Host.
        self.forwarding = (
            b"\r\nX-Forwarded-For: %b\r\nX-Forwarded-Proto: http\r\nX-Real-IP: %b"
            b"\r\nX-Forwarded-Host: " % (self.encoded, self.encoded)
        )
        self.with_forwarded = with_forwarded
        self.trusted_proxies = trusted_proxies
        self.trusted = bool(trusted_proxies) and _is_in(self.address, trusted_proxies)

    def __repr__(self) -> str:
        return f"<Peer {self.address}{' (trusted proxy)' if self.trusted else ''}>"

    def client_address(self, fields: RequestFields) -> str:
        """The client's address: the last in the chain that is not a trusted proxy."""
        if not self.trusted:
            return self.address
        client = self.address
        for text in reversed(list_members(fields.forwarded.get(b"x-forwarded-for", ()))):
            address = text.decode("latin-1")
            try:
                trusted = _is_in(address, self.trusted_proxies)
            except ValueError:
                # Somebody wrote `unknown` or a port: the chain ends at the last address.
                break
            client = address
            if not trusted:
                break
        return client

    def scheme(self, fields: RequestFields) -> bytes:
        """The scheme that the client used, as a trusted proxy tells it."""
        if self.trusted:
            for scheme in list_members(fields.forwarded.get(b"x-forwarded-proto", ())):
                return scheme
        return b"http"


def compose_fields(fields: RequestFields, peer: Peer) -> bytes:
    """The field section for the upstream, but for X-Request-Id and the blank line.

    It begins with Host: so the line can be found by whoever has to change it.
    """
    section = b"Host: %b%b%b\r\n" % (
        fields.authority,
        fields.end_to_end,
        forwarding_lines(fields, peer),
    )
    if fields.length == CHUNKED:
        section += b"Transfer-Encoding: chunked\r\n"
    if fields.upgrade:
        section += b"Connection: upgrade\r\nUpgrade: %b\r\n" % b", ".join(fields.upgrade)
    return section


def forwarding_lines(fields: RequestFields, peer: Peer) -> bytes:
    """What the upstream is told about the client, each line with its CRLF before it.

    Via names the protocol in which the message came (RFC 9110 section 7.6.3).
    """
    said = fields.forwarded
    if said and peer.trusted:
        lines = _continued(fields, peer)
    else:
        lines = peer.forwarding + fields.authority
    if peer.with_forwarded:
        earlier = earlier_elements(said) if peer.trusted else []
        elements = [*earlier, element(peer.address, fields.authority, b"http")]
        lines += b"\r\nForwarded: " + b", ".join(elements)
    via = b"1.1 fairlead" if fields.minor else b"1.0 fairlead"
    if b"via" in said:
        via = b", ".join([*list_members(said[b"via"]), via])
    return lines + b"\r\nVia: " + via


def _continued(fields: RequestFields, peer: Peer) -> bytes:
    """The forwarding fields of a request from a trusted proxy: what it said, and itself."""
    said = fields.forwarded
    chain = list_members(said.get(b"x-forwarded-for", ()))
    client = peer.client_address(fields).encode("latin-1")
    lines = [
        b"",
        b"X-Forwarded-For: " + b", ".join([*chain, peer.encoded]),
        b"X-Forwarded-Host: " + b", ".join(said.get(b"x-forwarded-host", [fields.authority])),
        b"X-Forwarded-Proto: " + b", ".join(said.get(b"x-forwarded-proto", [b"http"])),
        # Never as it came: a proxy that does not set it passes on what its client wrote.
        b"X-Real-IP: " + client,
    ]
    lines += [
        name + b": " + value
        for name, values in said.items()
        if name not in _OWN and not (name == b"forwarded" and peer.with_forwarded)
        for value in values
    ]
    return b"\r\n".join(lines)


_OWN = frozenset(
    (
        b"via",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-real-ip",
        b"x-request-id",
    )
)


def _is_in(address: str, networks: Networks) -> bool:
    parsed = unmapped(ip_address(address))
    return any(parsed in network for network in networks)

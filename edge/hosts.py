"""Owns which texts are hosts, and the one spelling of hosts and addresses. Pure.

It lies below everything that reads a host: settings, the wire, routes, the orchestrator. There are
two grammars. `normalize_host` is for what an operator writes; a mistake in it is worth an error.
`parse_authority` is for what a client sends, and is wider: labels that begin or end with `-` are
in use though no registry sells them, and a route for `*` or `*.name` serves them. Both have one
limit and one spelling, so that whatever both take is found in the table.
"""

import re
import unicodedata
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NoReturn

from edge.errors import HttpError, RouteError, quote

MAX_HOST: Final = 253  # characters of a domain name without its trailing dot (RFC 1035 2.3.4)
MAX_LABEL: Final = 63  # characters (RFC 1035 2.3.4)

_BLANK_OR_CONTROL: Final = re.compile(r"[\x00-\x20\x7f]")
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?")
# What inet_aton, and with it many resolvers, would read as a part of an IPv4 address.
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")

# A name without empty labels, an IPv4 address, or an IPv6 address in brackets; then a port. What
# RFC 3986 allows beyond it (`%41`, `!`, `,`) is no host that anybody routes.
_AUTHORITY: Final = re.compile(
    rb"([A-Za-z0-9_~-]+(?:\.[A-Za-z0-9_~-]+)*\.?|\[[0-9A-Fa-f:.]{2,45}\])(?::([0-9]{1,5}))?"
)


def normalize_host(host: str) -> str:
    """The one spelling of a host: lower case, no trailing dot, IPv6 compressed in brackets.

    Raises RouteError for what is not a name (RFC 1123 2.1, underscores allowed), an IPv4 address or
    an IPv6 address in brackets.
    """
    if not host:
        raise RouteError("the host is empty: write a name, an IPv4 address or an [IPv6] address")
    if not host.isascii():
        _refuse_non_ascii(host)
    if _BLANK_OR_CONTROL.search(host):
        raise RouteError(f"host {quote(host)} contains a blank or a control character")
    if "@" in host:
        raise RouteError(
            f"host {quote(host)} contains user information: leave out everything up to the @"
        )
    name = host.lower()
    if name.startswith("["):
        return _normalize_ipv6(name)
    if ":" in name:
        raise RouteError(
            f"host {quote(host)} contains a colon: leave the port out, put an IPv6 address in"
            " brackets"
        )
    name = name.removesuffix(".")
    if len(name) > MAX_HOST:
        raise RouteError(f"host {quote(host)} is longer than {MAX_HOST} characters")
    labels = name.split(".")
    for label in labels:
        if not label:
            raise RouteError(f"host {quote(host)} has an empty label: remove the extra dot")
        if len(label) > MAX_LABEL:
            raise RouteError(f"host {quote(host)} has a label longer than {MAX_LABEL} characters")
        if "*" in label:
            raise RouteError(
                f"host {quote(host)} has a * in the wrong place: write * alone or *.name"
            )
        if not _LABEL.fullmatch(label):
            raise RouteError(
                f"host {quote(host)} is not a valid name: a label has letters, digits, - and _,"
                " and neither begins nor ends with -"
            )
    if _NUMBER.fullmatch(labels[-1]):
        try:
            return str(IPv4Address(name))
        except ValueError:
            raise RouteError(
                f"host {quote(host)} ends in a number but is not an IPv4 address"
            ) from None
    return name


def is_address(host: str) -> bool:
    """Whether a host in normal form is an IPv4 or IPv6 address."""
    return host.startswith("[") or _NUMBER.fullmatch(host.rpartition(".")[2]) is not None


@lru_cache(maxsize=1024)
def parse_authority(text: bytes) -> str:
    """The host in `host[:port]`, in lower case, without the port and a trailing dot.

    Raises `HttpError` 400 (RFC 9110 section 7.2; RFC 9112 section 3.2).
    """
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        raise HttpError(400, "the host is invalid")
    if match[2] is not None and int(match[2]) > 65535:
        raise HttpError(400, "the port of the host is out of range")
    host = match[1].decode("ascii")
    if host.startswith("["):
        try:
            return _compress_ipv6(host)
        except ValueError:
            raise HttpError(400, "the host is invalid") from None
    name = host.lower().removesuffix(".")
    if len(name) > MAX_HOST:
        raise HttpError(400, "the host is invalid")
    return name


def unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """An address in the one form that rules compare: IPv4 in IPv6 (RFC 4291 2.5.5.2) is IPv4.

    So a dual-stack socket, a PROXY header and X-Forwarded-For name one client in one way.
    """
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _compress_ipv6(host: str) -> str:
    """RFC 5952. Raises ValueError."""
    return f"[{IPv6Address(host[1:-1])}]"


def _normalize_ipv6(host: str) -> str:
    # A zone ("%eth0") means something only on the machine that wrote it (RFC 6874).
    try:
        if not host.endswith("]") or "%" in host:
            raise ValueError
        return _compress_ipv6(host)
    except ValueError:
        raise RouteError(f"host {quote(host)} is not an IPv6 address in brackets") from None


def _refuse_non_ascii(host: str) -> NoReturn:
    # Lower case and NFKC are what browsers do before they encode (UTS 46); the codec "idna" of the
    # standard library would turn sharp s into ss, which names another host.
    labels = unicodedata.normalize("NFKC", host.lower()).split(".")
    letters = all(unicodedata.category(c)[0] in "LMN" or c in "-_" for c in "".join(labels))
    encoded = ".".join(
        label if label.isascii() else f"xn--{label.encode('punycode').decode('ascii')}"
        for label in labels
    )
    hint = ""
    if letters:
        try:
            hint = f": write {normalize_host(encoded)}"
        except RouteError:
            pass  # There is no name to offer; the refusal stands.
    raise RouteError(f"host {quote(host)} is not ASCII{hint}")

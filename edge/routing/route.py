"""Owns what a route is, and which texts are one: keys, targets, rows of the store. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import orjson

from edge.errors import RouteError, quote
from edge.hosts import MAX_HOST, is_address, normalize_host
from edge.routing.checks import reject_unused_options
from edge.routing.options import DEFAULTS, RouteOptions, check_options
from edge.wire.path import normalize_target, strip_prefix

MAX_PORT: Final = 65535

_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")
# A segment of a path without percent-encoding: unreserved, sub-delims, ":" and "@" (RFC 3986 3.3).
_SEGMENT: Final = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@-]+")

# What nearly every table is made of, recognized by two regular expressions, ten times as fast as
# the rules are: a name and a target in normal form. They accept nothing that the rules refuse.
_NORMAL_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_NORMAL_NAME: Final = rf"(?:{_NORMAL_LABEL}\.)*+[a-z_](?:[a-z0-9_-]{{0,61}}[a-z0-9_])?"
_NORMAL_OCTET: Final = r"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_NORMAL_PORT: Final = (
    r"(?:[1-5][0-9]{4}|[1-9][0-9]{0,3}"
    r"|6(?:[0-4][0-9]{3}|5(?:[0-4][0-9]{2}|5(?:[0-2][0-9]|3[0-5]))))"
)
is_normal_name: Final = re.compile(_NORMAL_NAME).fullmatch
is_normal_target: Final = re.compile(
    rf"(?:{_NORMAL_OCTET}(?:\.{_NORMAL_OCTET}){{3}}|{_NORMAL_NAME}):{_NORMAL_PORT}"
).fullmatch


@dataclass(frozen=True, slots=True)
class Route:
    """One row of the table, in normal form.

    `key` is, `host[/prefix]`; `host` is a name, `*.name` or `*`; `prefix` is empty or
    begins, and never ends, with a slash. `weights` stand beside `targets`, 1 to 100.
    """

    key: str
    host: str
    prefix: bytes
    targets: tuple[str, ...]
    weights: tuple[int, ...]
    options: RouteOptions = DEFAULTS

    def upstream_target(self, target: bytes) -> bytes:
        """The request target that the targets get of one that takes this route.

        What is left of a stripped path is left of its normal form, as in nginx where `proxy_pass`
        has a path. Raises `HttpError` 400 for a path that has none.
        """
        options = self.options
        if options.strip or options.normalize_path:
            target = normalize_target(target, options.merge_slashes == "on")
        return strip_prefix(target, self.prefix) if options.strip else target

    def why_unavailable(self, boot: str) -> str:
        """Why the targets get no requests for now, to the operator; empty if they do.

        `boot` is that of the machine now. In another one than that in which the orchestrator
        confirmed the targets, their addresses may be anybody's.
        """
        options = self.options
        if options.unavailable:
            return options.unavailable
        if options.boot and options.boot != boot:
            return "waiting for the orchestrator since the machine was restarted"
        return ""


def parse_key(text: str) -> tuple[str, bytes]:
    """`host[/prefix]` -> (host, prefix), both in normal form; host may be `*.name` or `*`.

    Raises RouteError.
    """
    if len(text) <= MAX_HOST and is_normal_name(text):
        return text, b""
    if "://" in text:
        raise RouteError(f"{quote(text)} has a scheme: write HOST or HOST/PREFIX without it")
    pattern, slash, rest = text.partition("/")
    if slash and not pattern:
        raise RouteError(f"{quote(text)} begins with a slash: write HOST/PREFIX")
    prefix = _parse_prefix(text, rest) if slash else b""
    if pattern == "*":
        return "*", prefix
    if pattern.startswith("*."):
        host = normalize_host(pattern[2:])
        if is_address(host):
            raise RouteError(f"{quote(pattern)}: a wildcard needs a name after it, not an address")
        if len(host) + 2 > MAX_HOST:
            raise RouteError(f"host {quote(pattern)} is longer than {MAX_HOST} characters")
        return f"*.{host}", prefix
    return normalize_host(pattern), prefix


def parse_target(text: str) -> str:
    """`name:port`, `IPv4:port` or `[IPv6]:port`, in normal form. Raises RouteError."""
    if len(text) <= MAX_HOST and is_normal_target(text):
        return text
    if not text:
        raise RouteError("a target is empty: write HOST:PORT, several with a comma between")
    scheme, mark, _ = text.partition("://")
    if mark:
        raise RouteError(f"target {quote(text)} has a scheme: leave out {quote(scheme + mark)}")
    if "/" in text:
        raise RouteError(f"target {quote(text)} has a path: write HOST:PORT alone")
    host, colon, port = text.rpartition(":")
    # The colon of a bare "[::1]" is inside the address.
    if not colon or port.endswith("]"):
        raise RouteError(f"target {quote(text)} has no port: write HOST:PORT")
    if not _PORT.fullmatch(port) or int(port) > MAX_PORT:
        raise RouteError(
            f"target {quote(text)}: port {quote(port)} is not a number from 1 to {MAX_PORT}"
        )
    try:
        name = normalize_host(host)
    except RouteError as error:
        raise RouteError(f"target {quote(text)}: {error}") from None
    return f"{name}:{port}"


def parse_route(domain: str, target: str, options: str | None = None) -> Route:
    """One row of the store -> Route. `target` is a list with commas, `options` a JSON object.

    Raises RouteError, also for an option that is unknown, of the wrong type or without effect.
    """
    host, prefix = parse_key(domain)
    targets = tuple(parse_target(one) for one in target.split(","))
    for index, one in enumerate(targets):
        if one in targets[:index]:
            raise RouteError(
                f"target {quote(one)} is given twice: use --weight to send it more requests"
            )
    key = host + prefix.decode("ascii")
    if options is None:
        return Route(key, host, prefix, targets, (1,) * len(targets))
    try:
        found = check_options(orjson.loads(options))
    except orjson.JSONDecodeError as error:
        raise RouteError(f"the options are not JSON: {error}") from None
    if found.strip and not prefix:
        raise RouteError("option 'strip' needs a prefix: write HOST/PREFIX, or leave strip out")
    reject_unused_options(found, DEFAULTS)
    weights = _weights_of(found.weights, targets)
    if found.weights:
        pairs = zip(targets, weights, strict=True)
        found = replace(found, weights={name: weight for name, weight in pairs if weight != 1})
    return Route(key, host, prefix, targets, weights, found)


def placeholder(domain: str, fault: str) -> Route:
    """What stands in the place of a row that is no valid route, `fault` says why: it leads nowhere.

    Its rules may be access rules, so that a wider route must not take its requests. Raises
    RouteError for what is no domain.
    """
    host, prefix = parse_key(domain)
    options = RouteOptions(unavailable=f"its row in the database is not valid: {fault}")
    return Route(host + prefix.decode("ascii"), host, prefix, (), (), options)


def _weights_of(found: Mapping[str, int], targets: tuple[str, ...]) -> tuple[int, ...]:
    weights = dict.fromkeys(targets, 1)
    for text, weight in found.items():
        target = parse_target(text)
        if target not in weights:
            raise RouteError(
                f"option 'weights' names {quote(text)}, which is not a target of this route"
            )
        weights[target] = weight
    return tuple(weights.values())


def _parse_prefix(text: str, rest: str) -> bytes:
    if not rest or rest.endswith("/"):
        raise RouteError(f"{quote(text)} ends with a slash: remove it")
    for segment in rest.split("/"):
        if not segment:
            raise RouteError(f"{quote(text)} has two slashes in a row: remove one")
        if segment in {".", ".."}:
            raise RouteError(f"{quote(text)} has the segment {segment} in its prefix")
        if not _SEGMENT.fullmatch(segment):
            raise RouteError(
                f"{quote(text)}: a prefix is a plain path, without blanks, ?, #, %, \\"
                " and non-ASCII characters"
            )
    return f"/{rest}".encode("ascii")

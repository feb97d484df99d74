"""Owns who may use an API: by the socket, by a token, or by its place where that suffices.

Loopback is no boundary: any user of the machine, any build and any page that a browser here shows
can send requests to 127.0.0.1, and a proxy in front makes strangers local. So everything takes a
token, but what an endpoint declares as open. A page's Origin gives it away, and under a name that
its owner lets point to this machine (DNS rebinding) the Host does.
"""

import hashlib
import hmac
from collections.abc import Collection
from ipaddress import IPv6Address, ip_address
from typing import Final, NoReturn, Protocol
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from edge.api.openapi import Operation
from edge.api.permission import OPERATOR, Grant, Scope
from edge.peer import GROUP, Peer

PEER: Final = "peer"
"""Where a connection's state has who is at the other end of a Unix socket."""

# Characters that are looked at as a token at most.
_MAX_TOKEN: Final = 512
_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}
# Fields that only a proxy adds (RFC 7239, RFC 9110 section 7.6.3); X-Forwarded-* beside them.
_PROXY_FIELDS: Final = ("forwarded", "via", "x-real-ip")


class Tokens(Protocol):
    """The tokens that were made."""

    async def find(self, token: str) -> Grant | None:
        """What it grants; None if it is none of them, or no longer."""


class Access:
    """Decides who may. `api_token` is the one static token, of an admin; "": there is none.

    `hosts` are names under which we are known beside the loopback ones. `origins` are foreign ones
    whose pages may open WebSockets. With `open_metrics`, a direct client on this machine needs no
    token for them.
    """

    def __init__(
        self,
        api_token: str,
        *,
        tokens: Tokens | None = None,
        hosts: Collection[str] = (),
        origins: Collection[str] = (),
        open_metrics: bool = True,
    ) -> None:
        self._api_token = _digest(api_token) if api_token else None
        self._tokens = tokens
        self._hosts = {"localhost", *(host.lower() for host in hosts if host)}
        self._origins = {origin.lower().rstrip("/") for origin in origins}
        self._open_metrics = open_metrics

    async def admit(self, connection: HTTPConnection, operation: Operation) -> Grant:
        """What the caller of `operation`, which asks for a scope, may; it is in the state, too.

        Raises HTTPException: 401 without a valid token, 403 where that does not suffice.
        """
        assert isinstance(operation.permission, Scope)  # noqa: S101  narrows a type
        grant = await self.identify(connection)
        if grant is None:
            is_free = operation.permission is Scope.METRICS and self._open_metrics
            if not is_free or not self.is_direct(connection):
                raise _unauthorized("bearer token required: send Authorization: Bearer TOKEN")
            grant = Grant("loopback", frozenset({Scope.METRICS}))
        if not grant.allows(operation.permission):
            _insufficient(operation.permission, "this token has not the scope")
        if grant.apps and not operation.by_app:
            raise HTTPException(403, "this token is limited to apps, and this concerns all of them")
        connection.state.grant = grant
        return grant

    async def identify(self, connection: HTTPConnection) -> Grant | None:
        """What the caller may; None if it does not say who it is.

        Raises HTTPException: 401 for a token that is wrong, 403 for a foreign page, or for a user
        who is no operator.
        """
        peer: Peer | None = connection.scope.get("state", {}).get(PEER)
        if peer is not None:
            if not peer.is_operator():
                raise HTTPException(
                    403,
                    f"user {peer.uid} may not use this socket: only its owner, root and members of"
                    f" the group {GROUP} may",
                )
            return OPERATOR
        if self._is_cross_origin(connection):
            raise HTTPException(403, "cross-origin request: this Origin may not use the API")
        given = connection.headers.getlist("authorization")
        if not given:
            return None
        scheme, _, token = given[0].partition(" ")
        token = token.strip()
        if len(given) == 1 and scheme.lower() == "bearer" and 0 < len(token) <= _MAX_TOKEN:
            if self._api_token and hmac.compare_digest(_digest(token), self._api_token):
                return Grant("FAIRLEAD_API_TOKEN", OPERATOR.scopes)
            grant = await self._tokens.find(token) if self._tokens is not None else None
            if grant is not None:
                return grant
        raise _unauthorized("invalid bearer token")

    def is_direct(self, connection: HTTPConnection) -> bool:
        """Whether a program on this machine asks, by no proxy that says so and for no page."""
        client, headers = connection.client, connection.headers
        if client is None or not _is_loopback(client.host):
            return False
        if any(name in _PROXY_FIELDS or name.startswith("x-forwarded-") for name in headers):
            return False
        if self._is_cross_origin(connection):
            return False
        given = headers.getlist("host")
        return len(given) == 1 and self._is_own_host(given[0])

    def _is_own_host(self, host: str) -> bool:
        name, _ = _split_host(host, 0)
        return name in self._hosts or _is_loopback(name)

    def _is_cross_origin(self, connection: HTTPConnection) -> bool:
        headers: Headers = connection.headers
        origins = headers.getlist("origin")
        if not origins:
            return False  # no browser: each of them sends it with what changes state (Fetch 3.2)
        if len(origins) > 1:
            return True
        origin = origins[0].lower().rstrip("/")
        if connection.scope["type"] == "websocket" and origin in self._origins:
            return False
        scheme, _, rest = origin.partition("://")
        default = _DEFAULT_PORTS.get(scheme)
        if default is None:
            return True
        here = headers.getlist("host")
        return len(here) != 1 or _split_host(rest, default) != _split_host(here[0], default)


def grant_of(connection: HTTPConnection) -> Grant:
    """What the caller of a handler may."""
    grant: Grant = connection.state.grant
    return grant


def _digest(token: str) -> bytes:
    # Of one length, whatever was sent: the comparison tells nothing of the token's.
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _unauthorized(reason: str) -> HTTPException:
    return HTTPException(401, reason, headers={"WWW-Authenticate": "Bearer"})


def _insufficient(scope: Scope, reason: str) -> NoReturn:
    # RFC 6750 section 3.1.
    challenge = f'Bearer error="insufficient_scope", scope="{scope}"'
    raise HTTPException(403, f"{reason} {scope}", headers={"WWW-Authenticate": challenge})


def _is_loopback(text: str) -> bool:
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback


def _split_host(text: str, default_port: int) -> tuple[str, int]:
    """Host and port of a Host field or of an Origin's end; ("", 0) where it is neither."""
    try:
        parts = urlsplit(f"//{text.strip().lower()}")
        if parts.username is not None or parts.path or parts.query or parts.fragment:
            return "", 0
        return parts.hostname or "", default_port if parts.port is None else parts.port
    except ValueError:
        return "", 0

"""Owns who may use the API: bearer token, loopback, Host, Origin. Pure but for the token's file.

A browser on this machine is the danger here: any page that it shows can send requests to 127.0.0.1
(which its Origin gives away), and under a name that its owner lets point there, read the answers
too (DNS rebinding, which the Host gives away).
"""

import logging
import os
import secrets
import stat
from collections.abc import Collection, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from edge.rules.client_ip import client_name, parse_client
from orchestrator.errors import OrchestratorError

logger = logging.getLogger(__name__)

# Characters of a token that was made here: 32 random bytes.
_TOKEN_BYTES: Final = 32
# A file's content that is shorter was cut off, or is no token.
_MIN_TOKEN_LENGTH: Final = 16
# The longest IPv6 address (INET6_ADDRSTRLEN), "%" and the name of an interface (IFNAMSIZ).
_MAX_ADDRESS: Final = 46 + 1 + 16
_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}
# Fields that only a proxy adds (RFC 7239, RFC 9110 section 7.6.3); X-Forwarded-* beside them.
_PROXY_FIELDS: Final = ("forwarded", "via", "x-real-ip")


class Refusal(NamedTuple):
    """Why not, with the status of the answer."""

    status: int
    reason: str


class Authorizer:
    """Decides who may use the API. `token_configured`: an operator set the token, so all need it.

    `hosts` are names under which we are known beside the loopback ones. `origins` are foreign ones
    whose pages may open WebSockets. `trusted_proxies` are believed about the client's address.
    """

    def __init__(
        self,
        token: str,
        *,
        token_configured: bool,
        hosts: Collection[str] = (),
        origins: Collection[str] = (),
        trusted_proxies: Sequence[IPv4Network | IPv6Network] = (),
    ) -> None:
        self._token = token.encode()
        self._token_configured = token_configured
        self._hosts = {"localhost", *(host.lower() for host in hosts if host)}
        self._origins = {origin.lower().rstrip("/") for origin in origins}
        self._trusted_proxies = tuple(trusted_proxies)

    def check(self, peer: str, headers: Headers, *, websocket: bool = False) -> Refusal | None:
        """Why this client may not use the API; None where it may."""
        if self._is_cross_origin(headers, websocket=websocket):
            return Refusal(403, "cross-origin request: this Origin may not use the API")
        given = headers.getlist("authorization")
        if given:
            if len(given) == 1 and self._is_token(given[0]):
                return None
            return Refusal(401, "invalid bearer token")
        if self._token_configured:
            return Refusal(
                401, "bearer token required: send Authorization: Bearer with FAIRLEAD_API_TOKEN"
            )
        if not self._is_direct(peer, headers):
            return Refusal(
                401,
                "bearer token required: send Authorization: Bearer with the token in the file"
                " `.token` beside the database; only direct clients on this machine need none",
            )
        return None

    def can_read_metrics(self, peer: str, headers: Headers) -> bool:
        """Whether a scraper may: one on this machine, or one with the token."""
        given = headers.getlist("authorization")
        if len(given) == 1 and self._is_token(given[0]):
            return True
        return self.is_local(peer, headers)

    def is_local(self, peer: str, headers: Headers) -> bool:
        """Whether a program on this machine asks, by no proxy and for no foreign page."""
        return self._is_direct(peer, headers) and not self._is_cross_origin(
            headers, websocket=False
        )

    def client_address(self, peer: str, headers: Headers) -> str:
        """The address that limits count by: of the nearest client that is no trusted proxy."""
        named = ",".join(headers.getlist("x-forwarded-for")).split(",")
        address = peer
        while named and self._is_trusted(address):
            nearer = _address(named.pop())
            if nearer is None:
                break
            address = str(nearer)
        return address

    def _is_token(self, authorization: str) -> bool:
        scheme, _, given = authorization.partition(" ")
        return scheme.lower() == "bearer" and secrets.compare_digest(
            given.strip().encode("utf-8", "surrogateescape"), self._token
        )

    def _is_direct(self, peer: str, headers: Headers) -> bool:
        address = _address(peer)
        if address is None or not address.is_loopback:
            return False
        if any(name in _PROXY_FIELDS or name.startswith("x-forwarded-") for name in headers):
            return False
        given = headers.getlist("host")
        return len(given) == 1 and self._is_own_host(given[0])

    def _is_own_host(self, host: str) -> bool:
        name, _ = _split_host(host, 0)
        address = _address(name)
        return name in self._hosts or (address is not None and address.is_loopback)

    def _is_cross_origin(self, headers: Headers, *, websocket: bool) -> bool:
        origins = headers.getlist("origin")
        if not origins:
            return False  # no browser: each of them sends it with what changes state (Fetch 3.2)
        if len(origins) > 1:
            return True
        origin = origins[0].lower().rstrip("/")
        if websocket and origin in self._origins:
            return False
        scheme, _, rest = origin.partition("://")
        default = _DEFAULT_PORTS.get(scheme)
        if default is None:
            return True
        here = headers.getlist("host")
        return len(here) != 1 or _split_host(rest, default) != _split_host(here[0], default)

    def _is_trusted(self, text: str) -> bool:
        address = _address(text)
        return address is not None and any(
            address in network
            for network in self._trusted_proxies
            if network.version == address.version
        )


def token_of_file(path: Path) -> str:
    """The token in this file, which is made if there is none.

    Raises OrchestratorError where the file cannot be used.
    """
    try:
        try:
            return _read_token(path)
        except FileNotFoundError:
            return _make_token(path)
    except OSError as error:
        raise OrchestratorError(
            f"cannot use the API token file {path}: {error.strerror};"
            " fix its permissions or set FAIRLEAD_API_TOKEN"
        ) from None


def _read_token(path: Path) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, encoding="ascii", errors="replace") as file:
        if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:
            logger.warning(
                "API token file was readable by other users: remove it to generate a new token",
                extra={"fields": {"path": str(path)}},
            )
            os.fchmod(descriptor, 0o600)
        token = file.read(4096).strip()
    if len(token) < _MIN_TOKEN_LENGTH or not token.isascii() or not token.isprintable():
        raise OrchestratorError(
            f"{path} contains no token of at least {_MIN_TOKEN_LENGTH} characters:"
            " remove it to generate a new one"
        )
    return token


def _make_token(path: Path) -> str:
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    # Under its name there is a whole token or nothing, whenever the power fails.
    beginning = path.with_name(path.name + ".new")
    beginning.unlink(missing_ok=True)
    descriptor = os.open(
        beginning, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
    )
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(token + "\n")
        file.flush()
        os.fsync(descriptor)
    beginning.rename(path)
    return token


def client_key(address: str) -> bytes:
    """What limits count as one client; all that come from no address are one."""
    try:
        return client_name(address)
    except ValueError:
        return b""


def _address(text: str) -> IPv4Address | IPv6Address | None:
    text = text.strip().removeprefix("[").removesuffix("]")
    # The zone of an IPv6 address may be of any length, and `parse_client` keeps what it has read.
    if len(text) > _MAX_ADDRESS:
        return None
    try:
        return parse_client(text)
    except ValueError:
        return None


def _split_host(text: str, default_port: int) -> tuple[str, int]:
    """Host and port of a Host field or of an Origin's end; ("", 0) where it is neither."""
    try:
        parts = urlsplit(f"//{text.strip().lower()}")
        if parts.username is not None or parts.path or parts.query or parts.fragment:
            return "", 0
        return parts.hostname or "", default_port if parts.port is None else parts.port
    except ValueError:
        return "", 0

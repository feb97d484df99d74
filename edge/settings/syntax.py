"""Owns the syntax of single settings: each parser gives the value that a text stands for. Pure.

All raise ConfigError, whose text repeats the value and says what fits instead.
"""

import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Final, NamedTuple

from edge.errors import ConfigError, RouteError
from edge.hosts import normalize_host

Network = IPv4Network | IPv6Network

# Sizes go into Content-Length arithmetic, SQLite and the container engine: integers of 63 bits.
MAX_SIZE: Final = 2**63 - 1
# One year, in seconds. The event loop's timers overflow on absurd delays; nobody waits longer.
MAX_DURATION: Final = 31_536_000.0
MAX_COUNT: Final = 999_999_999
MAX_DECIMAL: Final = 100_000.0
DNS_PORT: Final = 53

# A bearer token: a short one can be guessed, one with odd characters not be sent (RFC 6750 section
# 2.1).
BEARER: Final = re.compile(r"[A-Za-z0-9._~+/=-]{16,}")
BEARER_RULE: Final = (
    "the token is too short or has other characters than letters, digits and -._~+/=:"
    " write at least 16, such as from `openssl rand -hex 32`"
)

METRICS_AUTH: Final = (
    "Who may read /metrics: loopback admits direct clients on this machine without a token, token"
    " nobody."
)

_SIZE: Final = re.compile(r"([0-9]{1,19})(|B|KiB|MiB|GiB)", re.IGNORECASE)
_SIZE_UNITS: Final = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_DECIMAL: Final = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?|\.[0-9]{1,15}")
_COUNT: Final = re.compile(r"[0-9]{1,9}")
_ADDRESS: Final = re.compile(r"(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<host>[^\[\]:]*)):(?P<port>[0-9]{1,5})")
_BOOLEANS: Final = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


class Address(NamedTuple):
    """Where to listen. `host` "" means all addresses, IPv4 and IPv6; `port` 0 a free port."""

    host: str
    port: int

    def __str__(self) -> str:
        """`host:port` as a user writes it, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_size(text: str) -> int:
    """Bytes: "4096", "32KiB", "10MiB", "1GiB", at most 2**63 - 1; case does not matter."""
    match = _SIZE.fullmatch(text.strip())
    size = int(match[1]) * _SIZE_UNITS[match[2].lower()] if match else -1
    if not 0 <= size <= MAX_SIZE:
        raise ConfigError(
            f"{text!r} is not a size: write a number of bytes, or one with KiB, MiB or GiB, such"
            " as 32KiB"
        )
    return size


def size_text(size: float) -> str:
    """Bytes as people read them: "512 B", "1.5 GiB"."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def size_between(minimum: int, maximum: int = MAX_SIZE) -> Callable[[str], int]:
    """A parser of bytes within these limits."""

    def parse(text: str) -> int:
        size = parse_size(text)
        if size < minimum:
            raise ConfigError(f"{text!r} is too small: the minimum is {minimum} bytes")
        if size > maximum:
            raise ConfigError(f"{text!r} is too large: the maximum is {maximum} bytes")
        return size

    return parse


def parse_duration(text: str) -> float:
    """Seconds, from 0 to one year: "30", "0.5"."""
    seconds = float(text) if _DECIMAL.fullmatch(text.strip()) else -1.0
    if not 0 <= seconds <= MAX_DURATION:
        raise ConfigError(f"{text!r} is not a duration: write seconds, such as 30 or 0.5")
    return seconds


def parse_positive_duration(text: str) -> float:
    """Seconds, above 0 and up to one year."""
    seconds = parse_duration(text)
    if seconds == 0:
        raise ConfigError(f"{text!r} is too short: write seconds above 0, such as 30 or 0.5")
    return seconds


def parse_decimal(text: str) -> float:
    """A number above 0, up to 100,000: "5", "0.5"."""
    number = float(text) if _DECIMAL.fullmatch(text.strip()) else 0.0
    if not 0 < number <= MAX_DECIMAL:
        raise ConfigError(f"{text!r} is not a number above 0: write one such as 2 or 0.5")
    return number


def count_from(minimum: int) -> Callable[[str], int]:
    """A parser of whole numbers from `minimum` to 999,999,999."""

    def parse(text: str) -> int:
        value = int(text) if _COUNT.fullmatch(text.strip()) else -1
        if value < minimum:
            raise ConfigError(f"{text!r} is not a whole number from {minimum} to {MAX_COUNT}")
        return value

    return parse


def parse_boolean(text: str) -> bool:
    """true, yes, on, 1; false, no, off, 0."""
    value = _BOOLEANS.get(text.strip().lower())
    if value is None:
        raise ConfigError(f"{text!r} is not a boolean: write true or false")
    return value


def parse_metrics_auth(text: str) -> str:
    """ "loopback" or "token"."""
    word = text.strip().lower()
    if word not in ("loopback", "token"):
        raise ConfigError(f"{text!r} is not loopback or token")
    return word


def parse_path(text: str) -> Path:
    """A path that is not empty."""
    if not text.strip():
        raise ConfigError("the path is empty: write the path of a file")
    return Path(text)


def parse_optional_path(text: str) -> Path | None:
    """A path, or nothing."""
    return Path(text) if text.strip() else None


def parse_address(text: str) -> Address:
    """Reads "127.0.0.1:80", "[::1]:80", "name:80", or ":80" for all; the name is not looked up."""
    match = _ADDRESS.fullmatch(text.strip())
    if match is None or int(match["port"]) > 65535:
        raise ConfigError(
            f"{text!r} is not an address: write host:port, [ipv6]:port, or :port for all addresses"
        )
    host = match["ipv6"] or match["host"]
    if match["ipv6"]:
        if not _is_ipv6(host):
            raise ConfigError(f"{text!r} is not an address: {host!r} is not an IPv6 address")
    elif host:
        try:
            normalize_host(host)
        except RouteError:
            raise ConfigError(
                f"{text!r} is not an address: {host!r} is neither an IP nor a host name"
            ) from None
    return Address(host, int(match["port"]))


def parse_addresses(text: str) -> tuple[Address, ...]:
    """A list of addresses, not empty; commas separate."""
    return tuple(parse_address(item) for item in text.split(","))


def parse_name_servers(text: str) -> tuple[Address, ...]:
    """A list of IP addresses, each perhaps with a port (53 if not), or nothing; commas separate."""
    return (
        tuple(_parse_name_server(item.strip()) for item in text.split(",")) if text.strip() else ()
    )


def _parse_name_server(text: str) -> Address:
    try:
        return Address(str(ip_address(text.removeprefix("[").removesuffix("]"))), DNS_PORT)
    except ValueError:
        pass
    try:
        address = parse_address(text)
        ip_address(address.host)
    except (ConfigError, ValueError):
        raise ConfigError(
            f"{text!r} is not the address of a name server: write an IP address, perhaps with a"
            " port, such as 10.0.0.2, 10.0.0.2:5353 or [2001:db8::2]:5353"
        ) from None
    return address


def _is_ipv6(text: str) -> bool:
    try:
        return isinstance(ip_address(text), IPv6Address)
    except ValueError:
        return False


def parse_network(text: str) -> Network:
    """Reads "10.0.0.0/8", "2001:db8::/32", or a single address; no bits behind the prefix."""
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        # A stray host bit is a likely typing error in a list that decides whom to believe.
        fixed = f", did you mean {ip_network(text, strict=False)}?"
    except ValueError:
        fixed = ": write 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32"
    raise ConfigError(f"{text!r} is not a network{fixed}")


def parse_networks(text: str) -> tuple[Network, ...]:
    """A list of networks, or nothing; commas separate."""
    return tuple(parse_network(item.strip()) for item in text.split(",")) if text.strip() else ()

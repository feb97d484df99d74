"""Owns the syntax of single settings: each function gives the value that a text stands for.

It is that of the edge's settings (`edge.config`), which this package may not import; a test holds
the two together. All functions are pure and raise ValueError with what fits instead.
"""

import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

Network = IPv4Network | IPv6Network

# Sizes go to SQLite and to the engine, whose integers have 63 bits.
LARGEST_SIZE: Final = 2**63 - 1
# One year, in seconds: the event loop's timers overflow on absurd delays.
LONGEST_DURATION: Final = 31_536_000.0

_SIZE = re.compile(r"([0-9]{1,19})(|B|KiB|MiB|GiB)", re.IGNORECASE)
_SIZE_UNITS = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_DECIMAL = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?|\.[0-9]{1,15}")
_COUNT = re.compile(r"[0-9]{1,9}")
_ADDRESS = re.compile(r"(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<host>[^\[\]:]*)):(?P<port>[0-9]{1,5})")
_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252})")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{16,}")
_STATUS_RANGE = re.compile(r"([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?")
# What the engine takes as a name of a network, and as the path of an image (distribution's
# reference grammar: components of lower-case words that single separators join).
_NETWORK_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_IMAGE_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_IMAGE_PREFIX = re.compile(
    rf"(?:{_IMAGE_PART}(?::[0-9]{{1,5}})?/)?{_IMAGE_PART}(?:/{_IMAGE_PART})*"
)
# The engine's own networks: containers on them cannot be told apart from strangers, or are not
# separated from the host at all.
_ENGINE_NETWORKS = frozenset({"bridge", "host", "none", "default", "container"})
_BOOLEANS = {
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


def size(minimum: int, maximum: int = LARGEST_SIZE) -> Callable[[str], int]:
    """Reads bytes within the limits: "4096", "32KiB", "10MiB", "1GiB"; case does not matter."""

    def parse(text: str) -> int:
        match = _SIZE.fullmatch(text.strip())
        found = int(match[1]) * _SIZE_UNITS[match[2].lower()] if match else -1
        if not 0 <= found <= LARGEST_SIZE:
            raise ValueError(
                f"{text!r} is not a size: write a number of bytes, or one with KiB, MiB or GiB,"
                " such as 32KiB"
            )
        if found < minimum:
            raise ValueError(f"{text!r} is too small: the minimum is {minimum} bytes")
        if found > maximum:
            raise ValueError(f"{text!r} is too large: the maximum is {maximum} bytes")
        return found

    return parse


def duration(text: str) -> float:
    """Seconds, from 0 to one year: "30", "0.5"."""
    seconds = float(text) if _DECIMAL.fullmatch(text.strip()) else -1.0
    if not 0 <= seconds <= LONGEST_DURATION:
        raise ValueError(f"{text!r} is not a duration: write seconds, such as 30 or 0.5")
    return seconds


def positive_duration(text: str) -> float:
    """Seconds, above 0 and up to one year."""
    seconds = duration(text)
    if seconds == 0:
        raise ValueError(f"{text!r} is too short: write seconds above 0, such as 30 or 0.5")
    return seconds


def decimal(text: str) -> float:
    """A number above 0, up to 100,000: "5", "0.5"."""
    number = float(text) if _DECIMAL.fullmatch(text.strip()) else 0.0
    if not 0 < number <= 100_000:
        raise ValueError(f"{text!r} is not a number above 0: write one such as 2 or 0.5")
    return number


def count(minimum: int, maximum: int = 999_999_999) -> Callable[[str], int]:
    """Reads a whole number within the limits."""

    def parse(text: str) -> int:
        value = int(text) if _COUNT.fullmatch(text.strip()) else -1
        if not minimum <= value <= maximum:
            raise ValueError(f"{text!r} is not a number from {minimum} to {maximum}")
        return value

    return parse


def boolean(text: str) -> bool:
    """true, yes, on, 1; false, no, off, 0."""
    value = _BOOLEANS.get(text.strip().lower())
    if value is None:
        raise ValueError(f"{text!r} is not a boolean: write true or false")
    return value


def path(text: str) -> Path:
    """A path that is not empty."""
    if not text.strip():
        raise ValueError("the path is empty: write the path of a file")
    return Path(text)


def optional_path(text: str) -> Path | None:
    """A path, or nothing."""
    return Path(text) if text.strip() else None


def address(text: str) -> Address:
    """Reads "127.0.0.1:80", "[::1]:80", "name:80", or ":80" for all; the name is not looked up."""
    match = _ADDRESS.fullmatch(text.strip())
    if match is None or int(match["port"]) > 65535:
        raise ValueError(
            f"{text!r} is not an address: write host:port, [ipv6]:port, or :port for all addresses"
        )
    host = match["ipv6"] or match["host"]
    if match["ipv6"]:
        if not _is_ipv6(host):
            raise ValueError(f"{text!r} is not an address: {host!r} is not an IPv6 address")
    elif host and not _is_host(host):
        raise ValueError(f"{text!r} is not an address: {host!r} is neither an IP nor a host name")
    return Address(host, int(match["port"]))


def _is_ipv6(text: str) -> bool:
    try:
        return isinstance(ip_address(text), IPv6Address)
    except ValueError:
        return False


def _is_host(text: str) -> bool:
    if text.replace(".", "").isdigit():
        # "127.0.0.1000" would pass as a name, and fail later with a puzzling lookup error.
        try:
            ip_address(text)
        except ValueError:
            return False
        return True
    return _HOST_NAME.fullmatch(text) is not None


def networks(text: str) -> tuple[Network, ...]:
    """A list of "10.0.0.0/8", "2001:db8::/32" or single addresses, without bits of a host."""
    return tuple(_network(item.strip()) for item in text.split(",")) if text.strip() else ()


def _network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError:
        pass
    try:
        # A stray host bit is a likely typing error in a list that decides whom to believe.
        fixed = f", did you mean {ip_network(text, strict=False)}?"
    except ValueError:
        fixed = ": write 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32"
    raise ValueError(f"{text!r} is not a network{fixed}")


def origins(text: str) -> tuple[str, ...]:
    """A list of origins (RFC 6454 section 6.2), such as "https://panel.example.com"."""
    return tuple(_origin(item.strip()) for item in text.split(",")) if text.strip() else ()


def _origin(text: str) -> str:
    found = _split(text)
    if found is None or found != (found[0], found[1], "") or found[0] not in ("http", "https"):
        raise ValueError(
            f"{text!r} is not an origin: write scheme and host, such as https://panel.example.com"
        )
    return f"{found[0]}://{found[1]}"


def websocket_url(text: str) -> str:
    """A URL that begins with ws:// or wss://; or nothing."""
    if not text:
        return ""
    found = _split(text)
    if found is None or found[0] not in ("ws", "wss"):
        raise ValueError(
            f"{text!r} is not a WebSocket URL: write one such as ws://127.0.0.1:8081/api/ws/logs"
        )
    return text


def _split(text: str) -> tuple[str, str, str] | None:
    """Scheme, host with port, and all that follows; None where it is no URL with a plain host."""
    if re.search(r"[\x00-\x20\x7f-\uffff\\]", text):
        return None
    try:
        parts = urlsplit(text)
        known = parts.port != -1  # raises where the port is no number
    except ValueError:
        return None
    if not known or not parts.hostname or "@" in parts.netloc:
        return None
    rest = parts.path + parts.query + parts.fragment
    return parts.scheme.lower(), parts.netloc.lower(), rest


def statuses(text: str) -> frozenset[int]:
    """Status codes: "200-399", or a list such as "200,301-308"."""
    found: set[int] = set()
    for item in text.split(","):
        match = _STATUS_RANGE.fullmatch(item.strip())
        codes = range(int(match[1]), int(match[2] or match[1]) + 1) if match else range(0)
        if not codes:
            raise ValueError(f"{text!r} is not a range of status codes: write one such as 200-399")
        found.update(codes)
    return frozenset(found)


def token(text: str) -> str:
    """A bearer token, or nothing."""
    # A short one can be guessed, one with odd characters not be sent (RFC 6750 section 2.1).
    if text and not _TOKEN.fullmatch(text):
        raise ValueError(
            "the token is too short or has other characters than letters, digits and -._~+/=:"
            " write at least 16, such as from `openssl rand -hex 32`"
        )
    return text


def network_name(text: str) -> str:
    """A network of the engine that can be made for the apps."""
    if not _NETWORK_NAME.fullmatch(text) or text in _ENGINE_NETWORKS:
        raise ValueError(
            f"{text!r} is not a name for a network of the apps: write letters, digits and -_."
            f" and none of {', '.join(sorted(_ENGINE_NETWORKS))}"
        )
    return text


def image_prefix(text: str) -> str:
    """What the names of images begin with: "fairlead", "registry.example.com:5000/team"."""
    if not _IMAGE_PREFIX.fullmatch(text) or len(text) > 128:
        raise ValueError(
            f"{text!r} is not a prefix of image names: write lower-case letters and digits,"
            " joined by - _ . or /, such as fairlead"
        )
    return text


def log_format(text: str) -> str:
    """Either "text" or "json"."""
    if text not in ("text", "json"):
        raise ValueError(f"{text!r} is neither text nor json")
    return text

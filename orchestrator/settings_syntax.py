"""Owns the syntax of the settings that the orchestrator alone has; the others are the edge's.

All parsers are pure and raise ConfigError with what fits instead.
"""

import re
from ipaddress import IPv4Network
from itertools import chain
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from edge.errors import ConfigError, RouteError
from edge.rules import health_check
from edge.settings.syntax import parse_networks
from orchestrator.errors import RefusedError
from orchestrator.security import validation

# Of the subnet of one app: 32 addresses, of which 14 are for its containers (blue and green, in
# turn), as many for what an operator connects. A /16 is enough for 2,048 apps.
APP_SUBNET_PREFIX: Final = 27
# Below the ports that need a privilege no app is published, nor where the kernel takes ports for
# outgoing connections (ip_local_port_range): a connection to a dead one may reach itself.
MIN_PORT: Final = 1024
MAX_PORT: Final = 32767

# What the engine takes as a name of a network, and as the path of an image (distribution's
# reference grammar: components of lower-case words that single separators join).
_NETWORK_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_IMAGE_PART: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_IMAGE_PREFIX: Final = re.compile(
    rf"(?:{_IMAGE_PART}(?::[0-9]{{1,5}})?/)?{_IMAGE_PART}(?:/{_IMAGE_PART})*"
)
# The engine's own networks: containers on them cannot be told apart from strangers, or are not
# separated from the host at all.
_ENGINE_NETWORKS: Final = frozenset({"bridge", "host", "none", "default", "container"})


def parse_origins(text: str) -> tuple[str, ...]:
    """A list of origins (RFC 6454 section 6.2), such as "https://panel.example.com"."""
    return tuple(_parse_origin(item.strip()) for item in text.split(",")) if text.strip() else ()


def _parse_origin(text: str) -> str:
    found = _split(text)
    if found is None or found != (found[0], found[1], "") or found[0] not in ("http", "https"):
        raise ConfigError(
            f"{text!r} is not an origin: write scheme and host, such as https://panel.example.com"
        )
    return f"{found[0]}://{found[1]}"


def parse_websocket_url(text: str) -> str:
    """A URL that begins with ws:// or wss://; or nothing."""
    if not text:
        return ""
    found = _split(text)
    if found is None or found[0] not in ("ws", "wss"):
        raise ConfigError(
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


def parse_statuses(text: str) -> frozenset[int]:
    """Final status codes, as a route's check takes them: "200-399", or "200,301-308"."""
    try:
        ranges = health_check.parse_statuses(text.replace(" ", ""))
    except RouteError as error:
        raise ConfigError(f"{text!r} {error}") from None
    return frozenset(chain.from_iterable(ranges))


def parse_folders(text: str) -> tuple[Path, ...]:
    """A list of absolute paths, or nothing; commas separate."""
    folders = [Path(item.strip()) for item in text.split(",") if item.strip()]
    for folder in folders:
        if not folder.is_absolute():
            raise ConfigError(f"{str(folder)!r} is not an absolute path: write it from / on")
    return tuple(folders)


def parse_app_subnets(text: str) -> tuple[IPv4Network, ...]:
    """Ranges that the subnets of the apps are parts of: "10.213.0.0/16"."""
    found = parse_networks(text)
    ranges = [each for each in found if isinstance(each, IPv4Network)]
    if (
        not ranges
        or len(ranges) < len(found)
        or any(each.prefixlen > APP_SUBNET_PREFIX for each in ranges)
    ):
        raise ConfigError(
            f"{text!r} gives no room for subnets of apps: write IPv4 networks of at least a"
            f" /{APP_SUBNET_PREFIX}, such as 10.213.0.0/16"
        )
    return tuple(ranges)


def parse_ports(text: str) -> range:
    """A range of ports, such as "20000-29999", that no outgoing connection takes."""
    ends = re.fullmatch(r"(\d{1,5})-(\d{1,5})", text)
    low, high = (int(ends[1]), int(ends[2])) if ends else (0, 0)
    if not MIN_PORT <= low <= high <= MAX_PORT:
        raise ConfigError(
            f"{text!r} is not a range of ports: write one within {MIN_PORT}-{MAX_PORT}, such as"
            " 20000-29999; the ports above are for outgoing connections"
        )
    return range(low, high + 1)


def parse_network_name(text: str) -> str:
    """A name that those of the engine's networks can begin with."""
    if not _NETWORK_NAME.fullmatch(text) or text in _ENGINE_NETWORKS:
        raise ConfigError(
            f"{text!r} is not a name for networks of the apps: write letters, digits and -_."
            f" and none of {', '.join(sorted(_ENGINE_NETWORKS))}"
        )
    return text


def parse_image_prefix(text: str) -> str:
    """What the names of images begin with: "fairlead", "registry.example.com:5000/team"."""
    if not _IMAGE_PREFIX.fullmatch(text) or len(text) > 128:
        raise ConfigError(
            f"{text!r} is not a prefix of image names: write lower-case letters and digits,"
            " joined by - _ . or /, such as fairlead"
        )
    return text


def parse_build_fetch(text: str) -> str:
    """One of three words."""
    if text not in ("public", "none", "any"):
        raise ConfigError(f"{text!r} is neither public nor none nor any")
    return text


def parse_log_format(text: str) -> str:
    """Either "text" or "json"."""
    if text not in ("text", "json"):
        raise ConfigError(f"{text!r} is neither text nor json")
    return text


def parse_health_path(text: str) -> str:
    """The path and query of a health check, as a deploy may give it too."""
    try:
        return validation.check_health_path(text)
    except RefusedError as error:
        raise ConfigError(str(error)) from None

"""Owns every setting of the edge: its name, flag, variable, default, unit, meaning and syntax.

The fields of `Settings` are the only list of settings. The options of the command line and
docs/configuration.md are made from it, through `SETTINGS`.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from edge.errors import ConfigError

T = TypeVar("T")
Network = IPv4Network | IPv6Network

# A size goes into Content-Length arithmetic and SQLite, where integers have 63 bits.
MAX_SIZE = 2**63 - 1
# One year, in seconds. The event loop's timers overflow on absurd delays; nobody waits longer.
MAX_DURATION = 31_536_000.0
# A browser's head is 600 bytes; under this limit (bytes) nothing could be served at all, and
# "32", meant as KiB, is a likely slip.
MIN_MAX_HEAD = 1024
MIN_MAX_TARGET = 64

_SIZE = re.compile(r"([0-9]{1,19})(|B|KiB|MiB|GiB)", re.IGNORECASE)
_SIZE_UNITS = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_DURATION = re.compile(r"[0-9]{1,15}(\.[0-9]{1,15})?|\.[0-9]{1,15}")
_COUNT = re.compile(r"[0-9]{1,9}")
_ADDRESS = re.compile(r"(?:\[(?P<ipv6>[^\[\]]+)\]|(?P<host>[^\[\]:]*)):(?P<port>[0-9]{1,5})")
_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,252})")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{16,}")
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


def parse_size(text: str) -> int:
    """The bytes that `text` names: "4096", "32KiB", "10MiB", "1GiB"; case does not matter.

    Raises ConfigError where it is no size, or one over 2**63 - 1.
    """
    match = _SIZE.fullmatch(text.strip())
    size = int(match[1]) * _SIZE_UNITS[match[2].lower()] if match else -1
    if not 0 <= size <= MAX_SIZE:
        raise ConfigError(
            f"{text!r} is not a size: write a number of bytes, or one with KiB, MiB or GiB, such"
            " as 32KiB"
        )
    return size


def parse_duration(text: str) -> float:
    """The seconds that `text` names: "30", "0.5"; from 0 to one year.

    Raises ConfigError where it is no duration.
    """
    seconds = float(text) if _DURATION.fullmatch(text.strip()) else -1.0
    if not 0 <= seconds <= MAX_DURATION:
        raise ConfigError(f"{text!r} is not a duration: write seconds, such as 30 or 0.5")
    return seconds


def parse_address(text: str) -> Address:
    """The address that `text` names: "127.0.0.1:80", "[::1]:80", "name:80", or ":80" for all.

    Raises ConfigError where it is no address; the name is not looked up.
    """
    match = _ADDRESS.fullmatch(text.strip())
    if match is None or int(match["port"]) > 65535:
        raise ConfigError(
            f"{text!r} is not an address: write host:port, [ipv6]:port, or :port for all addresses"
        )
    host = match["ipv6"] or match["host"]
    if match["ipv6"]:
        if not _is_ipv6(host):
            raise ConfigError(f"{text!r} is not an address: {host!r} is not an IPv6 address")
    elif host and not _is_host(host):
        raise ConfigError(f"{text!r} is not an address: {host!r} is neither an IP nor a host name")
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


def _parse_addresses(text: str) -> tuple[Address, ...]:
    return tuple(parse_address(item) for item in text.split(","))


def _parse_networks(text: str) -> tuple[Network, ...]:
    return tuple(parse_network(item.strip()) for item in text.split(",")) if text.strip() else ()


def parse_network(text: str) -> Network:
    """The network that `text` names: "10.0.0.0/8", "2001:db8::/32", or a single address.

    Raises ConfigError where it is no network, or has bits of a host in it.
    """
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


def _parse_boolean(text: str) -> bool:
    value = _BOOLEANS.get(text.strip().lower())
    if value is None:
        raise ConfigError(f"{text!r} is not a boolean: write true or false")
    return value


def _parse_path(text: str) -> Path:
    return Path(_parse_destination(text))


def _parse_optional_path(text: str) -> Path | None:
    return Path(text) if text.strip() else None


def _parse_token(text: str) -> str:
    # A short one can be guessed, one with odd characters not be sent (RFC 6750 section 2.1).
    if text and not _TOKEN.fullmatch(text):
        raise ConfigError(
            "the token is too short or has other characters than letters, digits and -._~+/=:"
            " write at least 16, such as from `openssl rand -hex 32`"
        )
    return text


def _parse_destination(text: str) -> str:
    if not text.strip():
        raise ConfigError("the path is empty: write the path of a file")
    return text


def _count(minimum: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = int(text) if _COUNT.fullmatch(text.strip()) else -1
        if value < minimum:
            raise ConfigError(f"{text!r} is not a whole number from {minimum} to 999999999")
        return value

    return parse


def _size(minimum: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        size = parse_size(text)
        if size < minimum:
            raise ConfigError(f"{text!r} is too small: the minimum is {minimum} bytes")
        return size

    return parse


def _positive_duration(text: str) -> float:
    seconds = parse_duration(text)
    if seconds == 0:
        raise ConfigError(f"{text!r} is too short: write seconds above 0, such as 30 or 0.5")
    return seconds


def _setting(
    topic: str,
    default: str,
    parse: Callable[[str], T],
    unit: str,
    meaning: str,
    *,
    godeploy: bool = False,
) -> T:
    """A field of `Settings`; its default is written, and parsed, as a user would write it."""
    metadata = {
        "topic": topic,
        "default": default,
        "parse": parse,
        "unit": unit,
        "meaning": meaning,
        "godeploy": godeploy,
    }
    # dataclasses.field is typed in the same way: it returns a Field and says that it is the value.
    value: T = field(default=parse(default), metadata=metadata)
    return value


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of the edge, checked. Durations are seconds, sizes bytes."""

    db: Path = _setting(  # noqa: RUF009  a Path never changes; ruff knows only of built-in types
        "Files and addresses",
        "fairlead.db",
        _parse_path,
        "path",
        "SQLite database of the routes.",
        godeploy=True,
    )
    http_addr: tuple[Address, ...] = _setting(
        "Files and addresses",
        ":80",
        _parse_addresses,
        "addresses",
        "Addresses to listen on for HTTP.",
    )
    admin_addr: tuple[Address, ...] = _setting(
        "Files and addresses",
        "127.0.0.1:8082",
        _parse_addresses,
        "addresses",
        "Addresses of the admin API (health, metrics, routes); keep them private.",
    )
    admin_token: str = _setting(
        "Files and addresses",
        "",
        _parse_token,
        "text",
        "Bearer token for reload, drain and upgrade over FAIRLEAD_ADMIN_ADDR. Empty: these are"
        " only possible over the control socket, which needs no token.",
    )
    control_socket: Path | None = _setting(  # noqa: RUF009  as `db`
        "Files and addresses",
        "",
        _parse_optional_path,
        "path",
        "Unix socket of the admin API, for its owner only. Empty: the database's path with the"
        " suffix"
        " .sock.",
    )
    workers: int = _setting(
        "Files and addresses",
        "0",
        _count(0),
        "count",
        "Number of worker processes. 0: one per CPU core.",
    )
    poll_interval: float = _setting(
        "Files and addresses",
        "1",
        _positive_duration,
        "seconds",
        "Interval at which the database is checked for changed routes.",
    )
    max_head: int = _setting(
        "Limits",
        "32KiB",
        _size(MIN_MAX_HEAD),
        "bytes",
        "Maximum size of a request or response head; a larger request is answered 431, a larger"
        " response 502.",
    )
    max_fields: int = _setting(
        "Limits",
        "100",
        _count(1),
        "count",
        "Maximum number of header fields in a request or response; a request with more is answered"
        " 431, a response 502.",
    )
    max_target: int = _setting(
        "Limits",
        "8KiB",
        _size(MIN_MAX_TARGET),
        "bytes",
        "Maximum length of a request's path and query; a longer one is answered 414.",
    )
    max_body: int = _setting(
        "Limits",
        "0",
        parse_size,
        "bytes",
        "Maximum size of a request body, unless the route sets its own; a larger one is answered"
        " 413. 0: no limit.",
    )
    max_connections: int = _setting(
        "Limits",
        "10000",
        _count(1),
        "count",
        "Maximum number of client connections per worker; further ones are answered 503 and"
        " closed.",
    )
    head_timeout: float = _setting(
        "Timeouts",
        "10",
        _positive_duration,
        "seconds",
        "Timeout for reading the request head, from its first byte (answers 408).",
    )
    body_timeout: float = _setting(
        "Timeouts",
        "30",
        _positive_duration,
        "seconds",
        "Idle timeout while reading the request body (answers 408); an upload as a whole has no"
        " time"
        " limit.",
    )
    idle_timeout: float = _setting(
        "Timeouts",
        "120",
        _positive_duration,
        "seconds",
        "Idle timeout of a client connection between requests (closes it).",
    )
    connect_timeout: float = _setting(
        "Timeouts",
        "5",
        _positive_duration,
        "seconds",
        "Timeout for connecting to a target (tries the next target, or answers 502).",
    )
    response_timeout: float = _setting(
        "Timeouts",
        "60",
        _positive_duration,
        "seconds",
        "Timeout for the response head, from the end of the request (answers 504).",
    )
    stream_timeout: float = _setting(
        "Timeouts",
        "300",
        _positive_duration,
        "seconds",
        "Idle timeout while reading the response body (closes the client's connection).",
    )
    send_timeout: float = _setting(
        "Timeouts",
        "60",
        _positive_duration,
        "seconds",
        "Timeout for sending to a client that reads nothing (closes its connection).",
    )
    tunnel_timeout: float = _setting(
        "Timeouts",
        "3600",
        _positive_duration,
        "seconds",
        "Idle timeout of a tunnel: a WebSocket or any other upgraded connection (closes it).",
    )
    drain_timeout: float = _setting(
        "Timeouts",
        "30",
        parse_duration,
        "seconds",
        "Time that requests in flight and tunnels have to finish after SIGTERM; what is left is cut"
        " off. 0: all at once.",
    )
    pool_size: int = _setting(
        "Upstream connections",
        "256",
        _count(0),
        "count",
        "Maximum number of idle upstream connections kept per target and worker. 0: none.",
    )
    pool_idle: float = _setting(
        "Upstream connections",
        "60",
        _positive_duration,
        "seconds",
        "Idle timeout of an upstream connection in the pool (closes it).",
    )
    trusted_proxies: tuple[Network, ...] = _setting(
        "Forwarding",
        "",
        _parse_networks,
        "networks",
        "Networks of proxies in front whose X-Forwarded-* and Forwarded fields are trusted.",
    )
    proxy_protocol: bool = _setting(
        "Forwarding",
        "false",
        _parse_boolean,
        "true or false",
        "Expect a PROXY protocol header (version 1 or 2) on connections from trusted proxies.",
    )
    forwarded: bool = _setting(
        "Forwarding",
        "false",
        _parse_boolean,
        "true or false",
        "Send upstreams a Forwarded field (RFC 7239) beside X-Forwarded-*.",
    )
    hide_server: bool = _setting(
        "Forwarding",
        "true",
        _parse_boolean,
        "true or false",
        "Remove the Server field from upstream responses.",
    )
    affinity_secret: str = _setting(
        "Forwarding",
        "",
        str,
        "text",
        "Secret key of affinity cookies, so that they do not reveal target addresses; the same"
        " on all"
        " edges of a site.",
    )
    access_log: str = _setting(
        "Access log",
        "off",
        _parse_destination,
        "off, stdout or path",
        "Destination of the access log, one JSON line per request; a file is reopened on SIGUSR1.",
    )

    @property
    def control_path(self) -> Path:
        """Where the control socket is."""
        return self.control_socket or self.db.with_suffix(".sock")


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of `Settings`, as the command line and the documentation need it."""

    name: str  # of the field
    topic: str
    default: str  # as a user would write it
    unit: str
    meaning: str  # one line
    parse: Callable[[str], Any]  # raises ConfigError
    variables: tuple[str, ...]  # of the environment; the first that is set counts

    @property
    def flag(self) -> str:
        """The option of the command line, such as `--http-addr`."""
        return "--" + self.name.replace("_", "-")


def _describe() -> tuple[Setting, ...]:
    described = []
    for each in fields(Settings):
        metadata = dict(each.metadata)
        prefixes = ("FAIRLEAD_", "GODEPLOY_") if metadata.pop("godeploy") else ("FAIRLEAD_",)
        variables = tuple(prefix + each.name.upper() for prefix in prefixes)
        described.append(Setting(name=each.name, variables=variables, **metadata))
    return tuple(described)


SETTINGS = _describe()


def load(flags: Mapping[str, str | None], environ: Mapping[str, str]) -> Settings:
    """The settings: a flag, else FAIRLEAD_X, else (where it exists) GODEPLOY_X, else the default.

    `flags` maps names of fields to what was given, None where the flag was not given. An empty
    variable counts as unset, as it does in a unit file or a compose file that passes one on.
    Raises ConfigError that names the flag or variable of the bad value.
    """
    settings, errors = read(flags, environ)
    for error in errors.values():
        raise error
    return settings


def read(
    flags: Mapping[str, str | None], environ: Mapping[str, str]
) -> tuple[Settings, dict[str, ConfigError]]:
    """As `load`, with every error by the name of its field, which then has its default."""
    values: dict[str, Any] = {}
    errors: dict[str, ConfigError] = {}
    for setting, origin, text in _given(flags, environ):
        try:
            values[setting.name] = setting.parse(text)
        except ConfigError as error:
            errors[setting.name] = ConfigError(f"{origin}: {error}")
    settings = Settings(**values)
    if settings.proxy_protocol and not (settings.trusted_proxies or "trusted_proxies" in errors):
        errors["proxy_protocol"] = ConfigError(
            "FAIRLEAD_PROXY_PROTOCOL needs FAIRLEAD_TRUSTED_PROXIES: name the proxies that send"
            " the header, or any client could forge its address"
        )
    return settings, errors


def given_texts(flags: Mapping[str, str | None], environ: Mapping[str, str]) -> dict[str, str]:
    """What differs from the defaults, as flags that make `load` return the same settings."""
    return {setting.name: text for setting, _, text in _given(flags, environ)}


def _given(
    flags: Mapping[str, str | None], environ: Mapping[str, str]
) -> Iterator[tuple[Setting, str, str]]:
    """Each setting that was given, where, and its text."""
    for setting in SETTINGS:
        given = [(setting.flag, flags.get(setting.name))]
        given += [(variable, environ.get(variable) or None) for variable in setting.variables]
        for origin, text in given:
            if text is not None:
                yield setting, origin, text
                break

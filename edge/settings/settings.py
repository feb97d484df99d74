"""Owns the list of the edge's settings: each with its default, unit, meaning and syntax.

The fields of `Settings` are the only list. The options of the command line and
docs/configuration.md are made from it, through `SETTINGS`.
"""

import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge.errors import ConfigError
from edge.settings.schema import Schema, secret, setting
from edge.settings.syntax import (
    BEARER,
    BEARER_RULE,
    METRICS_AUTH,
    Address,
    Network,
    count_from,
    parse_addresses,
    parse_boolean,
    parse_duration,
    parse_metrics_auth,
    parse_name_servers,
    parse_networks,
    parse_optional_path,
    parse_path,
    parse_positive_duration,
    parse_size,
    size_between,
)

# A browser's head is 600 bytes; under this limit (bytes) nothing could be served at all, and
# "32", meant as KiB, is a likely slip.
MIN_MAX_HEAD: Final = 1024
MIN_MAX_TARGET: Final = 64

_FILES: Final = "Files and addresses"
_LIMITS: Final = "Limits"
_TIMEOUTS: Final = "Timeouts"
_UPSTREAM: Final = "Upstream connections"
_FORWARDING: Final = "Forwarding"
_ACCESS_LOG: Final = "Access log"


def _parse_destination(text: str) -> str:
    parse_path(text)
    return text


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of the edge, checked. Durations are seconds, sizes bytes."""

    db: Path = setting(  # noqa: RUF009  a Path never changes; ruff knows only of built-in types
        _FILES,
        "fairlead.db",
        parse_path,
        "path",
        "SQLite database of the routes.",
        godeploy=True,
    )
    http_addr: tuple[Address, ...] = setting(
        _FILES,
        ":80",
        parse_addresses,
        "addresses",
        "Addresses to listen on for HTTP.",
    )
    admin_addr: tuple[Address, ...] = setting(
        _FILES,
        "127.0.0.1:8082",
        parse_addresses,
        "addresses",
        "Addresses of the admin API (health, metrics, routes); keep them private.",
    )
    api_token: str = secret(
        _FILES,
        "Bearer token of an admin for FAIRLEAD_ADMIN_ADDR, beside those of `fairlead tokens`. The"
        " control socket needs none.",
        fits=BEARER,
        rule=BEARER_RULE,
    )
    metrics_auth: str = setting(
        _FILES,
        "loopback",
        parse_metrics_auth,
        "loopback or token",
        METRICS_AUTH,
    )
    control_socket: Path | None = setting(  # noqa: RUF009  as `db`
        _FILES,
        "",
        parse_optional_path,
        "path",
        "Unix socket of the admin API, for its owner, root and the group fairlead. Empty: the"
        " database's path with the suffix .sock.",
    )
    workers: int = setting(
        _FILES,
        "0",
        count_from(0),
        "count",
        "Number of worker processes. 0: one per CPU core.",
    )
    poll_interval: float = setting(
        _FILES,
        "1",
        parse_positive_duration,
        "seconds",
        "Interval at which the database is checked for changed routes.",
    )
    max_head: int = setting(
        _LIMITS,
        "32KiB",
        size_between(MIN_MAX_HEAD),
        "bytes",
        "Maximum size of a request or response head; a larger request is answered 431, a larger"
        " response 502.",
    )
    max_fields: int = setting(
        _LIMITS,
        "100",
        count_from(1),
        "count",
        "Maximum number of header fields in a request or response; a request with more is answered"
        " 431, a response 502.",
    )
    max_target: int = setting(
        _LIMITS,
        "8KiB",
        size_between(MIN_MAX_TARGET),
        "bytes",
        "Maximum length of a request's path and query; a longer one is answered 414.",
    )
    max_body: int = setting(
        _LIMITS,
        "0",
        parse_size,
        "bytes",
        "Maximum size of a request body, unless the route sets its own; a larger one is answered"
        " 413. 0: no limit.",
    )
    max_connections: int = setting(
        _LIMITS,
        "10000",
        count_from(1),
        "count",
        "Maximum number of client connections per worker; idle ones are closed for further ones,"
        " which are else answered 503 and closed.",
    )
    max_buffered: int = setting(
        _LIMITS,
        "0",
        parse_size,
        "bytes",
        "Maximum memory per worker for data that waits for slow clients and upstreams; beyond it,"
        " those nearest to their timeouts are cut. 0: a quarter of the machine's memory, or of the"
        " container's, shared by the workers.",
    )
    head_timeout: float = setting(
        _TIMEOUTS,
        "10",
        parse_positive_duration,
        "seconds",
        "Timeout for reading the request head, from its first byte (answers 408).",
    )
    body_timeout: float = setting(
        _TIMEOUTS,
        "30",
        parse_positive_duration,
        "seconds",
        "Idle timeout while reading the request body (answers 408); an upload as a whole has no"
        " time limit.",
    )
    idle_timeout: float = setting(
        _TIMEOUTS,
        "120",
        parse_positive_duration,
        "seconds",
        "Idle timeout of a client connection between requests (closes it).",
    )
    connect_timeout: float = setting(
        _TIMEOUTS,
        "5",
        parse_positive_duration,
        "seconds",
        "Timeout for connecting to a target (tries the next target, or answers 502).",
    )
    response_timeout: float = setting(
        _TIMEOUTS,
        "60",
        parse_positive_duration,
        "seconds",
        "Timeout for the response head, from the end of the request (answers 504).",
    )
    stream_timeout: float = setting(
        _TIMEOUTS,
        "300",
        parse_positive_duration,
        "seconds",
        "Idle timeout while reading the response body (closes the client's connection).",
    )
    send_timeout: float = setting(
        _TIMEOUTS,
        "60",
        parse_positive_duration,
        "seconds",
        "Timeout for sending to a client that reads nothing (closes its connection).",
    )
    tunnel_timeout: float = setting(
        _TIMEOUTS,
        "3600",
        parse_positive_duration,
        "seconds",
        "Idle timeout of a tunnel: a WebSocket or any other upgraded connection (closes it).",
    )
    drain_timeout: float = setting(
        _TIMEOUTS,
        "30",
        parse_duration,
        "seconds",
        "Time that requests in flight and tunnels have to finish after SIGTERM; what is left is cut"
        " off. 0: all at once.",
    )
    pool_size: int = setting(
        _UPSTREAM,
        "256",
        count_from(0),
        "count",
        "Maximum number of idle upstream connections kept per target and worker. 0: none.",
    )
    pool_idle: float = setting(
        _UPSTREAM,
        "60",
        parse_positive_duration,
        "seconds",
        "Idle timeout of an upstream connection in the pool (closes it).",
    )
    resolver: tuple[Address, ...] = setting(
        _UPSTREAM,
        "",
        parse_name_servers,
        "addresses",
        "Name servers that are asked for names in targets: IP addresses, each perhaps with a port."
        " Empty: those of /etc/resolv.conf.",
    )
    trusted_proxies: tuple[Network, ...] = setting(
        _FORWARDING,
        "",
        parse_networks,
        "networks",
        "Networks of proxies in front whose X-Forwarded-* and Forwarded fields are trusted.",
    )
    proxy_protocol: bool = setting(
        _FORWARDING,
        "false",
        parse_boolean,
        "true or false",
        "Expect a PROXY protocol header (version 1 or 2) on connections from trusted proxies.",
    )
    forwarded: bool = setting(
        _FORWARDING,
        "false",
        parse_boolean,
        "true or false",
        "Send upstreams a Forwarded field (RFC 7239) beside X-Forwarded-*.",
    )
    hide_server: bool = setting(
        _FORWARDING,
        "true",
        parse_boolean,
        "true or false",
        "Remove the Server field from upstream responses.",
    )
    affinity_secret: str = secret(
        _FORWARDING,
        "Secret key of affinity cookies, so that they do not reveal target addresses; the same"
        " on all edges of a site.",
    )
    access_log: str = setting(
        _ACCESS_LOG,
        "off",
        _parse_destination,
        "off, stdout or path",
        "Destination of the access log, one JSON line per request; a file is reopened on SIGUSR1.",
    )

    @property
    def control_path(self) -> Path:
        """Where the control socket is."""
        return self.control_socket or self.db.with_suffix(".sock")

    @property
    def worker_count(self) -> int:
        """How many worker processes there are."""
        return self.workers or len(os.sched_getaffinity(0))


def _check_proxy_protocol(settings: Settings, refused: Collection[str]) -> dict[str, ConfigError]:
    if not settings.proxy_protocol or settings.trusted_proxies or "trusted_proxies" in refused:
        return {}
    return {
        "proxy_protocol": ConfigError(
            "FAIRLEAD_PROXY_PROTOCOL needs FAIRLEAD_TRUSTED_PROXIES: name the proxies that send"
            " the header, or any client could forge its address"
        )
    }


_SCHEMA: Final = Schema(Settings, _check_proxy_protocol)
SETTINGS: Final = _SCHEMA.settings
load: Final = _SCHEMA.load
read: Final = _SCHEMA.read
given_texts: Final = _SCHEMA.given_texts

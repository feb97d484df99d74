"""Owns the list of the orchestrator's settings: each with its default, unit, meaning and syntax.

The fields of `Settings` are the only list. The options of the command line and the table in
docs/configuration.md are made from it, through `SETTINGS`.
"""

from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Final

from edge.errors import ConfigError
from edge.rules.rate_limit import MAX_FILL_TIME, Limit
from edge.settings.schema import Schema, secret, setting
from edge.settings.syntax import (
    BEARER,
    BEARER_RULE,
    METRICS_AUTH,
    Address,
    Network,
    count_from,
    parse_address,
    parse_boolean,
    parse_decimal,
    parse_duration,
    parse_metrics_auth,
    parse_networks,
    parse_optional_path,
    parse_path,
    parse_positive_duration,
    size_between,
)
from orchestrator.settings_syntax import (
    parse_app_subnets,
    parse_build_fetch,
    parse_folders,
    parse_health_path,
    parse_image_prefix,
    parse_log_format,
    parse_network_name,
    parse_origins,
    parse_ports,
    parse_statuses,
    parse_websocket_url,
)

# GitHub sends no larger payload.
MAX_WEBHOOK_BODY: Final = 25 * 2**20
# The engine refuses a container with less memory than this (bytes).
MIN_MEMORY: Final = 6 * 2**20
# A page: the kernel takes a size of 0 for no limit.
MIN_TMP: Final = 4096

_FILES: Final = "Orchestrator"
_WEBHOOKS: Final = "Webhooks and API access"
_SOURCES: Final = "Git and builds"
_CONTAINERS: Final = "Containers"
_DISK: Final = "Disk"
_CUTOVER: Final = "Cutover"


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of the orchestrator, checked. Durations are seconds, sizes bytes."""

    addr: Address = setting(  # noqa: RUF009  an Address never changes
        _FILES,
        "127.0.0.1:8081",
        parse_address,
        "address",
        "Address that the webhook endpoint and the API listen on.",
        godeploy=True,
    )
    db: Path = setting(  # noqa: RUF009  as `addr`
        _FILES,
        "fairlead.db",
        parse_path,
        "path",
        "SQLite database of the routes, shared with the edge.",
        godeploy=True,
    )
    state_db: Path | None = setting(  # noqa: RUF009  as `addr`
        _FILES,
        "",
        parse_optional_path,
        "path",
        "SQLite database of apps, deploys, deliveries and tokens, for the orchestrator's user"
        " alone. Empty: the path of FAIRLEAD_DB with `.state.db`.",
    )
    control_socket: Path | None = setting(  # noqa: RUF009  as `addr`
        _FILES,
        "",
        parse_optional_path,
        "path",
        "Unix socket of the edge's control API. Empty: the path of FAIRLEAD_DB with `.sock`.",
    )
    api_socket: Path | None = setting(  # noqa: RUF009  as `addr`
        _FILES,
        "",
        parse_optional_path,
        "path",
        "Unix socket of the API, for its owner, root and the group fairlead. Empty: the path of"
        " FAIRLEAD_STATE_DB, or of FAIRLEAD_DB if that is not set, with `.api.sock`.",
    )
    log_format: str = setting(
        _FILES,
        "text",
        parse_log_format,
        "text or json",
        "Format of the orchestrator's log on stderr.",
    )
    log_ws_url: str = setting(
        _FILES,
        "",
        parse_websocket_url,
        "URL",
        "WebSocket URL that `fairlead logtail` reads container logs from. Empty: this"
        " orchestrator.",
        godeploy=True,
    )
    webhook_secret: str = secret(
        _WEBHOOKS,
        "Secret shared with the Git provider to verify webhooks. Empty: a webhook needs a bearer"
        " token with the scope deploy.",
        godeploy=True,
    )
    webhook_unsigned: bool = setting(
        _WEBHOOKS,
        "false",
        parse_boolean,
        "true or false",
        "Without a secret, accept unsigned webhooks from clients on this machine.",
    )
    webhook_rps: float = setting(
        _WEBHOOKS,
        "5",
        parse_decimal,
        "per second",
        "Average rate of webhooks per client address (IPv6: per /64); above it they get 429.",
        godeploy=True,
    )
    webhook_burst: int = setting(
        _WEBHOOKS,
        "30",
        count_from(1),
        "count",
        "Webhooks accepted from one client address in a burst.",
        godeploy=True,
    )
    webhook_wait: float = setting(
        _WEBHOOKS,
        "8",
        parse_duration,
        "seconds",
        "Time that a webhook waits for its deploy before it gets 202. GitHub's timeout is 10 s.",
    )
    webhook_max_body: int = setting(
        _WEBHOOKS,
        "1MiB",
        size_between(1024, MAX_WEBHOOK_BODY),
        "bytes",
        "Max size of a webhook body, up to 25MiB; a larger one gets 413.",
    )
    ws_allowed_origins: tuple[str, ...] = setting(
        _WEBHOOKS,
        "",
        parse_origins,
        "origins",
        "Origins, besides the same origin, whose pages may open log WebSockets.",
        godeploy=True,
    )
    api_token: str = secret(
        _WEBHOOKS,
        "Bearer token of an admin, for containers and scripts; `fairlead tokens create` makes"
        " others. Commands on this machine need none.",
        fits=BEARER,
        rule=BEARER_RULE,
    )
    metrics_auth: str = setting(
        _WEBHOOKS,
        "loopback",
        parse_metrics_auth,
        "loopback or token",
        METRICS_AUTH,
    )
    trusted_proxies: tuple[Network, ...] = setting(
        _WEBHOOKS,
        "",
        parse_networks,
        "networks",
        "Proxies whose X-Forwarded-For is trusted for the client address.",
    )
    git_timeout: float = setting(
        _SOURCES,
        "300",
        parse_positive_duration,
        "seconds",
        "Max duration of a clone; then the deploy fails.",
    )
    git_max_bytes: int = setting(
        _SOURCES,
        "1GiB",
        size_between(1),
        "bytes",
        "Max size of a clone on disk and of a build context; above it the deploy fails.",
    )
    git_submodules: bool = setting(
        _SOURCES,
        "false",
        parse_boolean,
        "true or false",
        "Clone submodules too.",
    )
    local_repos: tuple[Path, ...] = setting(
        _SOURCES,
        "",
        parse_folders,
        "paths",
        "Folders whose repositories may be deployed by file:// URLs. Empty: only an operator of"
        " this machine may, with `fairlead deploy`.",
    )
    build_fetch: str = setting(
        _SOURCES,
        "public",
        parse_build_fetch,
        "public, none or any",
        "Where the engine may fetch from for a Dockerfile, by ADD of a URL and by an image of a"
        " registry that FROM names: public addresses, nowhere (Docker Hub's images only), or any.",
    )
    builds: int = setting(
        _SOURCES,
        "2",
        count_from(1),
        "count",
        "Max concurrent builds. An app runs one deploy at a time.",
    )
    build_memory: int = setting(
        _SOURCES,
        "2GiB",
        size_between(MIN_MEMORY),
        "bytes",
        "Memory limit of a build.",
    )
    build_cpus: float = setting(
        _SOURCES,
        "1",
        parse_decimal,
        "cores",
        "CPU limit of a build.",
    )
    build_timeout: float = setting(
        _SOURCES,
        "1800",
        parse_positive_duration,
        "seconds",
        "Max duration of a build; then the deploy fails.",
    )
    image_prefix: str = setting(
        _SOURCES,
        "fairlead",
        parse_image_prefix,
        "text",
        "Prefix of image names (PREFIX/APP:TAG) and of container names.",
        godeploy=True,
    )
    network: str = setting(
        _CONTAINERS,
        "fairlead",
        parse_network_name,
        "text",
        "What the names of the apps' Docker networks begin with: each app has one of its own.",
        godeploy=True,
    )
    app_subnets: tuple[IPv4Network, ...] = setting(
        _CONTAINERS,
        "10.213.0.0/16",
        parse_app_subnets,
        "networks",
        "Address ranges for the networks of the apps, a /27 each. What overlaps another network"
        " of the engine or a route of this machine is left out.",
    )
    ports: range = setting(
        _CONTAINERS,
        "20000-29999",
        parse_ports,
        "ports",
        "Ports of 127.0.0.1 on which containers are published where the edge cannot reach the"
        " networks of the engine (Docker Desktop, rootless, remote).",
    )
    memory: int = setting(
        _CONTAINERS,
        "256MiB",
        size_between(MIN_MEMORY),
        "bytes",
        "Memory limit of an app container.",
    )
    cpus: float = setting(
        _CONTAINERS,
        "1",
        parse_decimal,
        "cores",
        "CPU limit of an app container.",
    )
    container_read_only: bool = setting(
        _CONTAINERS,
        "false",
        parse_boolean,
        "true or false",
        "App containers cannot write to their files, but for /tmp, which is memory then, and for"
        " what the image declares as VOLUME. For containers made from then on.",
    )
    container_tmp_size: int = setting(
        _CONTAINERS,
        "64MiB",
        size_between(MIN_TMP),
        "bytes",
        "Size of /tmp in a read-only container; what is in it counts as memory of the app.",
    )
    container_disk: int = setting(
        _CONTAINERS,
        "0",
        size_between(0),
        "bytes",
        "Max bytes of an app container's files, but for VOLUMEs; 0: no limit. Needs an engine on"
        " btrfs or zfs (with the image's files), or overlay2 on xfs mounted with pquota (without).",
    )
    bind_docker_sock: bool = setting(
        _CONTAINERS,
        "false",
        parse_boolean,
        "true or false",
        "Mount the Docker socket into every app container: this makes every app root on the host.",
        godeploy=True,
    )
    health_path: str = setting(
        _CONTAINERS,
        "/",
        parse_health_path,
        "path",
        "Health check path of a new container, unless the app or the deploy has its own.",
        godeploy=True,
    )
    health_timeout: float = setting(
        _CONTAINERS,
        "30",
        parse_positive_duration,
        "seconds",
        "Time for a new container to become healthy; then the deploy fails and the old one stays.",
    )
    health_status: frozenset[int] = setting(
        _CONTAINERS,
        "200-399",
        parse_statuses,
        "status codes",
        "Status codes that pass the health check: codes and ranges, separated by commas.",
    )
    stop_timeout: float = setting(
        _CONTAINERS,
        "10",
        parse_duration,
        "seconds",
        "Time between SIGTERM and SIGKILL when an old container is stopped.",
    )
    min_free: int = setting(
        _DISK,
        "1GiB",
        size_between(0),
        "bytes",
        "Free space that a build needs on the disks of the engine and of the database. Below it,"
        " Fairlead prunes; if that is not enough, the deploy fails. A build that would take half of"
        " it is stopped. 0: no limit.",
    )
    keep_releases: int = setting(
        _DISK,
        "5",
        count_from(1),
        "count",
        "Releases of an app that are kept, with image, record and log, the live one among them; and"
        " how many images of failed deploys after it.",
    )
    history_age: float = setting(
        _DISK,
        "2592000",
        parse_positive_duration,
        "seconds",
        "Age at which webhook deliveries, and records, logs and build cache of deploys are removed."
        " The default is 30 days.",
    )
    history_size: int = setting(
        _DISK,
        "512MiB",
        size_between(1024 * 1024),
        "bytes",
        "Max size of the webhook deliveries, of the records and of the logs of deploys, each; the"
        " oldest ones are removed.",
    )
    drain_timeout: float = setting(
        _CUTOVER,
        "30",
        parse_duration,
        "seconds",
        "Time for requests in flight on an old container to finish; then they are aborted. Set"
        " for the edge too.",
    )
    tunnel_drain_timeout: float = setting(
        _CUTOVER,
        "30",
        parse_duration,
        "seconds",
        "Time for tunnels (WebSockets) to an old container to end; then they are closed with a"
        " close frame.",
    )

    rollback_window: float = setting(
        _CUTOVER,
        "10",
        parse_duration,
        "seconds",
        "Time after the switch in which the old container is kept: if the new one ends in it, the"
        " old one serves again and the deploy fails.",
    )

    @property
    def trusts_containers(self) -> bool:
        """Whether an app's container may pass for a proxy, and so any client for another."""
        return any(
            proxies.overlaps(subnet)
            for proxies in self.trusted_proxies
            if isinstance(proxies, IPv4Network)
            for subnet in self.app_subnets
        )

    @property
    def control_path(self) -> Path:
        """Where the edge's control socket is."""
        return self.control_socket or self.db.with_suffix(".sock")

    @property
    def state_path(self) -> Path:
        """Where the state is."""
        return self.state_db or self.db.with_suffix(".state.db")

    @property
    def api_path(self) -> Path:
        """Where the socket of the API is."""
        return self.api_socket or self._own.with_suffix(".api.sock")

    @property
    def logs_folder(self) -> Path:
        """Where the logs of the deploys are."""
        return self._own.with_suffix(".deploys")

    @property
    def work_folder(self) -> Path:
        """Where the clones are while they are needed."""
        return self._own.with_suffix(".work")

    @property
    def lock_path(self) -> Path:
        """What the one orchestrator of a database holds a lock on."""
        return self._own.with_suffix(".lock")

    @property
    def _own(self) -> Path:
        """What the files are named after that are the orchestrator's alone."""
        return self.state_db or self.db


def _check(settings: Settings, refused: Collection[str]) -> dict[str, ConfigError]:
    return _check_rate(settings, refused) | _check_state(settings)


def _check_state(settings: Settings) -> dict[str, ConfigError]:
    if settings.state_path != settings.db:
        return {}
    return {
        "state_db": ConfigError(
            "FAIRLEAD_STATE_DB is FAIRLEAD_DB, which the edge reads: set it to another file"
        )
    }


def _check_rate(settings: Settings, refused: Collection[str]) -> dict[str, ConfigError]:
    limit = Limit.of(settings.webhook_rps, settings.webhook_burst)
    if limit.seconds <= MAX_FILL_TIME or not {"webhook_rps", "webhook_burst"}.isdisjoint(refused):
        return {}
    return {
        "webhook_burst": ConfigError(
            f"FAIRLEAD_WEBHOOK_BURST would take more than {MAX_FILL_TIME:g} s to refill at this"
            " FAIRLEAD_WEBHOOK_RPS: use a smaller burst or a higher rate"
        )
    }


_SCHEMA: Final = Schema(Settings, _check)
SETTINGS: Final = _SCHEMA.settings
load: Final = _SCHEMA.load

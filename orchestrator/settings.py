"""Owns every setting of the orchestrator: its name, flag, variable, default, unit and meaning.

The fields of `Settings` are the only list of settings. The options of the command line and the
table in docs/configuration.md are made from it, through `SETTINGS`.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

from pydantic import BeforeValidator, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from edge.errors import ConfigError
from orchestrator import settings_syntax as syntax
from orchestrator.errors import RefusedError
from orchestrator.security import validation
from orchestrator.settings_syntax import Address, Network

T = TypeVar("T")

# GitHub sends no larger payload.
MAX_WEBHOOK_BODY: Final = 25 * 2**20
# The engine refuses a container with less memory than this (bytes).
MIN_MEMORY: Final = 6 * 2**20


def _health_path(text: str) -> str:
    try:
        return validation.check_health_path(text)
    except RefusedError as error:
        raise ValueError(str(error)) from None


def _text(parse: Callable[[str], T]) -> BeforeValidator:
    """Parses what comes as text; a value that code gives is taken as it is."""
    return BeforeValidator(lambda given: parse(given) if isinstance(given, str) else given)


def _setting(
    topic: str, default: str, parse: Callable[[str], T], unit: str, meaning: str, **how: bool
) -> T:
    """A field of `Settings`; its default is written, and parsed, as a user would write it.

    `how`: `godeploy` where the seed has the setting too, `secret` where nobody may see it.
    """
    described: dict[str, Any] = {
        "topic": topic,
        "default": default,
        "unit": unit,
        "meaning": meaning,
        "godeploy": how.get("godeploy", False),
    }
    # pydantic.Field is typed in the same way: it returns a FieldInfo, whatever it says.
    value: T = Field(parse(default), repr=not how.get("secret"), json_schema_extra=described)
    return value


class _GodeploySource(EnvSettingsSource):
    """The variables of godeploy-platform: its eleven, and no other."""

    def __init__(self, settings: type[BaseSettings]) -> None:
        super().__init__(settings, env_prefix="GODEPLOY_")

    def __call__(self) -> dict[str, Any]:
        godeploy = {setting.name for setting in SETTINGS if len(setting.variables) > 1}
        return {name: text for name, text in super().__call__().items() if name in godeploy}


_FILES = "Orchestrator"
_WEBHOOKS = "Webhooks and API access"
_SOURCES = "Git and builds"
_CONTAINERS = "Containers"
_CUTOVER = "Cutover"


class Settings(BaseSettings):
    """All settings of the orchestrator, checked. Durations are seconds, sizes bytes.

    What is not given comes from the environment, then from the defaults.
    """

    model_config = SettingsConfigDict(
        env_prefix="FAIRLEAD_",
        env_ignore_empty=True,
        enable_decoding=False,
        frozen=True,
        extra="forbid",
        arbitrary_types_allowed=True,
    )

    addr: Annotated[Address, _text(syntax.address)] = _setting(
        _FILES,
        "127.0.0.1:8081",
        syntax.address,
        "address",
        "Address that the webhook endpoint and the API listen on.",
        godeploy=True,
    )
    db: Annotated[Path, _text(syntax.path)] = _setting(
        _FILES,
        "fairlead.db",
        syntax.path,
        "path",
        "SQLite database of deploys and routes, shared with the edge.",
        godeploy=True,
    )
    control_socket: Annotated[Path | None, _text(syntax.optional_path)] = _setting(
        _FILES,
        "",
        syntax.optional_path,
        "path",
        "Unix socket of the edge's control API. Empty: the path of the database with `.sock`.",
    )
    log_format: Annotated[str, _text(syntax.log_format)] = _setting(
        _FILES,
        "text",
        syntax.log_format,
        "text or json",
        "Format of the orchestrator's log on stderr.",
    )
    log_ws_url: Annotated[str, _text(syntax.websocket_url)] = _setting(
        _FILES,
        "",
        syntax.websocket_url,
        "URL",
        "WebSocket URL that `fairlead logtail` reads container logs from. Empty: this"
        " orchestrator.",
        godeploy=True,
    )
    webhook_secret: Annotated[str, _text(str)] = _setting(
        _WEBHOOKS,
        "",
        str,
        "text",
        "Secret shared with the Git provider to verify webhooks. Empty: only clients on this"
        " machine may deploy.",
        godeploy=True,
        secret=True,
    )
    webhook_rps: Annotated[float, _text(syntax.decimal)] = _setting(
        _WEBHOOKS,
        "5",
        syntax.decimal,
        "per second",
        "Average rate of webhooks per client address (IPv6: per /64); above it they get 429.",
        godeploy=True,
    )
    webhook_burst: Annotated[int, _text(syntax.count(1))] = _setting(
        _WEBHOOKS,
        "30",
        syntax.count(1),
        "count",
        "Webhooks accepted from one client address in a burst.",
        godeploy=True,
    )
    webhook_wait: Annotated[float, _text(syntax.duration)] = _setting(
        _WEBHOOKS,
        "8",
        syntax.duration,
        "seconds",
        "Time that a webhook waits for its deploy before it gets 202. GitHub's timeout is 10 s.",
    )
    webhook_max_body: Annotated[int, _text(syntax.size(1024, MAX_WEBHOOK_BODY))] = _setting(
        _WEBHOOKS,
        "1MiB",
        syntax.size(1024, MAX_WEBHOOK_BODY),
        "bytes",
        "Max size of a webhook body, up to 25MiB; a larger one gets 413.",
    )
    ws_allowed_origins: Annotated[tuple[str, ...], _text(syntax.origins)] = _setting(
        _WEBHOOKS,
        "",
        syntax.origins,
        "origins",
        "Origins, besides the same origin, whose pages may open log WebSockets.",
        godeploy=True,
    )
    api_token: Annotated[str, _text(syntax.token)] = _setting(
        _WEBHOOKS,
        "",
        syntax.token,
        "text",
        "Bearer token of the API. Empty: one is generated at first start, in the path of the"
        " database with `.token`; direct clients on this machine then need none.",
        secret=True,
    )
    trusted_proxies: Annotated[tuple[Network, ...], _text(syntax.networks)] = _setting(
        _WEBHOOKS,
        "",
        syntax.networks,
        "networks",
        "Proxies whose X-Forwarded-For is trusted for the client address.",
    )
    git_timeout: Annotated[float, _text(syntax.positive_duration)] = _setting(
        _SOURCES,
        "300",
        syntax.positive_duration,
        "seconds",
        "Max duration of a clone; then the deploy fails.",
    )
    git_max_bytes: Annotated[int, _text(syntax.size(1))] = _setting(
        _SOURCES,
        "1GiB",
        syntax.size(1),
        "bytes",
        "Max size of a clone on disk and of a build context; above it the deploy fails.",
    )
    git_submodules: Annotated[bool, _text(syntax.boolean)] = _setting(
        _SOURCES,
        "false",
        syntax.boolean,
        "true or false",
        "Clone submodules too.",
    )
    git_allow_file: Annotated[bool, _text(syntax.boolean)] = _setting(
        _SOURCES,
        "false",
        syntax.boolean,
        "true or false",
        "Allow file:// repositories to all callers, not only to callers on this machine.",
    )
    builds: Annotated[int, _text(syntax.count(1))] = _setting(
        _SOURCES,
        "2",
        syntax.count(1),
        "count",
        "Max concurrent builds. An app runs one deploy at a time.",
    )
    build_memory: Annotated[int, _text(syntax.size(MIN_MEMORY))] = _setting(
        _SOURCES,
        "2GiB",
        syntax.size(MIN_MEMORY),
        "bytes",
        "Memory limit of a build.",
    )
    build_cpus: Annotated[float, _text(syntax.decimal)] = _setting(
        _SOURCES,
        "1",
        syntax.decimal,
        "cores",
        "CPU limit of a build.",
    )
    build_timeout: Annotated[float, _text(syntax.positive_duration)] = _setting(
        _SOURCES,
        "1800",
        syntax.positive_duration,
        "seconds",
        "Max duration of a build; then the deploy fails.",
    )
    image_prefix: Annotated[str, _text(syntax.image_prefix)] = _setting(
        _SOURCES,
        "fairlead",
        syntax.image_prefix,
        "text",
        "Prefix of image names (PREFIX/APP:TAG) and of container names.",
        godeploy=True,
    )
    network: Annotated[str, _text(syntax.network_name)] = _setting(
        _CONTAINERS,
        "fairlead",
        syntax.network_name,
        "text",
        "Docker network of the app containers; created if it does not exist.",
        godeploy=True,
    )
    memory: Annotated[int, _text(syntax.size(MIN_MEMORY))] = _setting(
        _CONTAINERS,
        "256MiB",
        syntax.size(MIN_MEMORY),
        "bytes",
        "Memory limit of an app container.",
    )
    cpus: Annotated[float, _text(syntax.decimal)] = _setting(
        _CONTAINERS,
        "1",
        syntax.decimal,
        "cores",
        "CPU limit of an app container.",
    )
    bind_docker_sock: Annotated[bool, _text(syntax.boolean)] = _setting(
        _CONTAINERS,
        "false",
        syntax.boolean,
        "true or false",
        "Mount the Docker socket into every app container: this makes every app root on the host.",
        godeploy=True,
    )
    health_path: Annotated[str, _text(_health_path)] = _setting(
        _CONTAINERS,
        "/",
        _health_path,
        "path",
        "Health check path of a new container, unless the app or the deploy has its own.",
        godeploy=True,
    )
    health_timeout: Annotated[float, _text(syntax.positive_duration)] = _setting(
        _CONTAINERS,
        "30",
        syntax.positive_duration,
        "seconds",
        "Time for a new container to become healthy; then the deploy fails and the old one stays.",
    )
    health_status: Annotated[frozenset[int], _text(syntax.statuses)] = _setting(
        _CONTAINERS,
        "200-399",
        syntax.statuses,
        "status codes",
        "Status codes that pass the health check: codes and ranges, separated by commas.",
    )
    stop_timeout: Annotated[float, _text(syntax.duration)] = _setting(
        _CONTAINERS,
        "10",
        syntax.duration,
        "seconds",
        "Time between SIGTERM and SIGKILL when an old container is stopped.",
    )
    drain_timeout: Annotated[float, _text(syntax.duration)] = _setting(
        _CUTOVER,
        "30",
        syntax.duration,
        "seconds",
        "Time for requests in flight on an old container to finish; then they are aborted. Set"
        " for the edge too.",
    )
    tunnel_drain_timeout: Annotated[float, _text(syntax.duration)] = _setting(
        _CUTOVER,
        "30",
        syntax.duration,
        "seconds",
        "Time for tunnels (WebSockets) to an old container to end; then they are closed with a"
        " close frame.",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is given, else FAIRLEAD_X, else (where it exists) GODEPLOY_X."""
        return init_settings, env_settings, _GodeploySource(settings_cls)

    @property
    def control_path(self) -> Path:
        """Where the edge's control socket is."""
        return self.control_socket or self.db.with_suffix(".sock")

    @property
    def token_path(self) -> Path:
        """Where the token is that was made at the first start."""
        return self.db.with_suffix(".token")

    @property
    def logs_folder(self) -> Path:
        """Where the logs of the deploys are."""
        return self.db.with_suffix(".deploys")

    @property
    def work_folder(self) -> Path:
        """Where the clones are while they are needed."""
        return self.db.with_suffix(".work")

    @property
    def lock_path(self) -> Path:
        """What the one orchestrator of a database holds a lock on."""
        return self.db.with_suffix(".lock")


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of `Settings`, as the command line and the documentation need it."""

    name: str  # of the field
    topic: str
    default: str  # as a user would write it
    unit: str
    meaning: str  # one line
    variables: tuple[str, ...]  # of the environment; the first that is set counts

    @property
    def flag(self) -> str:
        """The option of the command line, such as `--log-format`."""
        return "--" + self.name.replace("_", "-")


def _describe() -> Iterator[Setting]:
    for name, field in Settings.model_fields.items():
        assert isinstance(field.json_schema_extra, dict)  # as `_setting` made it
        described: dict[str, Any] = dict(field.json_schema_extra)
        prefixes = ("FAIRLEAD_", "GODEPLOY_") if described.pop("godeploy") else ("FAIRLEAD_",)
        variables = tuple(prefix + name.upper() for prefix in prefixes)
        yield Setting(name=name, variables=variables, **described)


SETTINGS: Final = tuple(_describe())


def load(flags: Mapping[str, str | None] | None = None) -> Settings:
    """The settings: a flag, else FAIRLEAD_X, else (where it exists) GODEPLOY_X, else the default.

    `flags` maps names of fields to what was given, None where the flag was not given. An empty
    variable counts as unset. Raises ConfigError with one line per bad value, which names the flag
    or variable that it came from.
    """
    given: dict[str, Any] = {name: text for name, text in (flags or {}).items() if text is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        lines = [
            f"{_origin(str(each['loc'][0]), given)}: {_reason(each.get('ctx', {}), each['msg'])}"
            for each in error.errors(include_url=False, include_input=False)
        ]
    # Outside of the handler: the error of pydantic shows values, and so secrets, in its traceback.
    raise ConfigError("\n".join(lines))


def _reason(context: Mapping[str, Any], message: str) -> str:
    """What our own parser said, without pydantic's preface."""
    return str(context.get("error", message))


def _origin(name: str, given: Mapping[str, str]) -> str:
    setting = next(each for each in SETTINGS if each.name == name)
    if name in given:
        return setting.flag
    return next(variable for variable in setting.variables if os.environ.get(variable))

"""Owns the options of a route: their names, meanings, defaults and kinds. Pure.

The fields of `RouteOptions` are the only list of options. The flags of `fairlead route set`, the
JSON in the store and the table in docs/behaviour.md are made from it, through `OPTIONS`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final, NamedTuple, TypeVar

from edge.errors import RouteError, quote
from edge.routing.option_syntax import (
    DURATION,
    NETWORKS,
    PAGE,
    REDIRECT,
    REMOVE_FIELDS,
    SET_FIELDS,
    SIZE,
    STATUSES,
    SWITCH,
    USERS,
    WEIGHTS,
    Syntax,
    choice,
    number,
    seconds_between,
    text_where,
)
from edge.rules.health_check import is_check_host, is_check_path
from edge.rules.rate_limit import MAX_FILL_TIME, Limit

T = TypeVar("T")

BALANCES: Final = ("round_robin", "least_in_flight", "client_hash", "cookie")
HOST_HEADERS: Final = ("client", "target")
ON_OFF: Final = ("on", "off")
ESCAPED_SLASHES: Final = ("reject", "keep")
MAX_RETRIES: Final = 10

CHECK_PATH: Final = text_where("PATH", is_check_path, "a path such as /up, in ASCII and without #")
CHECK_HOST: Final = text_where("HOST", is_check_host, "a host such as app.test or app.test:8080")
WORDS: Final = text_where("", bool, "a text with anything in it")
CHECK_SECONDS: Final = seconds_between(0.5, 86_400)
CHECK_COUNT: Final = number("N", 1, 100, whole=True)
FAILURE_COUNT: Final = number("N", 0, 1000, whole=True)


def _option(default: T, syntax: Syntax, meaning: str, *, flag: str | None = "") -> T:
    """A field of `RouteOptions`; `flag` if it is not the field's name, None if it has none."""
    # dataclasses.field is typed in the same way: it returns a Field and says that it is the value.
    # A factory, for a mapping as a default is refused though nobody changes it.
    metadata = {"syntax": syntax, "meaning": meaning, "flag": flag}
    value: T = field(default_factory=lambda: default, metadata=metadata)
    return value


@dataclass(frozen=True, slots=True)
class RouteOptions:
    """What a route may say beside its domain and targets, checked. None leaves it to the setting.

    Sizes are bytes, 0 for no limit; durations are seconds.
    """

    balance: str = _option(
        "round_robin", choice(BALANCES), "Load-balancing policy (default round_robin)."
    )
    body_timeout: float | None = _option(
        None,
        DURATION,
        "Idle timeout while reading the request body (answers 408; default: the edge's setting).",
    )
    connect_timeout: float | None = _option(
        None,
        DURATION,
        "Timeout for connecting to a target (tries the next, or answers 502; default: the edge's"
        " setting).",
    )
    health_path: str | None = _option(
        None,
        CHECK_PATH,
        "Check the health of each target with GET PATH (default: no checks).",
    )
    health_interval: float = _option(
        5.0, CHECK_SECONDS, "Interval between health checks of a target (default 5)."
    )
    health_timeout: float = _option(2.0, CHECK_SECONDS, "Timeout of a health check (default 2).")
    health_status: str = _option(
        "200-399",
        STATUSES,
        "Status codes that pass a health check, such as 200-299,404 (default 200-399).",
    )
    health_host: str | None = _option(
        None, CHECK_HOST, "Host field of health checks (default: the target's address)."
    )
    health_rise: int = _option(
        2,
        CHECK_COUNT,
        "Consecutive passed checks after which a target is healthy again (default 2).",
    )
    health_fall: int = _option(
        3, CHECK_COUNT, "Consecutive failed checks after which a target is unhealthy (default 3)."
    )
    max_fails: int = _option(
        0,
        FAILURE_COUNT,
        "Consecutive failed requests (no connection, no response, 502, 504) after which a target is"
        " ejected for a while (default 0: only targets that cannot be connected to).",
    )
    host: str = _option(
        "client",
        choice(HOST_HEADERS),
        "Host field sent to the target: the client's, or the target's own address (default"
        " client).",
    )
    max_body: int | None = _option(
        None,
        SIZE,
        "Maximum size of a request body, such as 10MiB; 0: no limit (answers 413; default: the"
        " edge's"
        " setting).",
    )
    remove_fields: Sequence[str] = _option(
        (),
        REMOVE_FIELDS,
        "Remove this field from the target's responses (repeatable).",
        flag="remove_field",
    )
    response_timeout: float | None = _option(
        None,
        DURATION,
        "Timeout for the response head, from the end of the request (answers 504; default: the"
        " edge's"
        " setting).",
    )
    retries: int | None = _option(
        None,
        number("N", 0, MAX_RETRIES, whole=True),
        "Maximum number of further targets tried when one cannot be connected to, 0 to 10; 0: no"
        " request is ever sent again (default: all targets).",
    )
    set_fields: Mapping[str, str] = _option(
        {},
        SET_FIELDS,
        "Set this field on responses, replacing the target's (repeatable).",
        flag="set_field",
    )
    stream_timeout: float | None = _option(
        None,
        DURATION,
        "Idle timeout while reading the response body (closes the client's connection; default: the"
        " edge's setting).",
    )
    strip: bool = _option(
        False, SWITCH, "Strip the route's prefix from the path before forwarding."
    )
    normalize_path: bool = _option(
        False, SWITCH, "Forward the normalized path (RFC 3986) instead of the path as it came."
    )
    merge_slashes: str = _option(
        "on",
        choice(ON_OFF),
        "Whether `//` in the path is the same as `/` (default on); off: for applications to which"
        " it is not.",
    )
    escaped_slashes: str = _option(
        "reject",
        choice(ESCAPED_SLASHES),
        "What `%2F` and `%5C` in the path are: reject answers 400 where they could be slashes that"
        " lead to another route, keep takes them for data (default reject).",
    )
    tunnel_timeout: float | None = _option(
        None,
        DURATION,
        "Idle timeout of a WebSocket or other tunnel (closes it; default: the edge's setting).",
    )
    weights: Mapping[str, int] = _option(
        {},
        WEIGHTS,
        "Load-balancing weight of a target, 1 to 100 (default 1; repeatable).",
        flag="weight",
    )
    allow: tuple[str, ...] = _option(
        (),
        NETWORKS,
        "Allow only clients from these networks; others are answered 403 (repeatable).",
    )
    deny: tuple[str, ...] = _option(
        (), NETWORKS, "Deny clients from these networks, even if allowed (answers 403; repeatable)."
    )
    rate: float | None = _option(
        None,
        number("N", 0.001, 1_000_000),
        "Rate limit per client, in requests per second, such as 0.5 (answers 429; default: none).",
    )
    burst: int | None = _option(
        None,
        number("N", 1, 1_000_000, whole=True),
        "Requests that a client may make at once before the rate limit (default: those of one"
        " second,"
        " at least 1).",
    )
    redirect: str | None = _option(
        None,
        REDIRECT,
        "Redirect to https://, or to the same path on another host, instead of forwarding.",
    )
    basic_auth: Mapping[str, str] = _option(
        {},
        USERS,
        "Require Basic authentication as this user; `fairlead route password` prints the hash"
        " (answers"
        " 401; repeatable).",
    )
    maintenance: bool = _option(
        False, SWITCH, "Answer 503 instead of forwarding; see `fairlead route maintenance`."
    )
    maintenance_page: str | None = _option(
        None,
        PAGE,
        "HTML of the maintenance page; see `fairlead route maintenance --page`.",
        flag=None,
    )
    pause: float | None = _option(
        None,
        number("SECONDS", 0.001, 3600),
        "Hold new requests, each for at most this long; see `fairlead route pause`.",
    )
    pause_max: int = _option(
        1000,
        number("N", 1, 100_000, whole=True),
        "Maximum number of requests held per worker while the route is paused; further ones are"
        " answered 503 (default 1000).",
    )
    boot: str = _option(
        "",
        WORDS,
        "Boot of the machine (`/proc/sys/kernel/random/boot_id`) in which the orchestrator has"
        " confirmed the targets; in any other, requests are answered 503 until it does again.",
        flag=None,
    )
    unavailable: str = _option(
        "",
        WORDS,
        "Why the orchestrator has the edge answer 503 instead of forwarding, such as `container is"
        " exited`.",
        flag=None,
    )

    def non_default(self) -> dict[str, object]:
        """What differs from the defaults, as the store has it."""
        return {
            option.name: getattr(self, option.name)
            for option in OPTIONS
            if getattr(self, option.name) != getattr(DEFAULTS, option.name)
        }

    def public(self) -> dict[str, object]:
        """As `non_default`, without secrets: of users, only the names."""
        kept = self.non_default()
        return kept | {"basic_auth": sorted(self.basic_auth)} if self.basic_auth else kept

    def as_flags(self) -> list[str]:
        """What differs from the defaults, as words of the command line."""
        words: list[str] = []
        for option in OPTIONS:
            value = getattr(self, option.name)
            if value == getattr(DEFAULTS, option.name) or not option.flag:
                continue
            if option.syntax.metavar:
                for text in option.syntax.show(value):
                    words += (option.flag, text)
            else:
                words.append(option.flag)
        return words


class Option(NamedTuple):
    """One field of `RouteOptions`, as the command line and the documentation need it.

    `flag` is empty for one that is not a word of `route set`.
    """

    name: str
    flag: str
    meaning: str
    syntax: Syntax


def _flag_of(name: str, flag: str | None) -> str:
    return "" if flag is None else "--" + (flag or name).replace("_", "-")


DEFAULTS: Final = RouteOptions()

OPTIONS: Final = tuple(
    Option(
        each.name,
        _flag_of(each.name, each.metadata["flag"]),
        each.metadata["meaning"],
        each.metadata["syntax"],
    )
    for each in fields(RouteOptions)
)
_BY_NAME: Final = {option.name: option for option in OPTIONS}


def check_options(found: object) -> RouteOptions:
    """What the store's JSON holds -> options. Raises RouteError, which names the option."""
    if not isinstance(found, dict):
        raise RouteError("the options are not a JSON object")
    values: dict[str, Any] = {}
    for name, value in found.items():
        option = _BY_NAME.get(name)
        if option is None:
            raise RouteError(f"option {quote(name)} is unknown; options are {', '.join(_BY_NAME)}")
        if value is not None:
            try:
                values[name] = option.syntax.check(value)
            except RouteError as error:
                raise RouteError(_sentence(f"option '{name}'", error)) from None
    options = RouteOptions(**values)
    _check_rate(options)
    return options


def _check_rate(options: RouteOptions) -> None:
    if options.burst is not None and options.rate is None:
        raise RouteError("option 'burst' needs a rate: give a rate too, or leave burst out")
    if options.rate is not None and Limit.of(options.rate, options.burst).seconds > MAX_FILL_TIME:
        raise RouteError(
            f"option 'burst' would take more than {MAX_FILL_TIME:g} s to refill at this rate:"
            " use a smaller burst or a higher rate"
        )


def read_flags(given: Mapping[str, Sequence[str]]) -> dict[str, object]:
    """Texts of the command line by name of option -> what the store's JSON would hold.

    A flag that was not given has no texts. Raises RouteError, which names the flag.
    """
    found: dict[str, object] = {}
    for option in OPTIONS:
        texts = given.get(option.name)
        if texts:
            try:
                found[option.name] = option.syntax.read(texts)
            except RouteError as error:
                raise RouteError(_sentence(option.flag, error)) from None
    return found


def _sentence(subject: str, error: RouteError) -> str:
    end = str(error)
    return f"{subject}{end}" if end.startswith(":") else f"{subject} {end}"

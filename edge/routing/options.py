"""Owns the options of a route: their names, meanings, defaults and syntax. Pure.

The fields of `RouteOptions` are the only list of options. The flags of `fairlead route set`, the
JSON in the store and the table in docs/behaviour.md are made from it, through `OPTIONS`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any, Final, NamedTuple, TypeVar

from edge.errors import MAX_QUOTED, ConfigError, RouteError, quote
from edge.rules.health_check import is_check_host, is_check_path, parse_statuses
from edge.rules.password import check_hash
from edge.rules.rate_limit import MAX_FILL_TIME, Limit
from edge.rules.redirect import parse_redirect
from edge.rules.response_fields import name_error, value_error
from edge.settings.settings import MAX_DURATION, parse_duration, parse_network, parse_size

T = TypeVar("T")

BALANCES: Final = ("round_robin", "least_in_flight", "client_hash", "cookie")
HOST_HEADERS: Final = ("client", "target")
MAX_WEIGHT: Final = 100
MAX_RETRIES: Final = 10

_SIZES: Final = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))


class Syntax(NamedTuple):
    """How a value is written in the store (as JSON) and on the command line (as text).

    `check` takes what JSON gave, returns the value and raises RouteError with the end of a sentence
    that begins with "option 'name'". `read` takes the texts of one flag, as often as it was given,
    and returns what JSON would give; it raises RouteError likewise. `show` gives the texts back.
    `metavar` is empty for a flag that has no text.
    """

    metavar: str
    check: Callable[[object], Any]
    read: Callable[[Sequence[str]], object]
    show: Callable[[Any], Sequence[str]]
    many: bool = False


def _choice(names: Sequence[str]) -> Syntax:
    def check(value: object) -> str:
        if not isinstance(value, str) or value not in names:
            raise RouteError(f"is not one of {', '.join(names)}")
        return value

    def read(texts: Sequence[str]) -> str:
        if texts[-1] not in names:
            raise RouteError(f": {quote(texts[-1])} is not one of {', '.join(names)}")
        return texts[-1]

    return Syntax("|".join(names), check, read, lambda value: [value])


def _check_switch(value: object) -> bool:
    if type(value) is not bool:
        raise RouteError("is not true or false")
    return value


SWITCH: Final = Syntax("", _check_switch, lambda texts: True, lambda value: [])


def _check_size(value: object) -> int:
    if type(value) is not int or value < 0:
        raise RouteError("is not a number of bytes (0: no limit)")
    return value


def _read_size(texts: Sequence[str]) -> int:
    try:
        return parse_size(texts[-1])
    except ConfigError as error:
        raise RouteError(f": {error}") from None


def _show_size(size: int) -> Sequence[str]:
    for unit, factor in _SIZES:
        if size and size % factor == 0:
            return [f"{size // factor}{unit}"]
    return [str(size)]


SIZE: Final = Syntax("SIZE", _check_size, _read_size, _show_size)


def _check_duration(value: object) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 < value <= MAX_DURATION
    ):
        raise RouteError(f"is not a number of seconds above 0, at most {MAX_DURATION:.0f}")
    return float(value)


def _read_duration(texts: Sequence[str]) -> float:
    try:
        return parse_duration(texts[-1])
    except ConfigError as error:
        raise RouteError(f": {error}") from None


def _show_duration(seconds: float) -> Sequence[str]:
    # Without an exponent, which `parse_duration` does not read.
    return [format(Decimal(repr(seconds)), "f").removesuffix(".0")]


DURATION: Final = Syntax("SECONDS", _check_duration, _read_duration, _show_duration)


def _count(most: int) -> Syntax:
    """A number from 0 to `most`."""

    def check(value: object) -> int:
        if type(value) is not int or not 0 <= value <= most:
            raise RouteError(f"is not a number from 0 to {most}")
        return value

    def read(texts: Sequence[str]) -> int:
        if not re.fullmatch("[0-9]{1,9}", texts[-1]):
            raise RouteError(f": {quote(texts[-1])} is not a number from 0 to {most}")
        return int(texts[-1])

    return Syntax("N", check, read, lambda value: [str(value)])


def _check_weights(value: object) -> Mapping[str, int]:
    if not isinstance(value, dict):
        raise RouteError('is not an object such as {"127.0.0.1:80": 3}')
    for target, weight in value.items():
        if type(weight) is not int or not 1 <= weight <= MAX_WEIGHT:
            raise RouteError(f": {quote(target)} is not a number from 1 to {MAX_WEIGHT}")
    return value


def _read_weights(texts: Sequence[str]) -> Mapping[str, int]:
    weights: dict[str, int] = {}
    for text in texts:
        target, _, number = text.rpartition("=")
        if not target or not re.fullmatch("[0-9]{1,9}", number):
            raise RouteError(f": {quote(text)} is not TARGET=NUMBER, such as 127.0.0.1:9101=3")
        if target in weights:
            raise RouteError(f": {quote(target)} has two weights")
        weights[target] = int(number)
    return weights


WEIGHTS: Final = Syntax(
    "TARGET=N",
    _check_weights,
    _read_weights,
    lambda weights: [f"{target}={weight}" for target, weight in weights.items() if weight != 1],
    many=True,
)


def _check_names(names: Sequence[str]) -> None:
    """Of response fields. Raises RouteError."""
    known: set[str] = set()
    for name in names:
        fault = name_error(name)
        if fault:
            raise RouteError(f": {quote(name)} {fault}")
        if name.lower() in known:
            raise RouteError(f"names {quote(name)} twice")
        known.add(name.lower())


def _check_set_fields(value: object) -> Mapping[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise RouteError('is not an object of texts such as {"X-Frame-Options": "DENY"}')
    _check_names(list(value))
    for name, text in value.items():
        fault = value_error(text)
        if fault:
            raise RouteError(f": {quote(name)} {fault}")
    return {name: text.strip(" \t") for name, text in value.items()}


def _read_set_fields(texts: Sequence[str]) -> Mapping[str, str]:
    given: dict[str, str] = {}
    for text in texts:
        name, colon, value = text.partition(":")
        if not colon:
            raise RouteError(f": {quote(text)} is not NAME: VALUE, such as 'X-Frame-Options: DENY'")
        if name in given:
            raise RouteError(f": {quote(name)} has two values: join them with a comma")
        given[name] = value.strip(" \t")
    return given


SET_FIELDS: Final = Syntax(
    "'NAME: VALUE'",
    _check_set_fields,
    _read_set_fields,
    lambda given: [f"{name}: {value}" for name, value in given.items()],
    many=True,
)

# What decides about a request before an upstream is chosen: edge/proxy/admission.py.

MAX_USER: Final = 128  # characters
MAX_PAGE: Final = 64 * 1024  # bytes: it is in the table of every worker
_USER: Final = re.compile(r"[^:\x00-\x1f\x7f]+")  # RFC 7617 section 2


def _number(metavar: str, least: float, most: float, *, whole: bool = False) -> Syntax:
    kind = "whole number" if whole else "number"
    what = f"is not a {kind} from {least:.12g} to {most:.12g}"
    pattern = re.compile(r"[0-9]{1,9}" if whole else r"[0-9]{1,9}(\.[0-9]{1,9})?")

    def check(value: object) -> float:
        if type(value) is not int and (type(value) is not float or whole):
            raise RouteError(what)
        if not least <= value <= most:
            raise RouteError(what)
        return value

    def read(texts: Sequence[str]) -> float:
        text = texts[-1]
        try:
            number = float(text) if "." in text else int(text)
            return check(number if pattern.fullmatch(text) else None)
        except (RouteError, ValueError):
            raise RouteError(f": {quote(text)} {what}") from None

    return Syntax(metavar, check, read, lambda value: [f"{value:.12g}"])


def _check_networks(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise RouteError('is not a list such as ["10.0.0.0/8", "2001:db8::/32"]')
    try:
        return tuple(dict.fromkeys(str(parse_network(text[:MAX_QUOTED].strip())) for text in value))
    except ConfigError as error:
        raise RouteError(f": {error}") from None


def _read_networks(texts: Sequence[str]) -> Sequence[str]:
    return _check_networks([part for text in texts for part in text.split(",")])


NETWORKS: Final = Syntax("CIDR", _check_networks, _read_networks, lambda value: value, many=True)


def check_user(user: str) -> None:
    """Raise RouteError if `user` cannot be the name of one (RFC 7617 section 2)."""
    if not _USER.fullmatch(user) or len(user) > MAX_USER:
        raise RouteError(
            f"user {quote(user)} is empty, longer than {MAX_USER} characters,"
            " or has a colon or a control character in it"
        )


def _check_users(value: object) -> Mapping[str, str]:
    if not isinstance(value, dict):
        raise RouteError('is not an object such as {"alice": "$scrypt$..."}')
    for user, text in value.items():
        try:
            check_user(user)
        except RouteError as error:
            raise RouteError(f": {error}") from None
        if not isinstance(text, str):
            raise RouteError(f": the hash of user {quote(user)} is not text")
        try:
            check_hash(text)
        except RouteError as error:
            raise RouteError(f": the hash of user {quote(user)} {error}") from None
    return value


def _read_users(texts: Sequence[str]) -> Mapping[str, str]:
    users: dict[str, str] = {}
    for text in texts:
        user, colon, hashed = text.partition(":")
        if not colon:
            raise RouteError(
                f": {quote(text)} is not USER:HASH: take what `fairlead route password USER` prints"
            )
        if not hashed.startswith("$"):
            # A shell has put its variables in the place of $scrypt and the others, or this is the
            # password itself: it is not repeated.
            raise RouteError(
                f": what follows user {quote(user)} is not a hash: put what"
                " `fairlead route password` prints in single quotes, or the shell expands it"
            )
        if user in users:
            raise RouteError(f": user {quote(user)} has two hashes")
        users[user] = hashed
    return _check_users(users)


USERS: Final = Syntax(
    "USER:HASH",
    _check_users,
    _read_users,
    lambda users: [f"{user}:{hashed}" for user, hashed in users.items()],
    many=True,
)


def _check_removed(value: object) -> Sequence[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise RouteError('is not a list of texts such as ["X-Powered-By"]')
    _check_names(value)
    return tuple(value)


REMOVE_FIELDS: Final = Syntax("NAME", _check_removed, list, list, many=True)


def _check_redirect(value: object) -> str:
    if not isinstance(value, str):
        raise RouteError("is not text such as https://other.test")
    try:
        return str(parse_redirect(value))
    except RouteError as error:
        raise RouteError(f": {quote(value)} {error}") from None


REDIRECT: Final = Syntax(
    "URL", _check_redirect, lambda texts: _check_redirect(texts[-1]), lambda value: [value]
)


def _check_page(value: object) -> str:
    if not isinstance(value, str):
        raise RouteError("is not text")
    if len(value.encode()) > MAX_PAGE:
        raise RouteError(f"is larger than {MAX_PAGE // 1024} KiB")
    return value


PAGE: Final = Syntax("", _check_page, lambda texts: _check_page(texts[-1]), lambda value: [])


# Options of health checks


def _text(metavar: str, good: Callable[[str], object], meant: str) -> Syntax:
    def check(value: object) -> str:
        if not isinstance(value, str) or not good(value):
            raise RouteError(f"is not {meant}")
        return value

    def read(texts: Sequence[str]) -> str:
        if not good(texts[-1]):
            raise RouteError(f": {quote(texts[-1])} is not {meant}")
        return texts[-1]

    return Syntax(metavar, check, read, lambda value: [value])


def _check_statuses(value: object) -> str:
    if not isinstance(value, str):
        raise RouteError('is not a text such as "200-399"')
    parse_statuses(value)
    return value


def _read_statuses(texts: Sequence[str]) -> str:
    try:
        parse_statuses(texts[-1])
    except RouteError as error:
        raise RouteError(f": {quote(texts[-1])} {error}") from None
    return texts[-1]


def _whole_number(least: int, most: int) -> Syntax:
    meant = f"a whole number from {least} to {most}"

    def check(value: object) -> int:
        if type(value) is not int or not least <= value <= most:
            raise RouteError(f"is not {meant}")
        return value

    def read(texts: Sequence[str]) -> int:
        if not re.fullmatch("[0-9]{1,9}", texts[-1]) or not least <= int(texts[-1]) <= most:
            raise RouteError(f": {quote(texts[-1])} is not {meant}")
        return int(texts[-1])

    return Syntax("N", check, read, lambda value: [str(value)])


def _seconds_between(least: float, most: float) -> Syntax:
    meant = f"a number of seconds from {least:g} to {most:g}"

    def check(value: object) -> float:
        if type(value) not in (int, float) or not least <= value <= most:  # type: ignore[operator]
            raise RouteError(f"is not {meant}")
        return float(value)  # type: ignore[arg-type]  # the line above has seen to it

    def read(texts: Sequence[str]) -> float:
        try:
            seconds = parse_duration(texts[-1])
        except ConfigError as error:
            raise RouteError(f": {error}") from None
        if not least <= seconds <= most:
            raise RouteError(f": {quote(texts[-1])} is not {meant}")
        return seconds

    return Syntax("SECONDS", check, read, lambda value: [f"{value:.15g}"])


CHECK_PATH: Final = _text("PATH", is_check_path, "a path such as /up, in ASCII and without a #")
CHECK_HOST: Final = _text("HOST", is_check_host, "a host such as app.test or app.test:8080")
CHECK_SECONDS: Final = _seconds_between(0.5, 86_400)
STATUSES: Final = Syntax("CODES", _check_statuses, _read_statuses, lambda value: [value])
CHECK_COUNT: Final = _whole_number(1, 100)
FAILURE_COUNT: Final = _whole_number(0, 1000)


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
        "round_robin", _choice(BALANCES), "Load-balancing policy (default round_robin)."
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
        _choice(HOST_HEADERS),
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
        _count(MAX_RETRIES),
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
        _number("N", 0.001, 1_000_000),
        "Rate limit per client, in requests per second, such as 0.5 (answers 429; default: none).",
    )
    burst: int | None = _option(
        None,
        _number("N", 1, 1_000_000, whole=True),
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
        _number("SECONDS", 0.001, 3600),
        "Hold new requests, each for at most this long; see `fairlead route pause`.",
    )
    pause_max: int = _option(
        1000,
        _number("N", 1, 100_000, whole=True),
        "Maximum number of requests held per worker while the route is paused; further ones are"
        " answered 503 (default 1000).",
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

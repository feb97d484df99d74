"""Owns the options of a route: their names, meanings, defaults and syntax. Pure.

The fields of `RouteOptions` are the only list of options. The flags of `fairlead route set`, the
JSON in the store and the table in docs/behaviour.md are made from it, through `OPTIONS`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Final, NamedTuple, TypeVar

from edge.config import parse_duration, parse_size
from edge.errors import ConfigError, RouteError
from edge.health_check import is_check_host, is_check_path, parse_statuses

T = TypeVar("T")

BALANCES: Final = ("round_robin", "least_in_flight")
HOST_HEADERS: Final = ("client", "target")
MAX_SHOWN: Final = 100  # characters of a refused text that an error repeats: it goes into the log
MAX_WEIGHT: Final = 100

_SIZES: Final = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))


def shown(text: str) -> str:
    """A text in quotes, as an error may repeat it: no control characters, bounded."""
    quoted = repr(text[:MAX_SHOWN])
    return quoted if len(text) <= MAX_SHOWN else f"{quoted}..."


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
            raise RouteError(f": {shown(texts[-1])} is not one of {', '.join(names)}")
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


def _check_weights(value: object) -> Mapping[str, int]:
    if not isinstance(value, dict):
        raise RouteError('is not an object such as {"127.0.0.1:80": 3}')
    for target, weight in value.items():
        if type(weight) is not int or not 1 <= weight <= MAX_WEIGHT:
            raise RouteError(f": {shown(target)} is not a number from 1 to {MAX_WEIGHT}")
    return value


def _read_weights(texts: Sequence[str]) -> Mapping[str, int]:
    weights: dict[str, int] = {}
    for text in texts:
        target, _, number = text.rpartition("=")
        if not target or not re.fullmatch("[0-9]{1,9}", number):
            raise RouteError(f": {shown(text)} is not TARGET=NUMBER, such as 127.0.0.1:9101=3")
        if target in weights:
            raise RouteError(f": {shown(target)} has two weights")
        weights[target] = int(number)
    return weights


WEIGHTS: Final = Syntax(
    "TARGET=N",
    _check_weights,
    _read_weights,
    lambda weights: [f"{target}={weight}" for target, weight in weights.items() if weight != 1],
    many=True,
)


# Options of health checks


def _text(metavar: str, good: Callable[[str], object], meant: str) -> Syntax:
    def check(value: object) -> str:
        if not isinstance(value, str) or not good(value):
            raise RouteError(f"is not {meant}")
        return value

    def read(texts: Sequence[str]) -> str:
        if not good(texts[-1]):
            raise RouteError(f": {shown(texts[-1])} is not {meant}")
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
        raise RouteError(f": {shown(texts[-1])} {error}") from None
    return texts[-1]


def _whole_number(least: int, most: int) -> Syntax:
    meant = f"a whole number from {least} to {most}"

    def check(value: object) -> int:
        if type(value) is not int or not least <= value <= most:
            raise RouteError(f"is not {meant}")
        return value

    def read(texts: Sequence[str]) -> int:
        if not re.fullmatch("[0-9]{1,9}", texts[-1]) or not least <= int(texts[-1]) <= most:
            raise RouteError(f": {shown(texts[-1])} is not {meant}")
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
            raise RouteError(f": {shown(texts[-1])} is not {meant}")
        return seconds

    return Syntax("SECONDS", check, read, lambda value: [f"{value:.15g}"])


CHECK_PATH: Final = _text("PATH", is_check_path, "a path such as /up, in ASCII and without a #")
CHECK_HOST: Final = _text("HOST", is_check_host, "a host such as app.test or app.test:8080")
CHECK_SECONDS: Final = _seconds_between(0.5, 86_400)
STATUSES: Final = Syntax("CODES", _check_statuses, _read_statuses, lambda value: [value])
ANSWERS: Final = _whole_number(1, 100)
FAILURES: Final = _whole_number(0, 1000)


def _option(default: T, syntax: Syntax, meaning: str, *, flag: str = "") -> T:
    """A field of `RouteOptions`; `flag` if it is not the field's name."""
    # dataclasses.field is typed in the same way: it returns a Field and says that it is the value.
    # A factory, for a mapping as a default is refused though nobody changes it.
    metadata = {"syntax": syntax, "meaning": meaning, "flag": flag}
    value: T = field(default_factory=lambda: default, metadata=metadata)
    return value


@dataclass(frozen=True, slots=True)
class RouteOptions:
    """What a route may say beside its domain and targets, checked. None leaves it to the setting.

    Sizes are bytes, 0 for no limit.
    """

    balance: str = _option(
        "round_robin", _choice(BALANCES), "How one of several targets is picked."
    )
    health_path: str | None = _option(
        None,
        CHECK_PATH,
        "Check each target with GET PATH, and leave out those that fail; not given: no checks.",
    )
    health_interval: float = _option(
        5.0, CHECK_SECONDS, "From one check of a target to the next, 5 if not given."
    )
    health_timeout: float = _option(
        2.0, CHECK_SECONDS, "For a check to connect and get the head of an answer, 2 if not given."
    )
    health_status: str = _option(
        "200-399",
        STATUSES,
        "Status codes that pass, such as 200-299,404; 200-399 if not given.",
    )
    health_host: str | None = _option(
        None, CHECK_HOST, "Host that checks send; not given: the target's address."
    )
    health_rise: int = _option(
        2, ANSWERS, "Checks in a row that bring a target back, 2 if not given."
    )
    health_fall: int = _option(
        3, ANSWERS, "Checks in a row that take a target out, 3 if not given."
    )
    health_fails: int = _option(
        0,
        FAILURES,
        "Requests in a row that fail (no connection, no answer, 502, 504) until a target is left"
        " out for a while; 0, if not given: only targets that cannot be reached are.",
    )
    host: str = _option(
        "client",
        _choice(HOST_HEADERS),
        "Whose Host the target gets: the client's, or its own address.",
    )
    max_body: int | None = _option(
        None,
        SIZE,
        "Largest request body, such as 10MiB; 0: no limit; not given: the edge's setting.",
    )
    strip: bool = _option(False, SWITCH, "Take the prefix off the path that the target gets.")
    weights: Mapping[str, int] = _option(
        {},
        WEIGHTS,
        "Share of a target, 1 to 100, 1 if not given; may be repeated.",
        flag="weight",
    )

    def kept(self) -> dict[str, object]:
        """What differs from the defaults, as the store keeps it."""
        return {
            option.name: getattr(self, option.name)
            for option in OPTIONS
            if getattr(self, option.name) != getattr(DEFAULTS, option.name)
        }

    def as_flags(self) -> list[str]:
        """What differs from the defaults, as words of the command line."""
        words: list[str] = []
        for option in OPTIONS:
            value = getattr(self, option.name)
            if value == getattr(DEFAULTS, option.name):
                continue
            if option.syntax.metavar:
                for text in option.syntax.show(value):
                    words += (option.flag, text)
            else:
                words.append(option.flag)
        return words


class Option(NamedTuple):
    """One field of `RouteOptions`, as the command line and the documentation need it."""

    name: str
    flag: str
    meaning: str
    syntax: Syntax


DEFAULTS: Final = RouteOptions()

OPTIONS: Final = tuple(
    Option(
        each.name,
        "--" + (each.metadata["flag"] or each.name).replace("_", "-"),
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
            raise RouteError(f"option {shown(name)} is unknown: there are {', '.join(_BY_NAME)}")
        if value is not None:
            try:
                values[name] = option.syntax.check(value)
            except RouteError as error:
                raise RouteError(_sentence(f"option '{name}'", error)) from None
    return RouteOptions(**values)


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

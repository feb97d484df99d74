"""Owns how the value of a route's option is written: in the store, as JSON, and as a flag. Pure."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from edge.errors import MAX_QUOTED, ConfigError, RouteError, quote
from edge.rules.health_check import parse_statuses
from edge.rules.password import check_hash
from edge.rules.redirect import parse_redirect
from edge.rules.response_fields import name_error, value_error
from edge.settings.syntax import MAX_DURATION, parse_duration, parse_network, parse_size

MAX_WEIGHT: Final = 100

_SIZES: Final = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))


class Syntax(NamedTuple):
    """How a value is written in the store (as JSON) and on the command line (as text).

    `parse` takes the texts of one flag, as often as it was given, and returns what JSON would give.
    `check` takes what JSON gave and returns the value. Both raise RouteError with the end of a
    sentence that begins with the option's name, or the flag's; it begins with a colon if it repeats
    the text that is wrong. `show` gives the texts back. `metavar` is empty for a flag that has no
    text.
    """

    metavar: str
    check: Callable[[object], Any]
    parse: Callable[[Sequence[str]], object]
    show: Callable[[Any], Sequence[str]]
    many: bool = False

    def read(self, texts: Sequence[str]) -> object:
        """The value that the texts of one flag say. Raises RouteError as `check` does."""
        value = self.parse(texts)
        try:
            return self.check(value)
        except RouteError as error:
            if self.many or str(error).startswith(":"):
                raise
            raise RouteError(f": {quote(texts[-1])} {error}") from None


def _single(
    metavar: str,
    check: Callable[[object], Any],
    parse: Callable[[str], object] = str,
    show: Callable[[Any], str] = str,
) -> Syntax:
    """A flag with one text, of which the last counts."""
    return Syntax(metavar, check, lambda texts: parse(texts[-1]), lambda value: [show(value)])


def choice(names: Sequence[str]) -> Syntax:
    def check(value: object) -> str:
        if not isinstance(value, str) or value not in names:
            raise RouteError(f"is not one of {', '.join(names)}")
        return value

    return _single("|".join(names), check)


def _check_switch(value: object) -> bool:
    if type(value) is not bool:
        raise RouteError("is not true or false")
    return value


SWITCH: Final = Syntax("", _check_switch, lambda texts: True, lambda value: [])


def _check_size(value: object) -> int:
    if type(value) is not int or value < 0:
        raise RouteError("is not a number of bytes (0: no limit)")
    return value


def _parse_size(text: str) -> int:
    try:
        return parse_size(text)
    except ConfigError as error:
        raise RouteError(f": {error}") from None


def _show_size(size: int) -> str:
    for unit, factor in _SIZES:
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


SIZE: Final = _single("SIZE", _check_size, _parse_size, _show_size)


def _check_duration(value: object) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 < value <= MAX_DURATION
    ):
        raise RouteError(f"is not a number of seconds above 0, at most {MAX_DURATION:.0f}")
    return float(value)


def _parse_duration(text: str) -> float:
    try:
        return parse_duration(text)
    except ConfigError as error:
        raise RouteError(f": {error}") from None


def _show_duration(seconds: float) -> str:
    digits, _, exponent = repr(seconds).partition("e-")
    if exponent:  # which `parse_duration` does not read
        places = int(exponent) + len(digits.partition(".")[2])
        return f"{seconds:.{places}f}"
    return digits.removesuffix(".0")


DURATION: Final = _single("SECONDS", _check_duration, _parse_duration, _show_duration)


def _check_weights(value: object) -> Mapping[str, int]:
    if not isinstance(value, dict):
        raise RouteError('is not an object such as {"127.0.0.1:80": 3}')
    for target, weight in value.items():
        if type(weight) is not int or not 1 <= weight <= MAX_WEIGHT:
            raise RouteError(f": {quote(target)} is not a number from 1 to {MAX_WEIGHT}")
    return value


def _parse_weights(texts: Sequence[str]) -> Mapping[str, int]:
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
    _parse_weights,
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


def _parse_set_fields(texts: Sequence[str]) -> Mapping[str, str]:
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
    _parse_set_fields,
    lambda given: [f"{name}: {value}" for name, value in given.items()],
    many=True,
)

# What decides about a request before an upstream is chosen: edge/proxy/admission.py.

MAX_USER: Final = 128  # characters
MAX_PAGE: Final = 64 * 1024  # bytes: it is in the table of every worker
_USER: Final = re.compile(r"[^:\x00-\x1f\x7f]+")  # RFC 7617 section 2


def number(metavar: str, least: float, most: float, *, whole: bool = False) -> Syntax:
    kind = "whole number" if whole else "number"
    what = f"is not a {kind} from {least:.12g} to {most:.12g}"
    pattern = re.compile(r"[0-9]{1,9}" if whole else r"[0-9]{1,9}(\.[0-9]{1,9})?")

    def check(value: object) -> float:
        if type(value) is not int and (type(value) is not float or whole):
            raise RouteError(what)
        if not least <= value <= most:
            raise RouteError(what)
        return value

    def parse(text: str) -> float | None:
        if not pattern.fullmatch(text):
            return None  # `check` refuses it
        return float(text) if "." in text else int(text)

    return _single(metavar, check, parse, lambda value: f"{value:.12g}")


def _check_networks(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise RouteError('is not a list such as ["10.0.0.0/8", "2001:db8::/32"]')
    try:
        return tuple(dict.fromkeys(str(parse_network(text[:MAX_QUOTED].strip())) for text in value))
    except ConfigError as error:
        raise RouteError(f": {error}") from None


NETWORKS: Final = Syntax(
    "CIDR",
    _check_networks,
    lambda texts: [part for text in texts for part in text.split(",")],
    lambda value: value,
    many=True,
)


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


def _parse_users(texts: Sequence[str]) -> Mapping[str, str]:
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
    return users


USERS: Final = Syntax(
    "USER:HASH",
    _check_users,
    _parse_users,
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


REDIRECT: Final = _single("URL", _check_redirect)


def _check_page(value: object) -> str:
    if not isinstance(value, str):
        raise RouteError("is not text")
    if len(value.encode()) > MAX_PAGE:
        raise RouteError(f"is larger than {MAX_PAGE // 1024} KiB")
    return value


PAGE: Final = _single("", _check_page)


# Options of health checks


def text_where(metavar: str, good: Callable[[str], object], meant: str) -> Syntax:
    def check(value: object) -> str:
        if not isinstance(value, str) or not good(value):
            raise RouteError(f"is not {meant}")
        return value

    return _single(metavar, check)


def _check_statuses(value: object) -> str:
    if not isinstance(value, str):
        raise RouteError('is not a text such as "200-399"')
    parse_statuses(value)
    return value


STATUSES: Final = _single("CODES", _check_statuses)


def seconds_between(least: float, most: float) -> Syntax:
    meant = f"a number of seconds from {least:g} to {most:g}"

    def check(value: object) -> float:
        if type(value) not in (int, float) or not least <= value <= most:  # type: ignore[operator]
            raise RouteError(f"is not {meant}")
        return float(value)  # type: ignore[arg-type]  # the line above has seen to it

    return _single("SECONDS", check, _parse_duration, lambda value: f"{value:.15g}")

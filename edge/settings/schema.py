"""Owns what a setting is, and where its value comes from: a flag, a variable, else its default.

A frozen dataclass lists the settings of a package: each field is made by `setting` or `secret`.
Its `Schema` reads them, and describes them to the command line and the documentation.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, fields
from re import Pattern
from typing import Any, Generic, TypeVar

from edge.errors import ConfigError

T = TypeVar("T")
S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Setting:
    """One field of a list of settings, as the command line and the documentation need it."""

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

    @property
    def help(self) -> str:
        """What the command line says of the flag."""
        variables = ", ".join(self.variables)
        default = self.default or "none"
        return f"{self.meaning}  [{self.unit}; env var: {variables}; default: {default}]"


def setting(
    topic: str,
    default: str,
    parse: Callable[[str], T],
    unit: str,
    meaning: str,
    *,
    godeploy: bool = False,
) -> T:
    """A field; its default is written, and parsed, as a user would write it.

    `parse` raises ConfigError, with a text that may repeat the value. `godeploy`: there was such a
    setting in godeploy-platform, whose variable is read too.
    """
    return _field(topic, default, parse, unit, meaning, godeploy=godeploy, shown=True)


def secret(
    topic: str,
    meaning: str,
    *,
    fits: Pattern[str] | None = None,
    rule: str = "",
    godeploy: bool = False,
) -> str:
    """A field for a text that must not be shown, empty by default: not by `repr`, not by an error.

    A text that `fits` does not match as a whole is refused with the sentence `rule`: no parser
    writes an error, so none can quote a secret.
    """

    def parse(text: str) -> str:
        if text and fits is not None and not fits.fullmatch(text):
            raise ConfigError(rule)
        return text

    return _field(topic, "", parse, "text", meaning, godeploy=godeploy, shown=False)


def _field(
    topic: str,
    default: str,
    parse: Callable[[str], T],
    unit: str,
    meaning: str,
    *,
    godeploy: bool,
    shown: bool,
) -> T:
    metadata = {
        "topic": topic,
        "default": default,
        "parse": parse,
        "unit": unit,
        "meaning": meaning,
        "godeploy": godeploy,
    }
    # dataclasses.field is typed in the same way: it returns a Field and says that it is the value.
    value: T = field(default=parse(default), repr=shown, metadata=metadata)
    return value


def _check_nothing(_settings: object, _refused: Collection[str]) -> dict[str, ConfigError]:
    return {}


class Schema(Generic[S]):
    """The settings that the frozen dataclass `settings_type` lists.

    `check` gets the settings and the names of those that were refused, and returns what is wrong
    with the others together, by the name of a field.
    """

    def __init__(
        self,
        settings_type: type[S],
        check: Callable[[S, Collection[str]], Mapping[str, ConfigError]] = _check_nothing,
    ) -> None:
        self._type = settings_type
        self._check = check
        self.settings = tuple(_describe(settings_type))

    def load(self, flags: Mapping[str, str | None], environ: Mapping[str, str]) -> S:
        """A flag, else FAIRLEAD_X, else (where it exists) GODEPLOY_X, else the default.

        `flags` maps names of fields to what was given, None where the flag was not given. An empty
        variable counts as unset, as it does in a unit file or a compose file that passes one on.
        Raises ConfigError with one line per bad value, which names its flag or variable.
        """
        settings, errors = self.read(flags, environ)
        if errors:
            raise ConfigError("\n".join(map(str, errors.values())))
        return settings

    def read(
        self, flags: Mapping[str, str | None], environ: Mapping[str, str]
    ) -> tuple[S, dict[str, ConfigError]]:
        """As `load`, with every error by the name of its field, which then has its default."""
        values: dict[str, Any] = {}
        errors: dict[str, ConfigError] = {}
        for each, origin, text in self._given(flags, environ):
            try:
                values[each.name] = each.parse(text)
            except ConfigError as error:
                errors[each.name] = ConfigError(f"{origin}: {error}")
        settings = self._type(**values)
        return settings, {**errors, **self._check(settings, errors)}

    def given_texts(
        self, flags: Mapping[str, str | None], environ: Mapping[str, str]
    ) -> dict[str, str]:
        """What differs from the defaults, as flags that make `load` return the same settings."""
        return {each.name: text for each, _, text in self._given(flags, environ)}

    def _given(
        self, flags: Mapping[str, str | None], environ: Mapping[str, str]
    ) -> Iterator[tuple[Setting, str, str]]:
        """Each setting that was given, where, and its text."""
        for each in self.settings:
            given = [(each.flag, flags.get(each.name))]
            given += [(variable, environ.get(variable) or None) for variable in each.variables]
            for origin, text in given:
                if text is not None:
                    yield each, origin, text
                    break


def _describe(settings_type: Any) -> Iterator[Setting]:
    for each in fields(settings_type):
        metadata = dict(each.metadata)
        prefixes = ("FAIRLEAD_", "GODEPLOY_") if metadata.pop("godeploy") else ("FAIRLEAD_",)
        variables = tuple(prefix + each.name.upper() for prefix in prefixes)
        yield Setting(name=each.name, variables=variables, **metadata)

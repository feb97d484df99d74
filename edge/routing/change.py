"""Owns what a change of a route is: how the new one is made, what differs from the old one, and
which access rules are taken away. Pure.
"""

import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from edge.routing.options import DEFAULTS, OPTIONS, Option
from edge.routing.route import Route, parse_route

ACCESS_OPTIONS: Final = ("allow", "deny", "basic_auth", "rate")
"""What keeps requests away from the targets: without it they come through, and nothing fails."""

# What is said of targets, and not of those that come in their place.
OF_TARGETS: Final = ("weights", "boot", "unavailable")


@dataclass(frozen=True, slots=True)
class Change:
    """`old` is None where there was no route, or one that is not valid; `fault` says why not."""

    old: Route | None
    new: Route
    fault: str = ""

    def lines(self) -> list[str]:
        """What differs, one line each: gone (-), come (+) or of another value (~)."""
        before: Sequence[str] = () if self.old is None else self.old.targets
        found = [f"- target {each}" for each in before if each not in self.new.targets]
        found += [f"+ target {each}" for each in self.new.targets if each not in before]
        for option in OPTIONS:
            found += self._lines_of(option)
        return found

    def taken_away(self, said: Collection[str] = ()) -> list[str]:
        """The access rules that are gone, as words of the command line; not of options `said`."""
        if self.old is None:
            return []
        return [
            _words(option.flag, text)
            for option in OPTIONS
            if option.name in ACCESS_OPTIONS and option.name not in said
            for text in self._gone(option)
        ]

    def _gone(self, option: Option) -> list[str]:
        before, after = self._values(option)
        # Another number is another limit, and said; none at all is none.
        if not option.syntax.many and after:
            return []
        return [text for text in before if text not in after]

    def _lines_of(self, option: Option) -> Iterator[str]:
        before, after = self._values(option)
        name = option.flag or option.name.replace("_", " ")
        yield from (f"- {_words(name, text)}" for text in before if text not in after)
        yield from (f"+ {_words(name, text)}" for text in after if text not in before)
        for text in before:
            if before[text] != after.get(text, before[text]):
                yield f"~ {_words(name, text)} (changed)"

    def _values(self, option: Option) -> tuple[dict[str, str], dict[str, str]]:
        return _texts(self.old, option), _texts(self.new, option)


def changed(old: Route, options: Mapping[str, object], targets: str | None = None) -> Route:
    """`old` with some options changed, None brings one back to its default, and perhaps `targets`,
    a list with commas. Raises RouteError.
    """
    kept = old.options.non_default()
    if targets is not None:
        for name in OF_TARGETS:
            kept.pop(name, None)
    wanted = orjson.dumps({**kept, **options}).decode()
    return parse_route(old.key, targets or ",".join(old.targets), wanted)


def _words(name: str, text: str) -> str:
    return f"{name} {shlex.quote(text)}" if text else name


def _texts(route: Route | None, option: Option) -> dict[str, str]:
    """The value of an option as texts that may be shown, each with what is kept for itself."""
    value = getattr(DEFAULTS if route is None else route.options, option.name)
    if value == getattr(DEFAULTS, option.name) or option.name == "boot":
        return {}
    if option.name == "basic_auth":
        return dict(value)
    if option.name == "maintenance_page":
        return {"": value}
    return dict.fromkeys(option.syntax.show(value) or [""], "")

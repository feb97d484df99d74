"""Owns how spellings.txt, which describes itself, is read."""

import re
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).with_suffix(".txt")

_COLUMNS = re.compile(r"(\S+)  +(\S+(?: \S+)?)  +(\S+(?: \S+)?)")


class Outcome(NamedTuple):
    """What becomes of a request: a refusal, or a route's prefix and the upstream's target."""

    status: int  # of the refusal; 200 for none
    prefix: str
    target: str


class Spelling(NamedTuple):
    """One line of the table, with the routes that it is for."""

    routes: "Routes"
    target: str
    edge: Outcome
    nginx: Outcome | None


Routes = dict[str, dict[str, object]]
"""Options by prefix; the prefix is empty for a route without one."""


def spellings(table: Path = TABLE) -> list[Spelling]:
    """The lines of a table. Raises ValueError for a line that is not in its form."""
    found: list[Spelling] = []
    routes: Routes = {}
    for line in table.read_text("ascii").splitlines():
        if line.startswith("routes "):
            words = [route.split() for route in line.removeprefix("routes ").split("|")]
            routes = {prefix.rstrip("/"): _options(flags) for prefix, *flags in words}
        elif line and not line.startswith("#"):
            columns = _COLUMNS.fullmatch(line)
            if columns is None:
                raise ValueError(f"{table.name}: {line!r} has not three columns")
            target, edge, nginx = columns.groups()
            compared = None if nginx == "-" else _outcome(nginx, target)
            found.append(Spelling(routes, target, _outcome(edge, target), compared))
    return found


def _options(words: list[str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for flag in " ".join(words).split("--")[1:]:
        name, _, value = flag.strip().partition(" ")
        found[name.replace("-", "_")] = value or True
    return found


def _outcome(text: str, target: str) -> Outcome:
    prefix, _, forwarded = text.partition(" ")
    if prefix.isdigit():
        return Outcome(int(prefix), "", "")
    return Outcome(200, prefix.rstrip("/"), target if forwarded == "=" else forwarded)

"""Owns how a list of settings looks in docs/configuration.md: one table per topic."""

from collections.abc import Iterable, Iterator
from itertools import groupby

from edge.settings.schema import Setting


def tables(settings: Iterable[Setting]) -> str:
    """The tables, each under its topic; settings of one topic follow each other."""
    return "\n".join(_lines(settings))


def _lines(settings: Iterable[Setting]) -> Iterator[str]:
    for topic, group in groupby(settings, lambda setting: setting.topic):
        yield f"## {topic}\n"
        yield "| setting | flag | default | unit | meaning |"
        yield "| --- | --- | --- | --- | --- |"
        yield from map(_row, group)
        yield ""


def _row(setting: Setting) -> str:
    variables = ", ".join(f"`{variable}`" for variable in setting.variables)
    default = f"`{setting.default}`" if setting.default else "empty"
    cells = (variables, f"`{setting.flag}`", default, setting.unit, setting.meaning)
    return f"| {' | '.join(cells)} |"

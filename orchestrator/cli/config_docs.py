"""Owns what docs/configuration.md says of the orchestrator's settings, which is made from them.

`python -m orchestrator.cli.config_docs` prints that part; with the folder `docs` it writes it
there, behind the edge's part.
"""

import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Final

from orchestrator.settings import SETTINGS, Setting

BEGINS: Final = (
    "<!-- Made by `make docs` from orchestrator/settings.py; changes belong there. -->\n"
)

_HEAD = """\
# The orchestrator

These are flags of `fairlead orchestrator` and `fairlead up`, with the same rules. What both have
(`--db`, `--control-socket`, `--drain-timeout`, `--trusted-proxies`) is given to both at once. Cores
are decimals: `0.5`. Origins are a scheme and a host: `https://panel.example.com`.
"""


def part() -> str:
    """The orchestrator's part of docs/configuration.md: one table per topic."""
    return BEGINS + "\n".join([_HEAD, *_tables()])


def _tables() -> Iterator[str]:
    for topic, settings in groupby(SETTINGS, lambda setting: setting.topic):
        yield f"## {topic}\n"
        yield "| setting | flag | default | unit | meaning |"
        yield "| --- | --- | --- | --- | --- |"
        yield from map(_row, settings)
        yield ""


def _row(setting: Setting) -> str:
    variables = ", ".join(f"`{variable}`" for variable in setting.variables)
    default = f"`{setting.default}`" if setting.default else "empty"
    cells = (variables, f"`{setting.flag}`", default, setting.unit, setting.meaning)
    return f"| {' | '.join(cells)} |"


def write(docs: Path) -> None:
    """Bring the orchestrator's part of the page in the folder `docs` up to date."""
    page = docs / "configuration.md"
    edge, _, _ = page.read_text().partition(BEGINS)
    page.write_text(edge + part())


if __name__ == "__main__":
    if sys.argv[1:]:
        write(Path(sys.argv[1]))
    else:
        sys.stdout.write(part())

"""Owns what docs/configuration.md says of the orchestrator's settings, which is made from them.

`python -m orchestrator.cli.config_docs` prints that part; with the folder `docs` it writes it
there, behind the edge's part.
"""

import sys
from pathlib import Path
from typing import Final

from edge.settings import markdown
from orchestrator.settings import SETTINGS

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
    return f"{BEGINS}{_HEAD}\n{markdown.tables(SETTINGS)}"


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

"""Owns what the documentation says of settings and route options, which is made from the code.

`python -m edge.cli.config_docs` prints the edge's part of docs/configuration.md; with the folder
`docs` it writes that part there, and the table of route options between the two comments in
docs/behaviour.md. What follows on the page is made by `orchestrator.cli.config_docs`.
"""

import sys
from pathlib import Path

from edge.routing.options import OPTIONS, Option
from edge.settings import markdown
from edge.settings.settings import SETTINGS

_HEAD = """\
# Configuration

<!-- Made by `make docs` from edge/settings/settings.py; changes belong there. -->

Every setting of the edge has a flag of `fairlead edge` and `fairlead up`, an environment variable
and a default; those of the orchestrator are at the end of this page. The flag takes precedence
over the variable, the variable over the default; an empty variable counts as unset. Where a row
names two variables, the first that is set is used: the second is that of godeploy-platform. An
invalid value ends the program with exit code 2 and an error that names its source.

- Durations are seconds, decimals allowed: `30`, `0.5`.
- Sizes are bytes, or `KiB`, `MiB`, `GiB`: `32768`, `32KiB`.
- Addresses are `host:port`, `[ipv6]:port`, or `:port` for all addresses, IPv4 and IPv6; port 0 is
  a free port. Networks are `10.0.0.0/8`, `2001:db8::/32` or a single address. Both are lists:
  commas separate.
"""

_OTHERS_BEGIN = (
    "<!-- Made by `make docs` from orchestrator/settings.py; changes belong there. -->\n"
)
_TABLE_BEGINS = "<!-- Made by `make docs` from edge/routing/options.py; changes belong there. -->\n"
_TABLE_ENDS = "\n<!-- The end of what is made. -->"


def page() -> str:
    """The edge's part of docs/configuration.md: one table per topic."""
    return f"{_HEAD}\n{markdown.tables(SETTINGS)}"


def write(docs: Path) -> None:
    """Bring the made parts of the folder `docs` up to date."""
    configuration = docs / "configuration.md"
    _, begins, others = configuration.read_text().partition(_OTHERS_BEGIN)
    configuration.write_text(page() + begins + others)
    behaviour = docs / "behaviour.md"
    before, rest = behaviour.read_text().split(_TABLE_BEGINS)
    _, after = rest.split(_TABLE_ENDS)
    behaviour.write_text(f"{before}{_TABLE_BEGINS}{options_table()}{_TABLE_ENDS}{after}")


def options_table() -> str:
    """One row per option of a route: its flag, its name in the store, its meaning."""
    rows = ["| flag of `route set` | in the store | meaning |", "| --- | --- | --- |"]
    return "\n".join([*rows, *map(_option_row, OPTIONS)])


def _option_row(option: Option) -> str:
    syntax = f" {option.syntax.metavar}" if option.syntax.metavar else ""
    flag = f"{option.flag}{syntax}".replace("|", "\\|")
    flag = f"`{flag}`" if flag else "none"
    return f"| {flag} | `{option.name}` | {option.meaning} |"


if __name__ == "__main__":
    if sys.argv[1:]:
        write(Path(sys.argv[1]))
    else:
        sys.stdout.write(page())

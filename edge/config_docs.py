"""Owns docs/configuration.md, which is made from the settings: `python -m edge.config_docs`."""

import sys
from collections.abc import Iterator
from itertools import groupby

from edge.config import SETTINGS, Setting

_HEAD = """\
# Configuration

<!-- Made by `make docs` from edge/config.py; changes belong there. -->

Every setting has a flag of `fairlead edge` and `fairlead up`, an environment variable and a
default. The flag counts before the variable, the variable before the default; an empty variable
counts as unset. Where a row names two variables, the first that is set counts: the second is that
of godeploy-platform. A value that cannot be used ends the program with exit code 2 and a line that
names where the value came from.

- Durations are seconds, decimals allowed: `30`, `0.5`.
- Sizes are bytes, or `KiB`, `MiB`, `GiB`: `32768`, `32KiB`.
- Addresses are `host:port`, `[ipv6]:port`, or `:port` for all addresses, IPv4 and IPv6; port 0 is
  a free port. Networks are `10.0.0.0/8`, `2001:db8::/32` or a single address. Both are lists:
  commas separate.
"""


def page() -> str:
    """The text of docs/configuration.md: one table per topic."""
    return "\n".join([_HEAD, *_tables()])


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


if __name__ == "__main__":
    sys.stdout.write(page())

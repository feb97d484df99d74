"""Owns what commands print: text that others wrote, made harmless; tables, JSON, problems."""

import re
import time
from collections.abc import Iterable, Sequence
from typing import Final

import click

# Controls (C0, DEL, C1) let a log line move the cursor, set the title or answer as if the user had
# typed (CWE-150); the marks of bidirectional text make it read in another order (CVE-2021-42574).
_HARMFUL: Final = re.compile(
    "[\x00-\x08\x0a-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def line(text: str) -> str:
    """`text` as one line that only shows itself."""
    return _HARMFUL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def lines(text: str) -> str:
    """As `line`, with the line breaks that it has."""
    return "\n".join(line(each.rstrip("\r")) for each in text.split("\n"))


def table(rows: Sequence[Sequence[object]]) -> str:
    """Columns that are aligned; the first row is the heading, if there is one."""
    texts = [[line(str(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in texts
    )


def local_time(seconds: float | None) -> str:
    """A Unix time in the time zone of this machine; "-" for None."""
    return "-" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def print_json(value: object) -> None:
    """`value` for programs, and for people who look at it."""
    import orjson

    # JSON itself escapes neither DEL nor C1, and terminals act on those too.
    click.echo(lines(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()))


def print_problems(problems: Iterable[str]) -> None:
    """What is wrong, on stderr."""
    for problem in problems:
        click.echo(f"fairlead: {lines(problem)}", err=True)

"""Owns how commands and sidecars of other packages are found: by entry points of installed ones.

The edge works without any of them, and whatever becomes of them.
"""

from importlib.metadata import entry_points
from typing import Final

import click

from edge.cli.lazy import BrokenCommand, LazyCommand, lazy_commands

COMMANDS: Final = "fairlead.commands"
"""Each is an `edge.cli.lazy.Table` of commands, in a module that imports nothing heavy."""

SIDECARS: Final = "fairlead.sidecars"
"""Each is named as a package that `python -m` runs, and is the click command with its flags."""


def commands() -> dict[str, click.Command]:
    """The commands that other packages bring, by their names."""
    found: dict[str, click.Command] = {}
    for point in entry_points(group=COMMANDS):
        try:
            found |= lazy_commands(point.load())
        except Exception as error:
            # Anything can be wrong with what another package brings.
            found[point.name] = BrokenCommand(point.name, error)
    return found


def sidecars() -> dict[str, click.Command]:
    """The command of each sidecar by its name."""
    return {
        point.name: LazyCommand(point.name, point.value, "").load()
        for point in entry_points(group=SIDECARS)
    }


def sidecar_names() -> list[str]:
    """The packages that run beside the edge; nothing is loaded."""
    return [point.name for point in entry_points(group=SIDECARS)]

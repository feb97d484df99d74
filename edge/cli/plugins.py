"""Owns how commands and sidecars of other packages are found: by entry points of installed ones.

The edge works without any of them, and whatever becomes of them.
"""

from importlib.metadata import EntryPoint, entry_points
from typing import Final

import click

COMMANDS: Final = "fairlead.commands"
"""Each is a click command, under the name by which `fairlead` calls it."""

SIDECARS: Final = "fairlead.sidecars"
"""Each is named as a package that `python -m` runs, and is the click command with its flags."""


class _Broken(click.Command):
    """Stands for a command that cannot be loaded, so that the others are still there."""

    def __init__(self, name: str, error: Exception) -> None:
        self._reason = f"cannot be loaded ({error!r}): install Fairlead anew"
        super().__init__(name, short_help=self._reason)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Whatever it is asked for."""
        raise click.ClickException(f"{self.name} {self._reason}")


def found(group: str) -> dict[str, EntryPoint]:
    """The entry points of a group by name; nothing is loaded."""
    return {point.name: point for point in entry_points(group=group)}


def load(point: EntryPoint) -> click.Command:
    """The command at `point`, or one that says why it cannot be loaded."""
    try:
        command = point.load()
    except Exception as error:
        # Anything can be wrong with what another package brings.
        return _Broken(point.name, error)
    assert isinstance(command, click.Command)  # as those who write entry points know
    return command


def sidecars() -> dict[str, click.Command]:
    """The command of each sidecar."""
    return {name: load(point) for name, point in found(SIDECARS).items()}

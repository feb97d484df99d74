"""Owns commands that are listed without an import of their module, which takes time."""

from collections.abc import Mapping
from importlib import import_module

import click

Table = Mapping[str, tuple[str, str]]
"""Name of a command: where it is, as "module:attribute", and its line in the list."""


class LazyCommand(click.Command):
    """Stands for a command in the list and in shell completion; `load` is the command."""

    def __init__(self, name: str, place: str, short_help: str) -> None:
        super().__init__(name, short_help=short_help)
        self.place = place

    def load(self) -> click.Command:
        """The command itself, or one that says why it cannot be loaded."""
        module, _, attribute = self.place.partition(":")
        try:
            command = getattr(import_module(module), attribute)
        except Exception as error:
            # Anything can be wrong with what another package brings.
            return BrokenCommand(str(self.name), error)
        assert isinstance(command, click.Command)  # noqa: S101  as those who write tables know
        return command


class BrokenCommand(click.Command):
    """Stands for a command that cannot be loaded, so that the others are still there."""

    def __init__(self, name: str, error: Exception) -> None:
        self._reason = f"cannot be loaded ({error!r}): reinstall Fairlead"
        super().__init__(name, short_help=self._reason)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Whatever it is asked for."""
        raise click.ClickException(f"{self.name} {self._reason}")


def lazy_commands(table: Table) -> dict[str, click.Command]:
    """The commands of `table` by their names."""
    return {name: LazyCommand(name, place, text) for name, (place, text) in table.items()}

"""Owns the command `fairlead`: the list of its commands, and how an error of one ends it."""

from typing import Any, Final

import click

from edge.cli import output
from edge.cli.exit_code import ExitCode
from edge.cli.lazy import LazyCommand, Table, lazy_commands
from edge.errors import FairleadError

COMMANDS: Final[Table] = {
    "drain": ("edge.cli.drain:drain", "Take a target out of service, and wait until it is idle"),
    "edge": ("edge.cli.serve:edge", "Run the reverse proxy"),
    "explain": ("edge.cli.explain:explain", "Show which route a URL takes, and why"),
    "route": ("edge.cli.route:route", "Show and change the routes"),
    "up": ("edge.cli.serve:up", "Run the reverse proxy and the orchestrator together"),
}
"""The edge's own."""

_OTHERS: Final = "edge.cli.others"


class _Main(click.Group):
    """Commands of other packages are looked for only where the edge has none of that name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.commands, *sorted(_others(ctx).keys() - self.commands.keys())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return self.commands.get(cmd_name) or _others(ctx).get(cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command.load() if isinstance(command, LazyCommand) else command, rest

    def invoke(self, ctx: click.Context) -> Any:
        """The error of a command is one line on stderr and an exit code."""
        try:
            return super().invoke(ctx)
        except FairleadError as error:
            output.print_problems([str(error)])
            ctx.exit(ExitCode.of(error))


def _others(ctx: click.Context) -> dict[str, click.Command]:
    """The commands of other packages, looked for once per call of the program."""
    if _OTHERS not in ctx.meta:
        from edge.cli import plugins  # what finds entry points takes 20 ms to import

        ctx.meta[_OTHERS] = plugins.commands()
    found: dict[str, click.Command] = ctx.meta[_OTHERS]
    return found


@click.group(cls=_Main, commands=lazy_commands(COMMANDS))
@click.version_option(package_name="fairlead", prog_name="fairlead")
def main() -> None:
    """A reverse proxy that routes by host and path, and deploys apps behind it without downtime."""

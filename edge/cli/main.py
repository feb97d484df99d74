"""Owns what the command `fairlead` is: its list of commands, and how an error of one ends it."""

from collections.abc import Mapping
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


def _print_version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    from importlib.metadata import version

    from edge.compiled import found
    from edge.wire.codec import CHOICE

    conversation = found()
    click.echo(
        f"fairlead, version {version('fairlead')}, head codec: {CHOICE},"
        f" conversation: {conversation}"
    )
    if failures := [each.failure for each in (CHOICE, conversation) if each.failure]:
        output.print_problems(failures)
    ctx.exit()


VERSION: Final = click.Option(
    ["--version"],
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show the version, and what of it runs compiled, and exit.",
)


class Program(click.Group):
    """The edge's own commands, and those of `guests`.

    `sidecars` are the packages that `fairlead up` runs beside the edge with `python -m`, and where
    the command with the flags of each is, as "module:attribute".
    """

    def __init__(self, guests: Table, sidecars: Mapping[str, str]) -> None:
        super().__init__(
            "fairlead",
            commands=lazy_commands({**guests, **COMMANDS}),
            help=(
                "A reverse proxy that routes by host and path, and deploys apps behind it without"
                " downtime."
            ),
        )
        self.sidecars = dict(sidecars)
        self.params.append(VERSION)

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

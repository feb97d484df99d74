"""Owns the commands that run the edge, alone or with what is beside it."""

import os
from collections.abc import Mapping
from typing import Final

import click

from edge.cli import output
from edge.cli.exit_code import ExitCode
from edge.cli.lazy import LazyCommand
from edge.cli.main import Program
from edge.cli.options import setting_flag
from edge.cli.upgrade import upgrade
from edge.settings.settings import SETTINGS, given_texts, load


def _serve_or_check(check: bool, **flags: str | None) -> None:
    if click.get_current_context().invoked_subcommand is not None:
        return
    if check:
        _check(flags)
    else:
        _serve(**flags)


def _check(flags: Mapping[str, str | None]) -> None:
    from edge.cli.check import check
    from edge.compiled import found
    from edge.wire.codec import CHOICE

    conversation = found()
    findings = check(flags, os.environ)
    failures = [
        f"the compiled {part} does not load: {choice.failure}"
        for part, choice in (("head codec", CHOICE), ("conversation", conversation))
        if choice.failure
    ]
    output.print_problems((*findings.settings, *findings.routes, *failures))
    if findings.table is not None:
        table = findings.table
        count = "1 route" if len(table) == 1 else f"{len(table)} routes"
        click.echo(
            f"{count} to serve (version {table.version}), head codec: {CHOICE},"
            f" conversation: {conversation}"
        )
    code = ExitCode.FAILED if findings.routes else ExitCode.OK
    click.get_current_context().exit(ExitCode.USAGE if findings.settings else code)


def _serve(**flags: str | None) -> None:
    load(flags, os.environ)  # what is wrong is named by its flag or variable
    from edge.supervisor.start import run

    click.get_current_context().exit(run(given_texts(flags, os.environ)))


edge: Final = click.Group(
    "edge",
    callback=_serve_or_check,
    invoke_without_command=True,
    params=[
        *(setting_flag(setting) for setting in SETTINGS),
        click.Option(
            ["--check"],
            is_flag=True,
            help="Report every invalid setting and route, and exit without serving.",
        ),
    ],
    help=(
        "Run the reverse proxy: serve the routes in the database until SIGTERM or SIGINT.\n\n"
        "After the signal no new connection is accepted, and requests in flight may finish within"
        " --drain-timeout."
    ),
)


edge.add_command(upgrade)


class _Up(click.Command):
    """Its flags are the edge's and those of all sidecars; what several share is given once."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        params = super().get_params(ctx)
        known = {param.name for param in params}
        for name, place in _sidecars(ctx).items():
            command = LazyCommand(name, place, "").load()
            params += [each for each in command.get_params(ctx) if each.name not in known]
            known |= {param.name for param in params}
        return params


def _sidecars(ctx: click.Context) -> Mapping[str, str]:
    program = ctx.find_root().command
    assert isinstance(program, Program)  # noqa: S101  narrows a type
    return program.sidecars


def _serve_all(**flags: str | None) -> None:
    edge_flags = {setting.name: flags[setting.name] for setting in SETTINGS}
    load(edge_flags, os.environ)  # what is wrong is named by its flag or variable
    from edge.supervisor.sidecar import Sidecar
    from edge.supervisor.start import run

    variables = {f"FAIRLEAD_{name.upper()}": text for name, text in flags.items() if text}
    context = click.get_current_context()
    sidecars = [Sidecar(name, name, variables) for name in _sidecars(context)]
    texts = given_texts(edge_flags, os.environ)
    context.exit(run(texts, sidecars))


up: Final = _Up(
    "up",
    callback=_serve_all,
    params=[setting_flag(setting) for setting in SETTINGS],
    help=(
        "Run the reverse proxy and the orchestrator under one supervisor until SIGTERM or SIGINT."
    ),
)

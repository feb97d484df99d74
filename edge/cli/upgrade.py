"""Owns the command that has the running edge replaced by the version on disk."""

import sys

import click

from edge.cli import output
from edge.cli.exit_code import ExitCode
from edge.cli.store import ask_edge, store_options
from edge.errors import EdgeError
from edge.settings.settings import Settings


@click.command()
@store_options
def upgrade(store: Settings) -> None:
    """Replace the running edge by the version on disk, without losing a request.

    The new edge has the flags and the environment of the old one.
    """
    from edge.control.client import EdgeClosedError, EdgeTimeoutError, request
    from edge.control.handover import UPGRADE_TIMEOUT

    before = request(store.control_path, "GET", "/workers")
    fields = {"timeout": UPGRADE_TIMEOUT}
    try:
        answer = ask_edge(store, "POST", "/upgrade", fields)
    except EdgeTimeoutError as error:
        output.print_problems([f"the upgrade is still going on: {error}"])
        sys.exit(ExitCode.TIMEOUT)
    except EdgeClosedError:
        # It was ended in the middle. The new one goes on, and is at the same socket when it serves.
        after = request(store.control_path, "GET", "/workers", fields)
        if after is None or before is None or after["pid"] == before["pid"]:
            raise EdgeError(
                "the edge ended during the upgrade, and no new one serves: see its log, and start"
                " one with `fairlead edge`"
            ) from None
        click.echo(f"upgraded to process {after['pid']}; the old one ended before it was done")
    else:
        click.echo(f"upgraded to process {answer['pid']} in {answer['seconds']:g} s")

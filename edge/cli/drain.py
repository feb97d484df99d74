"""Owns `fairlead drain`."""

import click

from edge.cli import output
from edge.cli.store import ask_edge, store_options
from edge.routing.route import parse_target
from edge.settings.settings import Settings


@click.command()
@click.argument("target")
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(0, 3600),
    default=30.0,
    show_default=True,
    help="Time for requests in flight to finish before they are aborted.",
)
@click.option(
    "--tunnel-timeout",
    metavar="SECONDS",
    type=click.FloatRange(0, 3600),
    default=30.0,
    show_default=True,
    help="Time for tunnels (WebSockets) to end before they are closed.",
)
@click.option("--undo", is_flag=True, help="Return the target to service.")
@store_options
def drain(target: str, timeout: float, tunnel_timeout: float, undo: bool, store: Settings) -> None:
    """Send no new requests to TARGET, and wait until none is in flight.

    TARGET is HOST:PORT, as in a route. It stays out of service until --undo.
    """
    fields: dict[str, object] = {"target": parse_target(target)}
    path = "/undrain" if undo else "/drain"
    if not undo:
        fields |= {"timeout": timeout, "tunnel_timeout": tunnel_timeout}
    answer = ask_edge(store, "POST", path, fields)
    if undo:
        click.echo(output.line(f"{answer['target']} is back in service"))
    else:
        click.echo(
            output.line(
                f"{answer['target']} drained in {answer['seconds']:g} s:"
                f" {answer['finished']} requests finished, {answer['cut']} aborted,"
                f" {answer['tunnels_closed']} tunnels closed"
            )
        )

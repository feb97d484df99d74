"""Owns `fairlead drain`."""

import click

from edge.cli.store import ask_edge, store_options
from edge.routing.route import parse_target
from edge.settings.settings import Settings


@click.command()
@click.argument("target")
@click.option(
    "--timeout",
    type=click.FloatRange(0, 3600),
    default=30.0,
    show_default=True,
    help="Seconds for exchanges in flight to finish; then they are cut.",
)
@click.option(
    "--tunnel-timeout",
    type=click.FloatRange(0, 3600),
    default=30.0,
    show_default=True,
    help="Seconds for tunnels (WebSockets); then they are closed gently.",
)
@click.option("--undo", is_flag=True, help="Let the target get requests again.")
@store_options
def drain(target: str, timeout: float, tunnel_timeout: float, undo: bool, store: Settings) -> None:
    """Send no new request to TARGET, and wait until none is in flight on it."""
    fields: dict[str, object] = {"target": parse_target(target)}
    path = "/undrain" if undo else "/drain"
    if not undo:
        fields |= {"timeout": timeout, "tunnel_timeout": tunnel_timeout}
    answer = ask_edge(store, path, fields)
    if undo:
        click.echo(f"{answer['target']} gets requests again")
    else:
        click.echo(
            f"{answer['target']} is drained after {answer['seconds']:g} s:"
            f" {answer['finished']} finished, {answer['cut']} cut,"
            f" {answer['tunnels_closed']} tunnels closed"
        )

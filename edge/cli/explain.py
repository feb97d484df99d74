"""Owns `fairlead explain`: the route of a URL, and what becomes of connections to its targets."""

import shlex
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import urlencode

import click

from edge.boot import boot_id
from edge.cli import output
from edge.cli.exit_code import ExitCode
from edge.cli.store import read_routes, store_options
from edge.control.client import request
from edge.errors import EdgeError, RouteError
from edge.routing.explain import explain as explain_url
from edge.routing.explain import parse_url
from edge.settings.settings import Settings

CONNECT_TIMEOUT: Final = 1.0  # seconds that a target is given, its name's lookup included


@click.command()
@click.argument("url")
@store_options
@click.pass_context
def explain(context: click.Context, url: str, store: Settings) -> None:
    """Show which route a request for URL takes, and why.

    Each target of the route is tried with a TCP connection; what the running edge knows of its
    health is shown too.
    """
    try:
        host, path = parse_url(url)
    except RouteError as error:
        raise click.UsageError(str(error)) from None
    loaded = read_routes(store)
    found = explain_url(loaded.table, host, path)
    chosen = found.chosen
    if chosen is not None:
        click.echo(f"{chosen.route.key} (version {found.version}): {chosen.reason}")
        options = shlex.join(chosen.route.options.as_flags())
        if options:
            click.echo(f"options: {options}")
        if found.target != path:
            click.echo(output.line(f"the target gets: {found.target.decode(errors='replace')}"))
        unavailable = chosen.route.why_unavailable(boot_id())
        if unavailable:
            click.echo(output.line(f"unavailable: {unavailable} (requests are answered 503)"))
        if chosen.route.targets:
            click.echo("\ntargets:")
            click.echo(output.table(_rows(chosen.route.targets, _judged(store, url))))
    others = [(f"  {each.route.key}", each.reason) for each in found.others]
    if others:
        click.echo("\nother routes:" if chosen else "similar routes:")
        click.echo(output.table(others))
    output.print_problems(loaded.problems)
    if found.refused:
        output.print_problems([f"the edge answers 400 to {url}: {found.refused}"])
        context.exit(ExitCode.FAILED)
    if chosen is None:
        output.print_problems([f"no route matches {url}"])
        context.exit(ExitCode.FAILED)


def _rows(targets: Sequence[str], judged: Mapping[str, str]) -> list[tuple[str, str]]:
    """Each target, and how it is, with what the edge thinks of it."""
    states = _states(targets)
    return [(f"  {target}", f"{state}{judged.get(target, '')}") for target, state in states.items()]


def _judged(store: Settings, url: str) -> dict[str, str]:
    """What the edge that runs thinks of the targets, as the end of a sentence."""
    try:
        answer = request(store.control_path, "GET", f"/explain?{urlencode({'url': url})}")
    except EdgeError:
        return {}  # One that is being stopped; what can be seen from here is shown.
    judged = {}
    for target in answer["targets"] if answer else ():
        match target:
            case {"target": str(name), "state": state, "reason": reason}:
                because = f" ({reason})" if reason else ""
                judged[name] = f"; the edge considers it {state}{because}"
    return judged


def _states(targets: Sequence[str]) -> dict[str, str]:
    """What becomes of a TCP connection to each target, all tried at once."""
    states = dict.fromkeys(targets, f"did not answer within {CONNECT_TIMEOUT:g} s")

    def look(target: str) -> None:
        states[target] = _state(target)

    # Daemons: the lookup of a name knows no timeout, and must not hold up the exit.
    threads = [threading.Thread(target=look, args=(each,), daemon=True) for each in targets]
    deadline = time.monotonic() + CONNECT_TIMEOUT
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return states.copy()


def _state(target: str) -> str:
    host, _, port = target.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT).close()
    except ConnectionRefusedError:
        return "refuses connections"
    except TimeoutError:
        return f"did not answer within {CONNECT_TIMEOUT:g} s"
    except socket.gaierror as error:
        return f"cannot be resolved: {error.strerror}"
    except OSError as error:
        return f"cannot be reached: {error.strerror}"
    return "accepts connections"

"""Owns the commands about routes."""

import shlex
import sys
from collections.abc import Mapping
from typing import BinaryIO, Final

import click

from edge.boot import boot_id
from edge.cli import output
from edge.cli.route_set import set_route, update_route
from edge.cli.store import acknowledge, db_option, read_routes, served, store_options
from edge.control.client import request
from edge.errors import RouteError, StoreError
from edge.routing.option_syntax import MAX_PAGE, check_user
from edge.routing.options import DEFAULTS, read_flags
from edge.routing.route import Route
from edge.routing.snapshot_file import SnapshotFile
from edge.routing.store_writer import RouteWriter
from edge.rules.password import hash_password
from edge.settings.settings import Settings


@click.group()
def route() -> None:
    """Show and change the routes.

    A change returns when every worker of the running edge serves it.
    """


route.add_command(set_route)
route.add_command(update_route)


@route.command("rm")
@click.argument("domain", metavar="HOST[/PREFIX]")
@store_options
def remove_route(domain: str, store: Settings) -> None:
    """Remove a route."""
    acknowledge(f"{domain} removed", RouteWriter(store.db).remove(domain), store)


_domain: Final = click.argument("domain", metavar="HOST[/PREFIX]")


@route.command("pause")
@_domain
@click.option(
    "--max",
    "most",
    metavar="N",
    help=f"Maximum number of requests held per worker.  [default: {DEFAULTS.pause_max}]",
)
@click.option(
    "--timeout",
    metavar="SECONDS",
    default="30",
    show_default=True,
    help="Maximum time that a request is held.",
)
@store_options
def pause_route(domain: str, most: str | None, timeout: str, store: Settings) -> None:
    """Hold new requests until the route is resumed.

    Requests in flight continue. Requests over --max, and those held longer than --timeout, are
    answered 503. `route set` ends a pause too: the held requests go to the new targets.
    """
    given = {"pause": [timeout], "pause_max": [str(DEFAULTS.pause_max) if most is None else most]}
    try:
        options = read_flags(given)
    except RouteError as error:
        text = str(error).replace("--pause-max", "--max").replace("--pause", "--timeout")
        raise click.UsageError(text) from None
    _change(domain, options, "paused", store)


@route.command("resume")
@_domain
@store_options
def resume_route(domain: str, store: Settings) -> None:
    """Forward the held requests of a paused route, in order, and new ones."""
    _change(domain, {"pause": None, "pause_max": None}, "resumed", store)


@route.command("maintenance")
@_domain
@click.option(
    "--page",
    type=click.File("rb"),
    metavar="FILE",
    help="HTML file to answer with, up to 64 KiB; without it, a line of text.",
)
@click.option("--off", is_flag=True, help="End the maintenance: forward requests again.")
@store_options
def maintain_route(domain: str, page: BinaryIO | None, off: bool, store: Settings) -> None:
    """Answer 503 instead of forwarding requests.

    Requests in flight continue. The page is stored in the database; the file is not needed
    afterwards.
    """
    if off and page is not None:
        raise click.UsageError("--page cannot be used with --off")
    if off:
        _change(
            domain, {"maintenance": None, "maintenance_page": None}, "out of maintenance", store
        )
        return
    text = None if page is None else _read_page(page)
    _change(domain, {"maintenance": True, "maintenance_page": text}, "in maintenance", store)


def _read_page(page: BinaryIO) -> str:
    content = page.read(MAX_PAGE + 1)
    if len(content) > MAX_PAGE:
        raise RouteError(f"{page.name} is larger than {MAX_PAGE // 1024} KiB")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise RouteError(f"{page.name} is not UTF-8: convert it first") from None


@route.command("password")
@click.argument("user")
def make_password(user: str) -> None:
    """Print USER:HASH for `route set --basic-auth`.

    The password is prompted for on a terminal, or read from the first line of standard input.
    """
    check_user(user)
    if _at_terminal():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        try:
            password = sys.stdin.buffer.readline().decode().rstrip("\r\n")
        except UnicodeDecodeError:
            raise RouteError("the password is not UTF-8") from None
    if not password:
        raise RouteError("the password is empty: enter it, or pass it on standard input")
    click.echo(f"{user}:{hash_password(password)}")


def _at_terminal() -> bool:
    return sys.stdin.isatty()


def _change(domain: str, options: Mapping[str, object], done: str, store: Settings) -> None:
    """Change some options of a route, and tell it."""
    acknowledge(f"{domain} {done}", RouteWriter(store.db).change(domain, options), store)


@route.command("adopt")
@store_options
def adopt_database(store: Settings) -> None:
    """Serve the database that is there, although it is another one.

    An edge that has served routes takes no other database than the one that they were from, nor a
    new one in its place. Without a database, the next `route set` makes a new one.
    """
    answer = request(store.control_path, "POST", "/adopt", {})
    if answer is None:
        _forget_served_routes(store)
    elif answer["workers"]:
        click.echo(f"{store.db} is taken, {served(answer)}")
    else:
        click.echo(
            f"{store.db} has no routes: the edge goes on with those that it serves"
            f" (version {answer['version']}) until a route is set, and then has that one only"
        )


def _forget_served_routes(store: Settings) -> None:
    file = SnapshotFile(store.db)
    try:
        found = file.remove()
    except OSError as error:
        raise StoreError(f"cannot remove {file.path}: {error.strerror}") from None
    done = f"{file.path} is removed" if found else "there was nothing to forget"
    click.echo(f"{done}: whichever edge is started next takes any {store.db}")


@route.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@db_option
def list_routes(as_json: bool, store: Settings) -> None:
    """List the routes.

    Invalid rows of the database are answered 503; they are reported on stderr.
    """
    loaded = read_routes(store)
    routes = sorted(loaded.table, key=lambda each: each.key)
    if as_json:
        listed = {
            "version": loaded.table.version,
            "routes": [_as_json(each) for each in routes],
            "problems": loaded.problems,
        }
        output.print_json(listed)
        return
    rows = [
        (each.key, ",".join(each.targets), shlex.join(each.options.as_flags()), _state(each))
        for each in routes
    ]
    heading = ("ROUTE", "TARGETS", "OPTIONS", "STATE" if any(row[3] for row in rows) else "")
    click.echo(output.table([heading, *rows]))
    output.print_problems(loaded.problems)


def _state(each: Route) -> str:
    reason = each.why_unavailable(boot_id())
    return f"unavailable: {reason}" if reason else ""


def _as_json(each: Route) -> dict[str, object]:
    return {
        "domain": each.key,
        "targets": each.targets,
        "weights": each.weights,
        "options": each.options.non_default(),
        "unavailable": each.why_unavailable(boot_id()) or None,
    }

"""Owns the command line `fairlead`: its words, its output and its exit codes.

0: done. 1: the change is refused, the store cannot be read, or nothing matches; the reason is on
stderr. 2: a wrong word, or a setting that cannot be used. What runs the edge is imported only by
the command that runs it, so that the others start fast.
"""

import inspect
import os
import re
import shlex
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import click
import orjson

from edge.config import SETTINGS, Setting, load
from edge.errors import ConfigError, FairleadError, RouteError
from edge.password import hash_password
from edge.route_options import DEFAULTS, MAX_PAGE, OPTIONS, Option, check_user, read_flags, shown
from edge.route_store import Loaded, RouteReader, RouteWriter
from edge.routes import Route, normalize_host, parse_route

CONNECT_TIMEOUT: Final = 1.0  # seconds that `explain` gives a target, its name's lookup included

_URL: Final = re.compile(r"(?:(?:https?|wss?)://)?([^/?#]+)([^#]*)(?:#.*)?", re.IGNORECASE)
_PORT: Final = re.compile(r":[0-9]*$")


class _Command(click.Command):
    """A command whose errors are one line on stderr and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FairleadError as error:
            click.echo(f"fairlead: {error}", err=True)
            ctx.exit(2 if isinstance(error, ConfigError) else 1)


class _Group(click.Group):
    command_class = _Command


def _flag(setting: Setting) -> click.Option:
    """The option of a setting. It stays text: `load` parses what comes from any source."""
    sources = ", ".join(setting.variables)
    default = setting.default or "none"
    return click.Option(
        [setting.flag, setting.name],
        metavar="VALUE",
        help=f"{setting.meaning}  [{setting.unit}; {sources}; default: {default}]",
    )


_DB: Final = next(setting for setting in SETTINGS if setting.name == "db")
_db_option: Final = click.option(_DB.flag, "db", metavar="PATH", help=_flag(_DB).help)


def _db_path(flag: str | None) -> Path:
    """The database, whatever is wrong with the other settings of the environment."""
    return load({"db": flag}, {name: os.environ.get(name, "") for name in _DB.variables}).db


@click.group(cls=_Group)
@click.version_option(package_name="fairlead", prog_name="fairlead")
def main() -> None:
    """A reverse proxy that serves by Host, and its routes."""


def _serve(**flags: str | None) -> None:
    settings = load(flags, os.environ)
    from edge.worker import run

    click.get_current_context().exit(run(settings))


edge: Final = _Command(
    "edge",
    callback=_serve,
    params=[_flag(setting) for setting in SETTINGS],
    help="Run the edge: serve the routes of the database until SIGTERM or SIGINT.",
)
main.add_command(edge)
main.add_command(
    _Command(
        "up",
        callback=_serve,
        params=[_flag(setting) for setting in SETTINGS],
        help="Run everything that there is: the edge.",
    )
)


@main.group(cls=_Group)
def route() -> None:
    """Show and change the routes. A running edge follows within its polling interval."""


def _option_flag(option: Option) -> click.Option:
    """The flag of a route's option. It stays text: `read_flags` parses it."""
    if not option.syntax.metavar:
        return click.Option([option.flag, option.name], is_flag=True, help=option.meaning)
    return click.Option(
        [option.flag, option.name],
        metavar=option.syntax.metavar,
        multiple=option.syntax.many,
        help=option.meaning,
    )


def _set_route(domain: str, target: str, db: str | None, **flags: Any) -> None:
    """Send the requests for HOST, or those under HOST/PREFIX, to one of the targets.

    HOST is a name, an address, *.NAME for every name below it, or * for every host without a
    closer route. TARGET is host:port. A route that exists is replaced, with all its options.
    """
    given = {
        name: text if isinstance(text, tuple) else (str(text),)
        for name, text in flags.items()
        if text
    }
    try:
        options = read_flags(given)
    except RouteError as error:
        raise click.UsageError(str(error)) from None
    wanted = parse_route(domain, target, orjson.dumps(options).decode())
    targets = ",".join(wanted.targets)
    version = RouteWriter(_db_path(db)).set(wanted.domain, targets, wanted.options.kept())
    click.echo(f"{wanted.domain} -> {targets} (version {version})")


route.add_command(
    _Command(
        "set",
        callback=_set_route,
        params=[
            click.Argument(["domain"], metavar="HOST[/PREFIX]"),
            click.Argument(["target"], metavar="TARGET[,TARGET...]"),
            *(_option_flag(option) for option in OPTIONS if option.flag),
            click.Option([_DB.flag, "db"], metavar="PATH", help=_flag(_DB).help),
        ],
        help=inspect.getdoc(_set_route),
    )
)


@route.command("rm")
@click.argument("domain", metavar="HOST[/PREFIX]")
@_db_option
def remove_route(domain: str, db: str | None) -> None:
    """Remove a route."""
    version = RouteWriter(_db_path(db)).remove(domain)
    click.echo(f"{domain} removed (version {version})")


_domain: Final = click.argument("domain", metavar="HOST[/PREFIX]")


@route.command("pause")
@_domain
@click.option("--max", "most", metavar="N", help="Requests that each worker holds at once.")
@click.option("--timeout", metavar="SECONDS", default="30", help="How long one is held at most.")
@_db_option
def pause_route(domain: str, most: str | None, timeout: str, db: str | None) -> None:
    """Hold new requests for a route until it is resumed; what is in flight goes on.

    One request too many, and one that was held for too long, gets 503. `route set` ends a pause
    too, and the requests that wait go to its targets.
    """
    given = {"pause": [timeout], "pause_max": [str(DEFAULTS.pause_max) if most is None else most]}
    try:
        options = read_flags(given)
    except RouteError as error:
        text = str(error).replace("--pause-max", "--max").replace("--pause", "--timeout")
        raise click.UsageError(text) from None
    _change(domain, options, "paused", db)


@route.command("resume")
@_domain
@_db_option
def resume_route(domain: str, db: str | None) -> None:
    """Let the requests for a paused route go on: those that are held, in order, and new ones."""
    _change(domain, {"pause": None, "pause_max": None}, "resumed", db)


@route.command("maintenance")
@_domain
@click.option("--page", type=click.File("rb"), help="HTML that clients get, up to 64 KiB.")
@click.option("--off", is_flag=True, help="Forward requests again.")
@_db_option
def maintain_route(domain: str, page: BinaryIO | None, off: bool, db: str | None) -> None:
    """Answer 503 on a route instead of forwarding; what is in flight goes on.

    The page is stored in the database: the file is not needed afterwards.
    """
    if off and page is not None:
        raise click.UsageError("--off takes no --page")
    if off:
        _change(domain, {"maintenance": None, "maintenance_page": None}, "out of maintenance", db)
        return
    text = None if page is None else _read_page(page)
    _change(domain, {"maintenance": True, "maintenance_page": text}, "in maintenance", db)


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
    """Print USER:HASH for --basic-auth of `route set`.

    The password is asked for, or else the first line of the standard input.
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
        raise RouteError("the password is empty: write it into the standard input")
    click.echo(f"{user}:{hash_password(password)}")


def _at_terminal() -> bool:
    return sys.stdin.isatty()


def _change(domain: str, options: Mapping[str, object], done: str, db: str | None) -> None:
    """Change some options of a route, and tell it."""
    version = RouteWriter(_db_path(db)).change(domain, options)
    click.echo(f"{domain} {done} (version {version})")


@route.command("ls")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@_db_option
def list_routes(as_json: bool, db: str | None) -> None:
    """List the routes. Rows that cannot be used, and are not served, are named on stderr."""
    loaded = _read(_db_path(db))
    routes = sorted(loaded.table, key=lambda each: each.domain)
    if as_json:
        listed = {
            "version": loaded.table.version,
            "routes": [_as_json(each) for each in routes],
            "problems": loaded.problems,
        }
        click.echo(orjson.dumps(listed, option=orjson.OPT_INDENT_2))
        return
    rows = [
        (each.domain, ",".join(each.targets), shlex.join(each.options.as_flags()))
        for each in routes
    ]
    click.echo(_aligned([("ROUTE", "TARGETS", "OPTIONS"), *rows]))
    _name_problems(loaded)


@main.command()
@click.argument("url")
@_db_option
@click.pass_context
def explain(context: click.Context, url: str, db: str | None) -> None:
    """Say which route a request for URL takes, why no other one, and how its targets are."""
    host, path = _parse_url(url)
    loaded = _read(_db_path(db))
    candidates = loaded.table.candidates(host, path)
    chosen = next((each for each in candidates if each.chosen), None)
    if chosen is not None:
        click.echo(f"{chosen.route.domain} (version {loaded.table.version}): {chosen.reason}")
        options = shlex.join(chosen.route.options.as_flags())
        if options:
            click.echo(f"options: {options}")
        click.echo("\ntargets:")
        states = _states(chosen.route.targets)
        click.echo(_aligned([(f"  {target}", state) for target, state in states.items()]))
    others = [(f"  {each.route.domain}", each.reason) for each in candidates if not each.chosen]
    if others:
        click.echo("\nother routes:" if chosen else "routes that come close:")
        click.echo(_aligned(others))
    _name_problems(loaded)
    if chosen is None:
        click.echo(f"fairlead: no route matches {url}", err=True)
        context.exit(1)


def _read(db: Path) -> Loaded:
    loaded = RouteReader(db).poll()
    assert loaded is not None  # the first look of a reader is always news
    return loaded


def _name_problems(loaded: Loaded) -> None:
    for problem in loaded.problems:
        click.echo(f"fairlead: {problem}", err=True)


def _as_json(each: Route) -> dict[str, object]:
    return {
        "domain": each.domain,
        "targets": each.targets,
        "weights": each.weights,
        "options": each.options.kept(),
    }


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _parse_url(url: str) -> tuple[str, bytes]:
    """The host and the target in origin form that a client would send for a URL."""
    found = _URL.fullmatch(url)
    if found is None or (found[1].endswith(":") and found[2].startswith("//")):
        raise click.UsageError(f"{shown(url)} is not a URL such as http://app.test/path")
    try:
        host = normalize_host(_PORT.sub("", found[1]))
    except RouteError as error:
        raise click.UsageError(str(error)) from None
    path = found[2] if found[2].startswith("/") else f"/{found[2]}"
    return host, path.encode(errors="surrogateescape")


def _states(targets: Sequence[str]) -> dict[str, str]:
    """What becomes of a TCP connection to each target, all tried at once."""
    states = dict.fromkeys(targets, f"gives no answer within {CONNECT_TIMEOUT:g} s")

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
        return f"gives no answer within {CONNECT_TIMEOUT:g} s"
    except socket.gaierror as error:
        return f"has a name that cannot be resolved: {error.strerror}"
    except OSError as error:
        return f"cannot be reached: {error.strerror}"
    return "accepts connections"

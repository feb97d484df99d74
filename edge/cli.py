"""Owns the command line `fairlead`: its words, its output and its exit codes.

0: done. 1: the change is refused, the store cannot be read, or nothing matches; the reason is on
stderr. 2: a wrong word, or a setting that cannot be used. What runs the edge is imported only by
the command that runs it, so that the others start fast.
"""

import os
import re
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import click
import orjson

from edge.config import SETTINGS, Setting, load, parse_size
from edge.errors import ConfigError, FairleadError, RouteError
from edge.route_store import Loaded, RouteReader, RouteWriter
from edge.routes import BALANCES, HOST_HEADERS, Route, normalize_host, parse_route, shown

CONNECT_TIMEOUT: Final = 1.0  # seconds that `explain` gives a target, its name's lookup included

_URL: Final = re.compile(r"(?:(?:https?|wss?)://)?([^/?#]+)([^#]*)(?:#.*)?", re.IGNORECASE)
_PORT: Final = re.compile(r":[0-9]*$")
_SIZES: Final = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))


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


def _size(_context: click.Context, _option: click.Parameter, text: str | None) -> int | None:
    try:
        return None if text is None else parse_size(text)
    except ConfigError as error:
        raise click.BadParameter(str(error)) from None


def _weights(
    _context: click.Context, _option: click.Parameter, texts: Sequence[str]
) -> dict[str, int]:
    weights: dict[str, int] = {}
    for text in texts:
        target, _, number = text.rpartition("=")
        if not target or not re.fullmatch("[0-9]{1,9}", number):
            raise click.BadParameter(f"{text!r} is not TARGET=NUMBER, such as 127.0.0.1:9101=3")
        if target in weights:
            raise click.BadParameter(f"{target!r} has two weights")
        weights[target] = int(number)
    return weights


@route.command("set")
@click.argument("domain", metavar="HOST[/PREFIX]")
@click.argument("target", metavar="TARGET[,TARGET...]")
@click.option("--strip", is_flag=True, help="Take the prefix off the path that the target gets.")
@click.option(
    "--max-body",
    metavar="SIZE",
    callback=_size,
    help="Largest request body, such as 10MiB; 0: no limit; not given: the edge's setting.",
)
@click.option(
    "--host",
    type=click.Choice(HOST_HEADERS),
    default="client",
    show_default=True,
    help="Whose Host the target gets: the client's, or its own address.",
)
@click.option(
    "--balance",
    type=click.Choice(BALANCES),
    default="round_robin",
    show_default=True,
    help="How one of several targets is picked.",
)
@click.option(
    "--weight",
    "weights",
    metavar="TARGET=N",
    multiple=True,
    callback=_weights,
    help="Share of a target, 1 to 100, 1 if not given; may be repeated.",
)
@_db_option
def set_route(
    domain: str,
    target: str,
    strip: bool,
    max_body: int | None,
    host: str,
    balance: str,
    weights: dict[str, int],
    db: str | None,
) -> None:
    """Send the requests for HOST, or those under HOST/PREFIX, to one of the targets.

    HOST is a name, an address, *.NAME for every name below it, or * for every host without a
    closer route. TARGET is host:port. A route that exists is replaced, with all its options.
    """
    options = {
        "strip": strip,
        "max_body": max_body,
        "host": host,
        "balance": balance,
        "weights": weights,
    }
    wanted = parse_route(domain, target, orjson.dumps(options).decode())
    targets = ",".join(wanted.targets)
    version = RouteWriter(_db_path(db)).set(wanted.domain, targets, wanted.options())
    click.echo(f"{wanted.domain} -> {targets} (version {version})")


@route.command("rm")
@click.argument("domain", metavar="HOST[/PREFIX]")
@_db_option
def remove_route(domain: str, db: str | None) -> None:
    """Remove a route."""
    version = RouteWriter(_db_path(db)).remove(domain)
    click.echo(f"{domain} removed (version {version})")


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
    rows = [(each.domain, ",".join(each.targets), _options_text(each)) for each in routes]
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
        options = _options_text(chosen.route)
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
        "balance": each.balance,
        "strip": each.strip,
        "max_body": each.max_body,
        "host": each.host_header,
    }


def _options_text(each: Route) -> str:
    """The options as the flags that set them."""
    words = ["--strip"] if each.strip else []
    if each.max_body is not None:
        words.append(f"--max-body {_size_text(each.max_body)}")
    if each.host_header != "client":
        words.append(f"--host {each.host_header}")
    if each.balance != "round_robin":
        words.append(f"--balance {each.balance}")
    words += [
        f"--weight {target}={weight}"
        for target, weight in zip(each.targets, each.weights, strict=True)
        if weight != 1
    ]
    return " ".join(words)


def _size_text(size: int) -> str:
    for unit, factor in _SIZES:
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


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

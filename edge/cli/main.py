"""Owns the command line `fairlead`: its words, its output and its exit codes.

0: done. 1: the change is refused, the store cannot be read or does not pass a check, or nothing
matches; the reason is on stderr. 2: a wrong word, or a setting that cannot be used. What runs the
edge is imported only by the command that runs it, so that the others start fast.
"""

import functools
import inspect
import os
import shlex
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import urlencode

import click
import orjson

from edge.cli import plugins
from edge.control.client import EdgeError, request
from edge.errors import ConfigError, FairleadError, RouteError
from edge.routing.explain import explain as explain_url
from edge.routing.explain import parse_url
from edge.routing.options import DEFAULTS, MAX_PAGE, OPTIONS, Option, check_user, read_flags
from edge.routing.routes import Route, parse_route, parse_target
from edge.routing.store import Loaded, RouteReader, RouteWriter
from edge.rules.password import hash_password
from edge.settings.settings import SETTINGS, Setting, Settings, given_texts, load

CONNECT_TIMEOUT: Final = 1.0  # seconds that `explain` gives a target, its name's lookup included


class _Command(click.Command):
    """A command whose errors are one line on stderr and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FairleadError as error:
            click.echo(f"fairlead: {error}", err=True)
            ctx.exit(2 if isinstance(error, ConfigError) else 1)


class _Group(_Command, click.Group):
    command_class = _Command


class _Main(_Group):
    """Its further commands are looked for only where they are asked for: that takes time."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *sorted(plugins.found(plugins.COMMANDS))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        point = plugins.found(plugins.COMMANDS).get(cmd_name)
        return None if point is None else plugins.load(point)


def _flag(setting: Setting) -> click.Option:
    """The option of a setting. It stays text: `load` parses what comes from any source."""
    sources = ", ".join(setting.variables)
    default = setting.default or "none"
    return click.Option(
        [setting.flag, setting.name],
        metavar="VALUE",
        help=f"{setting.meaning}  [{setting.unit}; {sources}; default: {default}]",
    )


_DB, _CONTROL = (
    next(setting for setting in SETTINGS if setting.name == name)
    for name in ("db", "control_socket")
)
_db_option: Final = click.option(_DB.flag, "db", metavar="PATH", help=_flag(_DB).help)


def _locations(db: str | None, control_socket: str | None) -> Settings:
    """Database and control socket, whatever is wrong with the other settings of the environment."""
    variables = (*_DB.variables, *_CONTROL.variables)
    environ = {name: os.environ.get(name, "") for name in variables}
    return load({"db": db, "control_socket": control_socket}, environ)


def _db_path(flag: str | None) -> Path:
    return _locations(flag, None).db


def _store_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that lead to a database and the edge beside it; the command gets `store`."""

    @click.option(_DB.flag, "db", metavar="PATH", help=_flag(_DB).help)
    @click.option(_CONTROL.flag, "control_socket", metavar="PATH", help=_flag(_CONTROL).help)
    @functools.wraps(command)
    def with_store(db: str | None, control_socket: str | None, **others: Any) -> None:
        command(**others, store=_locations(db, control_socket))

    return with_store


def _tell(what: str, version: int, store: Settings) -> None:
    """Print `what` was done, once every worker of a running edge serves `version`."""
    try:
        answer = request(store.control_path, "POST", "/reload", {"version": version})
    except EdgeError as error:
        raise EdgeError(
            f"{what} (version {version}) is written, but not served yet: {error}"
        ) from None
    if answer is None:
        click.echo(f"{what} (version {version}; no edge runs at {store.control_path})")
        return
    workers = answer["workers"]
    click.echo(
        f"{what} (version {version}, served by {workers}/{workers} workers"
        f" after {answer['milliseconds']:.0f} ms)"
    )


@click.group(cls=_Main)
@click.version_option(package_name="fairlead", prog_name="fairlead")
def main() -> None:
    """A reverse proxy that serves by Host, its routes, and deploys behind them."""


def _serve_or_check(check: bool, **flags: str | None) -> None:
    if click.get_current_context().invoked_subcommand is not None:
        return
    if check:
        _check(flags)
    else:
        _serve(**flags)


def _check(flags: Mapping[str, str | None]) -> None:
    from edge.cli.check import check

    found = check(flags, os.environ)
    for problem in (*found.settings, *found.routes):
        click.echo(f"fairlead: {problem}", err=True)
    if found.table is not None:
        table = found.table
        count = "1 route" if len(table) == 1 else f"{len(table)} routes"
        click.echo(f"{count} to serve (version {table.version})")
    click.get_current_context().exit(2 if found.settings else 1 if found.routes else 0)


def _serve(**flags: str | None) -> None:
    load(flags, os.environ)  # what is wrong is named by its flag or variable
    from edge.supervisor.supervisor import run

    click.get_current_context().exit(run(given_texts(flags, os.environ)))


edge: Final = _Group(
    "edge",
    callback=_serve_or_check,
    invoke_without_command=True,
    params=[
        *(_flag(setting) for setting in SETTINGS),
        click.Option(
            ["--check"],
            is_flag=True,
            help="Say what is wrong with the settings and the routes; start and change nothing.",
        ),
    ],
    help="Run the edge: serve the routes of the database until SIGTERM or SIGINT.",
)
main.add_command(edge)


@edge.command("upgrade")
@_store_options
def upgrade_edge(store: Settings) -> None:
    """Have the code on disk take over from the edge that runs, without losing a request."""
    answer = request(store.control_path, "POST", "/upgrade", {})
    if answer is None:
        raise EdgeError(f"no edge runs at {store.control_path}: start one with `fairlead edge`")
    click.echo(f"process {answer['pid']} serves after {answer['seconds']:g} s")


@main.command("drain")
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
@_store_options
def drain_target(
    target: str, timeout: float, tunnel_timeout: float, undo: bool, store: Settings
) -> None:
    """Send no new request to TARGET, and wait until none is in flight on it."""
    fields: dict[str, object] = {"target": parse_target(target)}
    path = "/undrain" if undo else "/drain"
    if not undo:
        fields |= {"timeout": timeout, "tunnel_timeout": tunnel_timeout}
    answer = request(store.control_path, "POST", path, fields)
    if answer is None:
        raise EdgeError(f"no edge runs at {store.control_path}: nothing to drain")
    if undo:
        click.echo(f"{answer['target']} gets requests again")
    else:
        click.echo(
            f"{answer['target']} is drained after {answer['seconds']:g} s:"
            f" {answer['finished']} finished, {answer['cut']} cut,"
            f" {answer['tunnels_closed']} tunnels closed"
        )


class _Up(_Command):
    """Its flags are the edge's and those of all sidecars; what several share is given once."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        params = super().get_params(ctx)
        known = {param.name for param in params}
        for command in plugins.sidecars().values():
            params += [each for each in command.get_params(ctx) if each.name not in known]
            known |= {param.name for param in params}
        return params


def _serve_all(**flags: str | None) -> None:
    edge_flags = {setting.name: flags[setting.name] for setting in SETTINGS}
    load(edge_flags, os.environ)  # what is wrong is named by its flag or variable
    from edge.supervisor.sidecar import Sidecar
    from edge.supervisor.supervisor import run

    variables = {f"FAIRLEAD_{name.upper()}": text for name, text in flags.items() if text}
    sidecars = [Sidecar(name, name, variables) for name in plugins.found(plugins.SIDECARS)]
    texts = given_texts(edge_flags, os.environ)
    click.get_current_context().exit(run(texts, sidecars))


main.add_command(
    _Up(
        "up",
        callback=_serve_all,
        params=[_flag(setting) for setting in SETTINGS],
        help="Run everything that there is under one supervisor: the edge and the orchestrator.",
    )
)


@main.group(cls=_Group)
def route() -> None:
    """Show and change the routes. Changes are done when a running edge serves them."""


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


@_store_options
def _set_route(domain: str, target: str, store: Settings, **flags: Any) -> None:
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
    version = RouteWriter(store.db).set(wanted.key, targets, wanted.options.non_default())
    _tell(f"{wanted.key} -> {targets}", version, store)


route.add_command(
    _Command(
        "set",
        callback=_set_route,
        params=[
            click.Argument(["domain"], metavar="HOST[/PREFIX]"),
            click.Argument(["target"], metavar="TARGET[,TARGET...]"),
            *(_option_flag(option) for option in OPTIONS if option.flag),
            *getattr(_set_route, "__click_params__", []),
        ],
        help=inspect.getdoc(_set_route),
    )
)


@route.command("rm")
@click.argument("domain", metavar="HOST[/PREFIX]")
@_store_options
def remove_route(domain: str, store: Settings) -> None:
    """Remove a route."""
    _tell(f"{domain} removed", RouteWriter(store.db).remove(domain), store)


_domain: Final = click.argument("domain", metavar="HOST[/PREFIX]")


@route.command("pause")
@_domain
@click.option("--max", "most", metavar="N", help="Requests that each worker holds at once.")
@click.option("--timeout", metavar="SECONDS", default="30", help="How long one is held at most.")
@_store_options
def pause_route(domain: str, most: str | None, timeout: str, store: Settings) -> None:
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
    _change(domain, options, "paused", store)


@route.command("resume")
@_domain
@_store_options
def resume_route(domain: str, store: Settings) -> None:
    """Let the requests for a paused route go on: those that are held, in order, and new ones."""
    _change(domain, {"pause": None, "pause_max": None}, "resumed", store)


@route.command("maintenance")
@_domain
@click.option("--page", type=click.File("rb"), help="HTML that clients get, up to 64 KiB.")
@click.option("--off", is_flag=True, help="Forward requests again.")
@_store_options
def maintain_route(domain: str, page: BinaryIO | None, off: bool, store: Settings) -> None:
    """Answer 503 on a route instead of forwarding; what is in flight goes on.

    The page is stored in the database: the file is not needed afterwards.
    """
    if off and page is not None:
        raise click.UsageError("--off takes no --page")
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


def _change(domain: str, options: Mapping[str, object], done: str, store: Settings) -> None:
    """Change some options of a route, and tell it."""
    _tell(f"{domain} {done}", RouteWriter(store.db).change(domain, options), store)


@route.command("ls")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for programs.")
@_db_option
def list_routes(as_json: bool, db: str | None) -> None:
    """List the routes. Rows that cannot be used, and are not served, are named on stderr."""
    loaded = _read(_db_path(db))
    routes = sorted(loaded.table, key=lambda each: each.key)
    if as_json:
        listed = {
            "version": loaded.table.version,
            "routes": [_as_json(each) for each in routes],
            "problems": loaded.problems,
        }
        click.echo(orjson.dumps(listed, option=orjson.OPT_INDENT_2))
        return
    rows = [
        (each.key, ",".join(each.targets), shlex.join(each.options.as_flags())) for each in routes
    ]
    click.echo(_aligned([("ROUTE", "TARGETS", "OPTIONS"), *rows]))
    _name_problems(loaded)


@main.command()
@click.argument("url")
@_store_options
@click.pass_context
def explain(context: click.Context, url: str, store: Settings) -> None:
    """Say which route a request for URL takes, why no other one, and how its targets are."""
    try:
        host, path = parse_url(url)
    except RouteError as error:
        raise click.UsageError(str(error)) from None
    loaded = _read(store.db)
    found = explain_url(loaded.table, host, path)
    chosen = found.chosen
    if chosen is not None:
        click.echo(f"{chosen.route.key} (version {found.version}): {chosen.reason}")
        options = shlex.join(chosen.route.options.as_flags())
        if options:
            click.echo(f"options: {options}")
        click.echo("\ntargets:")
        states = _states(chosen.route.targets)
        judged = _judged(store, url)
        rows = [
            (f"  {target}", f"{state}{judged.get(target, '')}") for target, state in states.items()
        ]
        click.echo(_aligned(rows))
    others = [(f"  {each.route.key}", each.reason) for each in found.others]
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
        "domain": each.key,
        "targets": each.targets,
        "weights": each.weights,
        "options": each.options.non_default(),
    }


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _judged(store: Settings, url: str) -> dict[str, str]:
    """What the edge that runs thinks of the targets, as the end of a sentence."""
    try:
        answer = request(store.control_path, "GET", f"/explain?{urlencode({'url': url})}")
    except EdgeError:
        return {}  # One that is being stopped; what can be seen from here is shown.
    judged = {}
    for target in answer["targets"] if answer and answer["route"] else ():
        if "state" in target:
            reason = f" ({target['reason']})" if target["reason"] else ""
            judged[target["target"]] = f"; for the edge it is {target['state']}{reason}"
    return judged


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

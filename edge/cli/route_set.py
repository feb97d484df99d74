"""Owns `fairlead route set` and `route update`: a route is made or changed, what differs is shown,
and no access rule goes unless that is said.
"""

import inspect
from collections.abc import Callable, Collection, Mapping
from time import monotonic, sleep
from typing import Any, Final
from urllib.parse import urlencode

import click
import orjson

from edge.cli import output
from edge.cli.store import acknowledge, ask_edge, read_routes, store_options
from edge.errors import EdgeError, RouteError, quote
from edge.routing.change import Change, changed
from edge.routing.options import OPTIONS, Option, read_flags
from edge.routing.route import Route, parse_key, parse_route
from edge.routing.snapshot_file import SnapshotFile
from edge.routing.store import NoRoutesError
from edge.routing.store_writer import RouteWriter
from edge.routing.table import RouteTable
from edge.settings.settings import Settings

# Seconds between two looks at how many requests a route has answered.
RATE_TIME: Final = 1.0

_FLAGS: Final = tuple(option for option in OPTIONS if option.flag)
_BY_WORD: Final = {option.flag.removeprefix("--"): option.name for option in _FLAGS}


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


def _command(name: str, callback: Callable[..., None], *params: click.Parameter) -> click.Command:
    """One that takes a route and its options, and says what it would do if asked to."""
    return click.Command(
        name,
        callback=callback,
        params=[
            click.Argument(["domain"], metavar="HOST[/PREFIX]"),
            *params,
            *map(_option_flag, _FLAGS),
            click.Option(
                ["--replace"],
                is_flag=True,
                help="Take away access rules (--allow, --deny, --basic-auth, --rate) that the route"
                " has and that are not given here.",
            ),
            click.Option(
                ["--dry-run"],
                is_flag=True,
                help="Change nothing: show the difference, and how many requests per second it"
                " concerns.",
            ),
            *getattr(callback, "__click_params__", []),
        ],
        help=inspect.getdoc(callback),
    )


@store_options
def _set_route(
    domain: str, target: str, replace: bool, dry_run: bool, store: Settings, **flags: Any
) -> None:
    """Create a route, or replace one and all its options.

    Requests for HOST, or for paths below HOST/PREFIX, are forwarded to one of the targets. HOST is
    a name, an address, *.NAME for all names below NAME, or * for all hosts without a more specific
    route. TARGET is HOST:PORT.

    What differs from the route that was there is shown. Access rules that it had go only with
    --replace; `fairlead route update` changes only what is named.
    """
    options = _read(flags)
    wanted = parse_route(domain, target, orjson.dumps(options).decode())
    judge = _Judge(() if not replace else None)
    if dry_run:
        _preview(Change(_stored(wanted.key, store), wanted), judge, store)
        return
    targets = ",".join(wanted.targets)
    version = RouteWriter(store.db).set(
        wanted.key, targets, wanted.options.non_default(), judge.look
    )
    judge.show()
    acknowledge(f"{wanted.key} -> {targets}", version, store)


@store_options
def _update_route(
    domain: str,
    targets: str | None,
    unset: tuple[str, ...],
    replace: bool,
    dry_run: bool,
    store: Settings,
    **flags: Any,
) -> None:
    """Change the targets or some options of a route, and leave the rest as it is.

    An option that may be given several times is replaced as a whole. --weight belongs to the
    targets, and goes with them.
    """
    options = _read(flags)
    cleared = {_BY_WORD[word]: None for word in unset}
    twice = options.keys() & cleared.keys()
    if twice:
        raise click.UsageError(f"--{min(twice).replace('_', '-')} is given and unset")
    if not options and not cleared and targets is None:
        raise click.UsageError("nothing to change: name a target or an option")
    host, prefix = parse_key(domain)
    key = host + prefix.decode("ascii")
    judge = _Judge(cleared if not replace else None)
    if dry_run:
        old = _stored(key, store)
        if old is None:
            raise RouteError(f"there is no route {quote(key)}: create it with `fairlead route set`")
        _preview(Change(old, changed(old, options | cleared, targets)), judge, store)
        return
    version = RouteWriter(store.db).change(key, options | cleared, targets, judge.look)
    judge.show()
    acknowledge(f"{key} updated", version, store)


def _read(flags: Mapping[str, Any]) -> dict[str, object]:
    given = {
        name: text if isinstance(text, tuple) else (str(text),)
        for name, text in flags.items()
        if text
    }
    try:
        return read_flags(given)
    except RouteError as error:
        raise click.UsageError(str(error)) from None


class _Judge:
    """Looks at a change: takes no access rule away but those of options in `said`; None: any."""

    def __init__(self, said: Collection[str] | None) -> None:
        self._said = said
        self._lines: list[str] = []

    def look(self, change: Change) -> None:
        """Raises RouteError."""
        self._lines = [] if change.old is None else change.lines()
        if self._said is None:
            return
        if change.fault:
            raise RouteError(
                f"the route {change.new.key} that is stored is not valid ({change.fault}), so its"
                " rules cannot be told: add --replace to drop them"
            )
        gone = change.taken_away(self._said)
        if gone:
            raise RouteError(
                f"{change.new.key} would lose {', '.join(gone)}: give it again, change only what"
                " you name with `fairlead route update`, or add --replace"
            )

    def show(self) -> None:
        """What the change has changed."""
        for line in self._lines:
            click.echo(output.line(line))


def _stored(key: str, store: Settings) -> Route | None:
    try:
        return read_routes(store).table.get(key)
    except NoRoutesError:
        if SnapshotFile(store.db).binds:
            raise
        return RouteTable().get(key)


def _preview(change: Change, judge: _Judge, store: Settings) -> None:
    """Show what would become of a route. Raises RouteError where it would be refused."""
    lines = change.lines()
    for line in lines or ["nothing would change"]:
        click.echo(output.line(line))
    click.echo(output.line(_concerned(change.new.key, store)))
    judge.look(change)


def _concerned(key: str, store: Settings) -> str:
    """How many requests a change of the route `key` concerns, as the edge counts them."""
    host, prefix = parse_key(key)
    # A name that the wildcard stands for, and that hardly anybody has a route for.
    name = host.replace("*", "_", 1)
    question = f"/explain?{urlencode({'url': f'http://{name}{prefix.decode()}'})}"
    try:
        first, began = ask_edge(store, "GET", question), monotonic()
        if first["route"] is None:
            return "no route takes its requests now: they are answered 404"
        sleep(RATE_TIME)
        last, seconds = ask_edge(store, "GET", question), monotonic() - began
    except EdgeError as error:
        return f"how many requests per second this concerns cannot be told: {error}"
    rate = max(0, last["requests"] - first["requests"]) / seconds
    if first["route"] == key:
        return f"{rate:.1f} requests per second take this route"
    return f"at most {rate:.1f} requests per second: those that {first['route']} takes now"


set_route: Final = _command(
    "set", _set_route, click.Argument(["target"], metavar="TARGET[,TARGET...]")
)

update_route: Final = _command(
    "update",
    _update_route,
    click.Option(
        ["--target", "targets"], metavar="TARGET[,TARGET...]", help="Lead to these targets."
    ),
    click.Option(
        ["--unset"],
        multiple=True,
        type=click.Choice(sorted(_BY_WORD)),
        metavar="OPTION",
        help="Bring this option back to its default, such as `rate`; says of an access rule that it"
        " goes (repeatable).",
    ),
)

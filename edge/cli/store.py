"""Owns how a command gets at the database and at the edge beside it: their flags, their use."""

import functools
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import click

from edge.errors import EdgeError
from edge.settings.schema import Setting
from edge.settings.settings import SETTINGS, Settings, load

if TYPE_CHECKING:
    from edge.routing.store_reader import Loaded

_Callback = Callable[..., None]

_DB, _CONTROL = (
    next(setting for setting in SETTINGS if setting.name == name)
    for name in ("db", "control_socket")
)


def _option(setting: Setting) -> Callable[[_Callback], _Callback]:
    return click.option(setting.flag, setting.name, metavar="PATH", help=setting.help)


_db_option: Final = _option(_DB)
_control_option: Final = _option(_CONTROL)


def db_option(command: _Callback) -> _Callback:
    """The flag that leads to a database; the command gets `store`."""

    @_db_option
    @functools.wraps(command)
    def with_store(db: str | None, **others: Any) -> None:
        command(**others, store=_locations(db, None))

    return with_store


def store_options(command: _Callback) -> _Callback:
    """The flags that lead to a database and the edge beside it; the command gets `store`."""

    @_db_option
    @_control_option
    @functools.wraps(command)
    def with_store(db: str | None, control_socket: str | None, **others: Any) -> None:
        command(**others, store=_locations(db, control_socket))

    return with_store


def _locations(db: str | None, control_socket: str | None) -> Settings:
    """Database and control socket, whatever is wrong with the other settings of the environment."""
    variables = (*_DB.variables, *_CONTROL.variables)
    environ = {name: os.environ.get(name, "") for name in variables}
    return load({"db": db, "control_socket": control_socket}, environ)


def read_routes(store: Settings) -> "Loaded":
    """What the database holds. Raises StoreError."""
    from edge.routing.store_reader import RouteReader

    loaded = RouteReader(store.db).poll()
    assert loaded is not None  # noqa: S101  the first look of a reader is always news
    return loaded


def ask_edge(
    store: Settings, method: str, path: str, fields: Mapping[str, object] | None = None
) -> dict[str, Any]:
    """What the running edge answers. Raises EdgeError."""
    from edge.control.client import request

    answer = request(store.control_path, method, path, fields)
    if answer is None:
        raise EdgeError(
            f"no edge is running at {store.control_path}: start one with `fairlead edge`"
        )
    return answer


def acknowledge(what: str, version: int, store: Settings) -> None:
    """Print `what` was done, once every worker of a running edge serves `version`."""
    from edge.control.client import request

    try:
        answer = request(store.control_path, "POST", "/reload", {"version": version})
    except EdgeError as error:
        raise EdgeError(
            f"{what} (version {version}) is saved, but not served yet: {error}"
        ) from None
    if answer is None:
        click.echo(f"{what} (version {version}; no edge is running at {store.control_path})")
        return
    click.echo(f"{what} (version {version}, {served(answer)})")


def served(answer: Mapping[str, Any]) -> str:
    """What an edge says of a change that all of its workers have taken."""
    workers = answer["workers"]
    return f"served by {workers}/{workers} workers after {answer['milliseconds']:.0f} ms"

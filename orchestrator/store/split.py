"""Owns how the state database begins: empty, or out of a database that held the routes too.

Until a split is over, what the routes' database has counts: a copy that is marked as unfinished is
made anew, as nobody has used it. So a process that is killed anywhere in it loses nothing, and the
next start goes on.
"""

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from edge.errors import StoreError, quote
from edge.routing.opening import begin_reading
from edge.routing.shared_file import SUFFIXES, open_to_folder_group
from edge.routing.store_writer import RouteWriter
from orchestrator.store.backup import copy_whole, sync_folder
from orchestrator.store.credentials import SUFFIX as CREDENTIALS
from orchestrator.store.schema import SCHEMA

logger = logging.getLogger(__name__)

# Seconds to wait for those who read or change routes.
BUSY_TIMEOUT: Final = 10.0

_MARK: Final = "split"  # key in `orchestrator_meta` of a copy that does not count yet
_META: Final = "orchestrator_meta"


def prepare(state: Path, routes: Path) -> None:
    """Have the state at `state`, if it was in the database `routes`, or see that it may begin anew.

    It may not where apps have routes: the state was there, and is lost. Raises StoreError.
    """
    if not state.parent.is_dir():
        raise StoreError(f"directory {state.parent} does not exist: create it first")
    try:
        if state.exists() and routes.exists() and state.samefile(routes):
            raise StoreError(f"{state} is {routes}: set FAIRLEAD_STATE_DB to another file")
        if state.exists() and state.stat().st_size:
            instance, is_marked = _read_meta(state)
        else:
            instance, is_marked = "", False
        if instance and not is_marked:
            return  # What another program writes into the routes' database is no state.
        others = _writable_by_others(routes)  # before SQLite tidies up what lies there
        tables = _own_tables(routes)
        if others is not None and (tables or is_marked):
            raise StoreError(
                f"{routes} has tables of an orchestrator, which other users could have written, as"
                f" they can write {others}: if the tables are yours, make it yours alone (`chown`"
                " to the orchestrator's user, `chmod go-w`) and start again"
            )
        if tables and instance in ("", _read_meta(routes)[0]):
            _move(tables, state, routes)
            _finish(state, routes)
        elif is_marked:
            _finish(state, routes)
        elif (domain := RouteWriter(routes).managed_route()) is not None:
            raise StoreError(
                f"there is no state database {state}, but {routes} has routes of apps, such as"
                f" {quote(domain)}: restore it from a backup (`fairlead backup` makes them), or"
                " forget the apps with `fairlead apps forget`"
            )
    except sqlite3.Error as error:
        raise StoreError(
            f"cannot use {state} and {routes}: {error}; restore a backup if one of them is damaged"
            " (`fairlead backup` makes them)"
        ) from error
    except OSError as error:
        raise StoreError(f"cannot use {error.filename or state}: {error.strerror}") from error


def begin_anew(state: Path) -> None:
    """Make an empty state database where there is none, for the owner of its folder.

    Raises StoreError.
    """
    draft = _draft(state)
    try:
        owner = state.absolute().parent.stat()
        with closing(sqlite3.connect(draft)) as connection:
            connection.executescript(f"BEGIN;{SCHEMA}COMMIT")
            connection.execute(
                f"INSERT INTO {_META} VALUES ('instance', lower(hex(randomblob(8))))"  # noqa: S608  a name of ours
            )
            connection.commit()
        if os.geteuid() == 0:
            os.chown(draft, owner.st_uid, owner.st_gid)
        # It takes nobody's place.
        os.link(draft, state)
        sync_folder(state.parent)
    except FileExistsError:
        raise StoreError(f"{state} exists: nothing was changed") from None
    except sqlite3.Error as error:
        raise StoreError(f"cannot make {state}: {error}") from error
    except OSError as error:
        raise StoreError(f"cannot make {state}: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)


def _move(tables: list[str], state: Path, routes: Path) -> None:
    """Copy the tables, and then take them out of the routes' database."""
    with _opened(routes) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        # What a table had is overwritten with zeros: there are secrets in it.
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("BEGIN IMMEDIATE")  # nobody changes what is copied
        _copy(tables, state, routes)
        for table in tables:
            connection.execute(f'DROP TABLE "{table}"')
        connection.execute("COMMIT")


def _copy(tables: list[str], state: Path, routes: Path) -> None:
    draft = _draft(state)
    copy_whole(routes, draft)
    with _opened(draft) as copy:
        rows = copy.execute("SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")
        # Those that hang on a table before the table.
        for kind, name in sorted(rows.fetchall(), reverse=True):
            if kind in ("view", "trigger") or (kind == "table" and name not in tables):
                quoted = str(name).replace('"', '""')
                copy.execute(f'DROP {kind} IF EXISTS "{quoted}"')
        copy.execute(f"INSERT OR REPLACE INTO {_META} VALUES (?, 'unfinished')", (_MARK,))  # noqa: S608  a name of ours
        copy.execute("VACUUM")
    descriptor = os.open(draft, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    draft.replace(state)
    sync_folder(state.parent)


def _finish(state: Path, routes: Path) -> None:
    """Clean what the routes' database had, and let the copy count."""
    beside = routes.with_suffix(CREDENTIALS)
    if beside.exists():
        beside.rename(state.with_suffix(CREDENTIALS))
    if routes.exists():
        with _opened(routes) as connection:
            # What was deleted before is still on its free pages.
            connection.execute("VACUUM")
            busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            if busy:
                raise StoreError(f"{routes} is in use by a program that does not let go of it")
        open_to_folder_group(routes)
    with _opened(state) as connection:
        connection.execute(f"DELETE FROM {_META} WHERE key = ?", (_MARK,))  # noqa: S608  a name of ours
    logger.info(
        "the state was moved out of the routes' database",
        extra={"fields": {"routes": str(routes), "state": str(state)}},
    )


def _writable_by_others(routes: Path) -> Path | None:
    """What others can write is nobody's state: there are tokens in it.

    That is so of the files beside it, from which SQLite takes what the database does not have yet,
    and of the folder, in which one file is put in another one's place.
    """
    beside = (routes.with_name(f"{routes.name}{suffix}") for suffix in SUFFIXES)
    for file in (routes.absolute().parent, routes.with_suffix(CREDENTIALS), *beside):
        try:
            found = file.lstat()
        except FileNotFoundError:
            continue
        if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
            return file
    return None


def _read_meta(path: Path) -> tuple[str, bool]:
    """The instance, "" if there is none yet, and whether this is a copy that does not count yet."""
    with _opened(path) as connection:
        tables = _tables(connection)
        if tables and _META not in tables:
            raise StoreError(f"{path} has no state in it: set FAIRLEAD_STATE_DB to another file")
        rows = connection.execute(f"SELECT key, value FROM {_META}") if tables else ()  # noqa: S608  a name of ours
        found = {str(key): str(value) for key, value in rows}
    return found.get("instance", ""), _MARK in found


def _own_tables(routes: Path) -> list[str]:
    """Those of an orchestrator in the routes' database; none where it has no instance."""
    if not routes.exists():
        return []
    with closing(sqlite3.connect(":memory:")) as empty:
        empty.executescript(SCHEMA)
        ours = _tables(empty)
    with closing(begin_reading(routes, BUSY_TIMEOUT)) as connection:
        found = ours & _tables(connection)
    return sorted(found) if _META in found else []


def _tables(connection: sqlite3.Connection) -> set[str]:
    rows = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
    )
    return {str(name) for (name,) in rows}


def _draft(state: Path) -> Path:
    """An empty file, for its owner alone, in place of what was left of an earlier one."""
    draft = state.with_name(f".{state.name}.new")
    for suffix in ("", "-journal", "-wal", "-shm"):
        draft.with_name(draft.name + suffix).unlink(missing_ok=True)
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
    return draft


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    uri = f"{path.absolute().as_uri()}?mode=rw"
    with closing(sqlite3.connect(uri, BUSY_TIMEOUT, uri=True, isolation_level=None)) as connection:
        yield connection

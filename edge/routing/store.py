"""Owns the schema of the routes on disk, and what its errors mean to a user.

The tables are those of godeploy-platform, so that its database is served as it is; the column
`options` is added when the first route needs it, and a table with the identity of the database at
the first change. `opening` opens the database, `store_reader` and `store_writer` use it.
"""

import secrets
import sqlite3
from pathlib import Path
from typing import Final

from edge.errors import StoreError
from edge.net.shortage import advice, is_own_fault, refusal
from edge.routing.snapshot_file import SnapshotFile

# What SQLite says, among other things, where no descriptor is left.
_NOT_OPENED: Final = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM}
_SCHEMA: Final = (
    """
    CREATE TABLE IF NOT EXISTS proxy_routes
        (domain TEXT PRIMARY KEY, target TEXT NOT NULL, updated_at_unix INTEGER NOT NULL)
    """,
    "CREATE TABLE IF NOT EXISTS proxy_meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL)",
)
HAS_ROUTES: Final = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'proxy_routes'"
_HAS_IDENTITY: Final = (
    "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'proxy_identity'"
)
_IDENTITY: Final = "SELECT CAST(coalesce(max(database_id), 0) AS INTEGER) FROM proxy_identity"
MAX_WORK: Final = 60.0  # seconds; a change among 1,000,000 routes takes a few
_HAS_OPTIONS: Final = (
    "SELECT count(*) FROM pragma_table_info('proxy_routes') WHERE name = 'options'"
)


class NoRoutesError(StoreError):
    """There is no database, or none with routes."""


class OtherDatabaseError(StoreError):
    """The database is not the one whose routes were last served."""


def has_options_column(connection: sqlite3.Connection) -> bool:
    """Whether a route ever had options."""
    return bool(connection.execute(_HAS_OPTIONS).fetchone()[0])


def make_tables(connection: sqlite3.Connection) -> None:
    """Make the tables if there are none."""
    for statement in _SCHEMA:
        connection.execute(statement)


def database_id(connection: sqlite3.Connection) -> int:
    """What tells this database from every other one, and not from its backups; 0 without one.

    It has a table of its own: `proxy_meta` is counted up by other programs.
    """
    if connection.execute(_HAS_IDENTITY).fetchone() is None:
        return 0
    return int(connection.execute(_IDENTITY).fetchone()[0])


def make_identity(connection: sqlite3.Connection) -> None:
    """Give the database an id if it has none."""
    if database_id(connection) == 0:
        connection.execute(
            "CREATE TABLE IF NOT EXISTS proxy_identity (database_id INTEGER NOT NULL)"
        )
        connection.execute("INSERT INTO proxy_identity VALUES (?)", (secrets.randbits(62) + 1,))


def missing(path: Path) -> StoreError:
    """There is no file at `path`."""
    return _no_routes(path, f"the database {path} does not exist")


def without_tables(path: Path) -> StoreError:
    """The database has no tables of routes."""
    return _no_routes(path, f"{path} has no routes table")


def _no_routes(path: Path, fault: str) -> StoreError:
    if SnapshotFile(path).binds:
        return NoRoutesError(
            f"{fault}, but routes were served from it: restore it from a backup, or begin anew with"
            " `fairlead route adopt` and `fairlead route set`"
        )
    return NoRoutesError(f"{fault}: add a route with `fairlead route set`")


def other_database(path: Path) -> StoreError:
    """The database has not the id that it should have."""
    return OtherDatabaseError(
        f"{path} is not the database whose routes were last served: restore that one, or take this"
        " one with `fairlead route adopt`"
    )


def damaged(path: Path, detail: str) -> StoreError:
    """Pages of the file are broken; `detail` is what SQLite says of them."""
    return StoreError(f"{path} is damaged ({detail}): restore it from a backup")


def cannot_read(path: Path, error: OSError) -> StoreError:
    """The file could not be looked at, or what SQLite needs beside it."""
    if is_own_fault(error):
        return StoreError(f"cannot open {path}, which is not its fault: {advice(error)}")
    return StoreError(f"cannot read {path}: {error.strerror}")


def result_code(error: sqlite3.Error) -> int:
    """The primary result code; errors of the module itself, which have none, are SQLITE_ERROR."""
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)) & 0xFF


def store_error(path: Path, error: sqlite3.Error) -> StoreError:
    """What SQLite says, to the one who has to do something about it."""
    code = result_code(error)
    if code in _NOT_OPENED and (refused := refusal()) is not None:
        return cannot_read(path, refused)
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return StoreError(f"{path} is locked by another program: try again later")
    if code == sqlite3.SQLITE_AUTH:
        return StoreError(f"{path} has triggers or views, which are not run: remove them")
    if code == sqlite3.SQLITE_INTERRUPT:
        return StoreError(f"{path} keeps SQLite busy for {MAX_WORK:g} s: restore it from a backup")
    if code == sqlite3.SQLITE_READONLY:
        return StoreError(f"{path} is read-only: make it and its folder writable")
    if code == sqlite3.SQLITE_FULL:
        return StoreError(f"the disk of {path} is full: free some space and try again")
    if code == sqlite3.SQLITE_IOERR:
        return StoreError(f"I/O error on {path} ({error}): check its disk and free space")
    if code == sqlite3.SQLITE_CORRUPT:
        return damaged(path, str(error))
    if code == sqlite3.SQLITE_NOTADB:
        return StoreError(f"{path} is not a SQLite database: name the route database with --db")
    if code == sqlite3.SQLITE_CANTOPEN:
        return StoreError(f"cannot open {path}: make it and its folder readable and writable")
    if str(error).startswith("no such table"):
        return without_tables(path)
    return StoreError(f"{path} cannot be read: {error}")

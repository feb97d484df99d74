"""Owns the schema of the routes on disk, connections to it, and what its errors mean to a user.

The tables are those of godeploy-platform, so that its database is served as it is; the column
`options` is added when the first route needs it. `store_reader` and `store_writer` use it.
"""

import sqlite3
from pathlib import Path
from typing import Final

from edge.errors import StoreError

_SCHEMA: Final = (
    """
    CREATE TABLE IF NOT EXISTS proxy_routes
        (domain TEXT PRIMARY KEY, target TEXT NOT NULL, updated_at_unix INTEGER NOT NULL)
    """,
    "CREATE TABLE IF NOT EXISTS proxy_meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL)",
)
HAS_ROUTES: Final = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'proxy_routes'"
_HAS_OPTIONS: Final = (
    "SELECT count(*) FROM pragma_table_info('proxy_routes') WHERE name = 'options'"
)


def connect(path: Path, how: str, timeout: float) -> sqlite3.Connection:
    """`how` is the query of an SQLite URI, `timeout` in seconds; transactions begin by hand."""
    uri = f"{path.absolute().as_uri()}?{how}"
    return sqlite3.connect(uri, uri=True, timeout=timeout, isolation_level=None)


def has_options_column(connection: sqlite3.Connection) -> bool:
    """Whether a route ever had options."""
    return bool(connection.execute(_HAS_OPTIONS).fetchone()[0])


def make_tables(connection: sqlite3.Connection) -> None:
    """Make the tables if there are none."""
    for statement in _SCHEMA:
        connection.execute(statement)


def missing(path: Path) -> StoreError:
    """There is no file at `path`."""
    return StoreError(f"the database {path} does not exist: add a route with `fairlead route set`")


def damaged(path: Path, detail: str) -> StoreError:
    """Pages of the file are broken; `detail` is what SQLite says of them."""
    return StoreError(f"{path} is damaged ({detail}): restore it from a backup")


def result_code(error: sqlite3.Error) -> int:
    """The primary result code; errors of the module itself, which have none, are SQLITE_ERROR."""
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)) & 0xFF


def store_error(path: Path, error: sqlite3.Error) -> StoreError:
    """What SQLite says, to the one who has to do something about it."""
    code = result_code(error)
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return StoreError(f"{path} is locked by another program: try again later")
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
        return StoreError(f"{path} has no routes table: add a route with `fairlead route set`")
    return StoreError(f"{path} cannot be read: {error}")

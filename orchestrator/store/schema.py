"""Owns the tables of the state, and what is done to a database that an earlier version made."""

import sqlite3
from contextlib import closing
from typing import Any, Final

import aiosqlite

from edge.errors import StoreError

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS orchestrator_meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS apps (
    name TEXT PRIMARY KEY, repository TEXT NOT NULL, clone_url TEXT NOT NULL,
    branch TEXT NOT NULL, health_path TEXT NOT NULL, created_at REAL NOT NULL,
    live_deploy INTEGER, down TEXT NOT NULL DEFAULT '', stopped TEXT NOT NULL DEFAULT '',
    read_only TEXT NOT NULL DEFAULT 'default'
);
CREATE TABLE IF NOT EXISTS leases (
    resource TEXT PRIMARY KEY, app TEXT NOT NULL, released_at REAL NOT NULL
);
-- An app that is removed leaves its domains behind, without an app: nobody takes them by chance.
CREATE TABLE IF NOT EXISTS app_domains (domain TEXT PRIMARY KEY, app TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS tokens (
    id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, hash TEXT NOT NULL UNIQUE,
    scopes TEXT NOT NULL, apps TEXT NOT NULL, created_at REAL NOT NULL, expires_at REAL,
    used_at REAL
);
CREATE TABLE IF NOT EXISTS deliveries (
    id INTEGER PRIMARY KEY AUTOINCREMENT, provider TEXT NOT NULL, delivery_id TEXT NOT NULL,
    event TEXT NOT NULL, headers TEXT NOT NULL, body BLOB NOT NULL, received_at REAL NOT NULL,
    decision TEXT NOT NULL DEFAULT '', reason TEXT NOT NULL DEFAULT '',
    status INTEGER NOT NULL DEFAULT 0, deploy INTEGER, replay_of INTEGER,
    UNIQUE (provider, delivery_id)
);
CREATE TABLE IF NOT EXISTS deploys (
    id INTEGER PRIMARY KEY AUTOINCREMENT, app TEXT NOT NULL, state TEXT NOT NULL, step TEXT,
    provider TEXT NOT NULL, repository TEXT NOT NULL, clone_url TEXT NOT NULL,
    branch TEXT NOT NULL, "commit" TEXT NOT NULL, domains TEXT NOT NULL DEFAULT '[]',
    health_path TEXT NOT NULL, created_at REAL NOT NULL, credentials TEXT NOT NULL,
    allow_file INTEGER NOT NULL, runtime TEXT NOT NULL, image_tag TEXT NOT NULL,
    image_id TEXT NOT NULL, release TEXT NOT NULL, container_id TEXT NOT NULL,
    container_name TEXT NOT NULL, port INTEGER NOT NULL, address TEXT NOT NULL,
    host_port INTEGER NOT NULL, target TEXT NOT NULL,
    old_container_id TEXT NOT NULL, old_target TEXT NOT NULL, route_version INTEGER,
    started_at REAL, finished_at REAL, error TEXT NOT NULL, error_kind TEXT NOT NULL,
    superseded_by INTEGER, delivery INTEGER, attempts INTEGER NOT NULL,
    cutover TEXT NOT NULL DEFAULT '{}'
);
CREATE INDEX IF NOT EXISTS deploys_by_app ON deploys (app, id);
CREATE INDEX IF NOT EXISTS deploys_unfinished ON deploys (state)
    WHERE state IN ('queued', 'running');
CREATE TABLE IF NOT EXISTS deploy_steps (
    deploy INTEGER NOT NULL, step TEXT NOT NULL, state TEXT NOT NULL, started_at REAL NOT NULL,
    finished_at REAL, error TEXT NOT NULL, detail TEXT NOT NULL DEFAULT '{}',
    PRIMARY KEY (deploy, step)
);
CREATE TABLE IF NOT EXISTS app_links (
    app TEXT NOT NULL, target TEXT NOT NULL, PRIMARY KEY (app, target)
);
"""

# Counted up where an older program could not go on with what a newer one has made, as it cannot
# where it would leave a new column empty that may not be. SQLite keeps it in the file's head.
VERSION: Final = 1

# For the rows that there are, where a column that is added has no default of its own.
_EMPTY: Final = {"TEXT": "''", "BLOB": "x''", "INTEGER": "0", "REAL": "0"}


async def bring_up_to_date(connection: aiosqlite.Connection) -> None:
    """Make the tables that there are not, and the columns that an earlier version did not have.

    All of it or nothing. Raises StoreError for a database of a newer version, or sqlite3.Error.
    """
    ((version,),) = await connection.execute_fetchall("PRAGMA user_version")
    if version > VERSION:
        raise StoreError(
            f"it was made by a newer Fairlead (its version is {version}, ours {VERSION}): install"
            " that one again, or restore a backup of before the upgrade"
        )
    missing = []
    for table, columns in _columns().items():
        found = {name for _, name, *_ in await _table_info(connection, table)}
        if found:
            missing += [_addition(table, column) for column in columns if column[1] not in found]
    await connection.executescript(
        ";".join(
            ["BEGIN IMMEDIATE", *missing, SCHEMA, f"PRAGMA user_version = {VERSION}", "COMMIT"]
        )
    )


def _columns() -> dict[str, list[tuple[Any, ...]]]:
    """By table, the rows of PRAGMA table_info: number, name, type, whether not null, default."""
    with closing(sqlite3.connect(":memory:")) as empty:
        empty.executescript(SCHEMA)
        tables = empty.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        )
        return {
            name: empty.execute(f"PRAGMA table_info({name})").fetchall()
            for (name,) in tables.fetchall()
        }


async def _table_info(connection: aiosqlite.Connection, table: str) -> list[tuple[Any, ...]]:
    rows = await connection.execute_fetchall(f"PRAGMA table_info({table})")
    return [tuple(row) for row in rows]


def _addition(table: str, column: tuple[Any, ...]) -> str:
    _, name, kind, is_required, default, _ = column
    words = f'ALTER TABLE {table} ADD COLUMN "{name}" {kind}'
    if is_required:
        words += f" NOT NULL DEFAULT {_EMPTY[kind] if default is None else default}"
    return words

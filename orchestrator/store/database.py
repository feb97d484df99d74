"""Owns the database of apps, deliveries and deploys: its connection, schema and transactions.

It is the orchestrator's alone; the routes have one of their own, which the edge reads. Every change
is one transaction that is durable when it returns; all of them go through one connection, one after
the other.
"""

import asyncio
import functools
import secrets
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import aiosqlite

from edge.errors import StoreError
from edge.routing.store_writer import RouteWriter
from orchestrator.store import vacuum

WRITE_TIMEOUT: Final = 5.0  # seconds that a change waits for another process, such as the CLI

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS orchestrator_meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS apps (
    name TEXT PRIMARY KEY, repository TEXT NOT NULL, clone_url TEXT NOT NULL,
    branch TEXT NOT NULL, health_path TEXT NOT NULL, created_at REAL NOT NULL,
    live_deploy INTEGER, down TEXT NOT NULL DEFAULT '', stopped TEXT NOT NULL DEFAULT ''
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
    branch TEXT NOT NULL, "commit" TEXT NOT NULL, domains TEXT NOT NULL,
    health_path TEXT NOT NULL, created_at REAL NOT NULL, credentials TEXT NOT NULL,
    allow_file INTEGER NOT NULL, runtime TEXT NOT NULL, image_tag TEXT NOT NULL,
    image_id TEXT NOT NULL, release TEXT NOT NULL, container_id TEXT NOT NULL,
    container_name TEXT NOT NULL, port INTEGER NOT NULL, address TEXT NOT NULL,
    host_port INTEGER NOT NULL, target TEXT NOT NULL,
    old_container_id TEXT NOT NULL, old_target TEXT NOT NULL, route_version INTEGER,
    started_at REAL, finished_at REAL, error TEXT NOT NULL, error_kind TEXT NOT NULL,
    superseded_by INTEGER, delivery INTEGER, attempts INTEGER NOT NULL, cutover TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS deploys_by_app ON deploys (app, id);
CREATE INDEX IF NOT EXISTS deploys_unfinished ON deploys (state)
    WHERE state IN ('queued', 'running');
CREATE TABLE IF NOT EXISTS deploy_steps (
    deploy INTEGER NOT NULL, step TEXT NOT NULL, state TEXT NOT NULL, started_at REAL NOT NULL,
    finished_at REAL, error TEXT NOT NULL, detail TEXT NOT NULL, PRIMARY KEY (deploy, step)
);
CREATE TABLE IF NOT EXISTS app_links (
    app TEXT NOT NULL, target TEXT NOT NULL, PRIMARY KEY (app, target)
);
"""

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R", bound="Rows")


class Database:
    """`Database.open` makes one. Every method may raise StoreError."""

    def __init__(
        self,
        path: Path,
        routes: RouteWriter,
        connection: aiosqlite.Connection,
        instance: str,
    ) -> None:
        self.path = path
        self.routes = routes  # that are beside it
        # Tells the containers and images of this database from those of another Fairlead.
        self.instance = instance
        self.changes: set[asyncio.Future[Any]] = set()  # that are under way
        self._connection = connection
        # Statements of two transactions would mix on the one connection.
        self._lock = asyncio.Lock()

    @classmethod
    async def open(cls, path: Path, routes: RouteWriter) -> "Database":
        """The database at `path`, which is made if there is none."""
        try:
            # Credentials of private repositories stand in it while a deploy runs.
            await asyncio.to_thread(path.touch, mode=0o600)
            connection = await aiosqlite.connect(path, timeout=WRITE_TIMEOUT, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"cannot open {path}: {error}") from error
        try:
            row = await _fetch_one(connection, "PRAGMA quick_check(1)")
            if row is None or row[0] != "ok":
                raise StoreError(
                    f"{path} is corrupt: {row and row[0]}; restore a backup"
                    " (`fairlead backup` makes them)"
                )
            await vacuum.enable(connection, path)  # before the schema: a new file is empty
            await connection.execute("PRAGMA journal_mode = WAL")
            await connection.execute("PRAGMA synchronous = FULL")
            await connection.executescript(f"BEGIN IMMEDIATE;{SCHEMA}COMMIT")
            await connection.execute(
                "INSERT OR IGNORE INTO orchestrator_meta VALUES ('instance', ?)",
                (secrets.token_hex(8),),
            )
            row = await _fetch_one(
                connection, "SELECT value FROM orchestrator_meta WHERE key = 'instance'"
            )
            assert row is not None  # noqa: S101  narrows a type
        except sqlite3.Error as error:
            await connection.close()
            raise StoreError(f"cannot use {path}: {error}") from error
        except StoreError:
            await connection.close()
            raise
        return cls(path, routes, connection, str(row[0]))

    async def close(self) -> None:
        """Returns when all changes are made; nothing may be asked afterwards."""
        await asyncio.gather(*self.changes, return_exceptions=True)
        await self._connection.close()

    async def fetch_all(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """The rows that a query finds."""
        async with self._lock:
            try:
                return [tuple(row) for row in await self._connection.execute_fetchall(sql, values)]
            except sqlite3.Error as error:
                raise StoreError(f"cannot read {self.path}: {error}") from error

    async def run(self, sql: str) -> None:
        """Take a statement to its end that gives no rows but does something at each step."""
        async with self._lock:
            try:
                await self._connection.executescript(sql)
            except sqlite3.Error as error:
                raise StoreError(f"cannot write {self.path}: {error}") from error

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[aiosqlite.Connection]:
        """All of it or nothing, durable when it is left."""
        async with self._lock:
            try:
                await self._connection.execute("BEGIN IMMEDIATE")
                try:
                    yield self._connection
                    await self._connection.execute("COMMIT")
                except BaseException:
                    if self._connection.in_transaction:
                        await self._connection.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise StoreError(f"cannot write {self.path}: {error}") from error


async def _fetch_one(connection: aiosqlite.Connection, sql: str) -> tuple[Any, ...] | None:
    for row in await connection.execute_fetchall(sql):
        return tuple(row)
    return None


class Rows:
    """What is asked of some of the tables, over the one connection."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def changes(self) -> set[asyncio.Future[Any]]:
        """The changes of the database that are under way."""
        return self._database.changes


def shielded(
    method: Callable[Concatenate[R, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[R, P], Coroutine[Any, Any, T]]:
    """A change that goes on to its end although the task that asked for it is cancelled.

    Half of one would leave its transaction open, and all later ones would be part of it.
    """

    @functools.wraps(method)
    async def run_to_completion(rows: R, /, *args: P.args, **kwargs: P.kwargs) -> T:
        change = asyncio.ensure_future(method(rows, *args, **kwargs))
        rows.changes.add(change)
        change.add_done_callback(rows.changes.discard)
        return await asyncio.shield(change)

    return run_to_completion


def id_limit(before: int | None) -> int:
    """The id that all rows of a page are below."""
    return 2**63 - 1 if before is None else before

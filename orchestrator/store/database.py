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
from orchestrator.store import schema, vacuum

WRITE_TIMEOUT: Final = 5.0  # seconds that a change waits for another process, such as the CLI

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
                    f"it is corrupt: {row and row[0]}; restore a backup (`fairlead backup` makes"
                    " them)"
                )
            await vacuum.enable(connection, path)  # before the schema: a new file is empty
            await connection.execute("PRAGMA journal_mode = WAL")
            await connection.execute("PRAGMA synchronous = FULL")
            await schema.bring_up_to_date(connection)
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
        except StoreError as error:
            await connection.close()
            raise StoreError(f"cannot use {path}: {error}") from None
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

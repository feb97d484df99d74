"""A state that another version of the program made: taken over whole, or left as it is."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from edge.errors import StoreError
from orchestrator.store.schema import SCHEMA, VERSION
from orchestrator.store.store import Store
from tests.orchestrator.store.opened import in_store, request, state_of


def described(state: Path) -> dict[str, set[tuple[str, str]]]:
    """The columns of each table, as name and type."""
    with closing(sqlite3.connect(state)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {
            name: {(row[1], row[2]) for row in connection.execute(f"PRAGMA table_info({name})")}
            for (name,) in names
        }


def script(state: Path, sql: str) -> None:
    with closing(sqlite3.connect(state)) as connection:
        connection.executescript(sql)


def without(state: Path, table: str, column: str) -> None:
    script(state, f'ALTER TABLE {table} DROP COLUMN "{column}"')


async def nothing(_: Store) -> None:
    """It is opened and closed."""


def test_columns_and_tables_that_an_earlier_version_did_not_have_are_added(db: Path) -> None:
    async def fill(store: Store) -> None:
        await store.deploys.add(request(), "/")

    in_store(db, fill)
    state = state_of(db)
    whole = described(state)
    for table, column in (
        ("deploys", "cutover"),
        ("deploys", "attempts"),
        ("deploys", "route_version"),
        ("apps", "down"),
        ("tokens", "used_at"),
    ):
        without(state, table, column)
    script(state, "DROP TABLE app_links; DROP INDEX deploys_unfinished; PRAGMA user_version = 0")

    async def use(store: Store) -> None:
        (deploy,) = await store.deploys.unfinished()
        assert (deploy.attempts, deploy.route_version) == (0, None)
        await store.deploys.add(request("other"), "/")

    in_store(db, use)
    assert described(state) == whole


def test_a_database_of_a_newer_version_is_refused_and_left_as_it_is(db: Path) -> None:
    in_store(db, nothing)
    state = state_of(db)
    without(state, "apps", "down")
    script(state, f"PRAGMA user_version = {VERSION + 1}")
    before = described(state)
    with pytest.raises(StoreError, match=r"made by a newer Fairlead.*install that one again"):
        in_store(db, nothing)
    assert described(state) == before


def test_a_column_that_must_be_filled_says_how_in_rows_that_there_are() -> None:
    """SQLite adds none that may not be empty without a default."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(SCHEMA)
        kinds = {
            row[2]
            for (table,) in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            ).fetchall()
            for row in connection.execute(f"PRAGMA table_info({table})")
        }
    assert kinds <= {"TEXT", "BLOB", "INTEGER", "REAL"}

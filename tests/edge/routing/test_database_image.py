"""Proves that whatever is done to a database, its pages say where all rows are that differ."""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import zip_longest
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.routing import store_reader
from edge.routing.database_image import CHUNK, DatabaseFile, Image, changed_rowids
from edge.routing.store_reader import RouteReader

PAGE_SIZE = 512
"""Bytes: a few rows on each page, so that a small table is a tree of pages."""

NUMBERS = st.integers(0, 120)
STATEMENTS = st.one_of(
    st.tuples(st.just("INSERT OR REPLACE INTO proxy_routes VALUES (?, ?, 0)"), NUMBERS, NUMBERS),
    st.tuples(
        st.just(
            "INSERT INTO proxy_routes VALUES (?, ?, 0)"
            " ON CONFLICT (domain) DO UPDATE SET target = excluded.target"
        ),
        NUMBERS,
        NUMBERS,
    ),
    st.tuples(st.just("UPDATE proxy_routes SET target = ?2 WHERE domain = ?1"), NUMBERS, NUMBERS),
    st.tuples(st.just("DELETE FROM proxy_routes WHERE domain BETWEEN ? AND ?"), NUMBERS, NUMBERS),
    st.tuples(
        st.just(
            "UPDATE proxy_routes SET target = substr(replace(hex(zeroblob(900)), '00', 'ab'), ?)"
            " || target WHERE domain = ?"
        ),
        st.integers(1, 1700),
        NUMBERS,
    ),
    st.tuples(st.just("UPDATE proxy_routes SET rowid = -1 - ? WHERE domain = ?"), NUMBERS, NUMBERS),
    st.tuples(
        st.just("INSERT OR IGNORE INTO proxy_routes VALUES (CAST(? AS BLOB), ?, 0)"),
        NUMBERS,
        NUMBERS,
    ),
    st.tuples(st.just("DELETE FROM proxy_routes"), st.just(None), st.just(None)),
    st.tuples(st.just("VACUUM"), st.just(None), st.just(None)),
    st.tuples(st.just("CREATE INDEX other ON proxy_routes (target)"), st.none(), st.none()),
)


def apply(connection: sqlite3.Connection, statement: str, one: object, other: object) -> None:
    """Do it, unless there is such a row or index already."""
    names = [f"n{each:03}" if isinstance(each, int) else each for each in (one, other)]
    if "zeroblob" in statement or "rowid" in statement:
        names[0] = one  # as the number that it is
    refused = ("UNIQUE constraint failed", "index other already exists")
    try:
        connection.execute(statement, names if one is not None else ())
    except sqlite3.Error as error:
        if not str(error).startswith(refused):
            raise


def copy_of(connection: sqlite3.Connection, before: Image = ()) -> Image:
    """The database of a connection, which is in no file, as `DatabaseFile` would read it."""
    whole = connection.serialize()
    chunks = [whole[start : start + CHUNK] for start in range(0, len(whole), CHUNK)]
    return [old if old == new else new for old, new in zip_longest(before, chunks) if new]


def rows_of(connection: sqlite3.Connection) -> set[tuple[int, str | bytes, str]]:
    return set(connection.execute("SELECT rowid, domain, target FROM proxy_routes"))


def database(path: str, *, auto_vacuum: bool = False, count: int = 100) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA page_size = {PAGE_SIZE}")
    connection.execute(f"PRAGMA auto_vacuum = {int(auto_vacuum)}")
    connection.execute(
        "CREATE TABLE proxy_routes"
        " (domain TEXT PRIMARY KEY, target TEXT NOT NULL, updated_at_unix INTEGER NOT NULL)"
    )
    connection.executemany(
        "INSERT INTO proxy_routes VALUES (?, 'n000', 0)",
        [(f"n{number:03}",) for number in range(count)],
    )
    return connection


@given(st.lists(STATEMENTS, max_size=8), st.booleans())
def test_every_row_that_differs_is_in_a_range(
    statements: Sequence[tuple[str, object, object]], auto_vacuum: bool
) -> None:
    with closing(database("", auto_vacuum=auto_vacuum)) as connection:
        for statement in statements:
            before, rows_before = copy_of(connection), rows_of(connection)
            apply(connection, *statement)
            ranges = changed_rowids(before, copy_of(connection, before))
            if ranges is not None:
                for rowid, *_ in rows_before ^ rows_of(connection):
                    assert any(first <= rowid <= last for first, last in ranges)


@pytest.mark.parametrize(
    "rowid", [-(2**63), -1, 0, 1, 127, 128, 2**14, 2**21, 2**55, 2**56, 2**63 - 1]
)
def test_a_change_of_one_row_is_a_short_range_whatever_its_rowid(rowid: int) -> None:
    with closing(database("", count=0)) as connection:
        wanted = range(max(rowid - 50, -(2**63)), min(rowid + 50, 2**63))
        for each in wanted:
            connection.execute(
                "INSERT INTO proxy_routes (rowid, domain, target, updated_at_unix)"
                " VALUES (?, ?, 'n000', 0)",
                (each, f"n{each}"),
            )
        before = copy_of(connection)
        connection.execute("UPDATE proxy_routes SET target = 'n001' WHERE rowid = ?", (rowid,))
        ranges = changed_rowids(before, copy_of(connection, before))
        assert ranges
        for first, last in ranges:
            assert rowid - 30 < first <= rowid <= last < rowid + 30


def test_no_change_is_no_range() -> None:
    with closing(database("")) as connection:
        before = copy_of(connection)
        assert changed_rowids(before, copy_of(connection, before)) == []
        assert changed_rowids(before, copy_of(connection)) == []


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE proxy_routes ADD COLUMN options TEXT",
        "DELETE FROM proxy_routes",
        "DROP TABLE proxy_routes",
        "PRAGMA encoding",
    ],
)
def test_what_changes_more_than_rows_may_be_any(statement: str) -> None:
    with closing(database("")) as connection:
        before = copy_of(connection)
        connection.execute(statement)
        found = changed_rowids(before, copy_of(connection, before))
        assert found == [] if statement == "PRAGMA encoding" else found is None


class TestReader:
    """The reader that compares reads what one reads that has seen nothing before."""

    @pytest.fixture(autouse=True)
    def small_pages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(store_reader, "PAGE_ROWS", 10)
        monkeypatch.setattr(store_reader, "PAGES_PER_READ", 3)
        monkeypatch.setattr(store_reader, "IMAGE_PAGES", 2)
        monkeypatch.setattr(store_reader, "IMAGE_SHARE", 10**6)

    @given(data=st.data(), mode=st.sampled_from(["DELETE", "TRUNCATE", "PERSIST", "WAL"]))
    def test_after_any_changes(
        self, data: st.DataObject, mode: str, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        path = tmp_path_factory.mktemp("reader") / "routes.db"
        with closing(database(str(path))) as connection:
            connection.execute("CREATE TABLE proxy_meta (key TEXT PRIMARY KEY, value INTEGER)")
            connection.execute(f"PRAGMA journal_mode = {mode}").fetchall()
            reader = RouteReader(path, follows=True)
            reader.poll()
            for statement in data.draw(st.lists(STATEMENTS, max_size=6)):
                apply(connection, *statement)
                if data.draw(st.booleans()):  # otherwise it may be in the log alone
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                found, fresh = reader.poll(force=True), RouteReader(path).poll()
                assert found is not None
                assert fresh is not None
                assert set(found.table) == set(fresh.table)
                assert found.problems == fresh.problems
                assert joined(found.pages) == joined(fresh.pages)

    def test_pages_without_a_change_are_not_read_again(self, tmp_path: Path) -> None:
        path = tmp_path / "routes.db"
        with closing(database(str(path))) as connection:
            connection.execute("CREATE TABLE proxy_meta (key TEXT PRIMARY KEY, value INTEGER)")
            reader = RouteReader(path, follows=True)
            before = reader.poll()
            connection.execute("UPDATE proxy_routes SET target = 'n9:1' WHERE domain = 'n050'")
            after = reader.poll(force=True)
        assert before is not None
        assert after is not None
        assert len(after.pages) == len(before.pages) == 11
        # A page of the file has the rows of up to four of the reader's.
        read = sum(page is not before.pages[last] for last, page in after.pages.items())
        assert 1 <= read <= 4

    def test_nothing_is_compared_that_is_much_larger_than_the_routes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(store_reader, "IMAGE_SHARE", 4)
        monkeypatch.setattr(DatabaseFile, "read", lambda *_: pytest.fail("it was read"))
        path = tmp_path / "routes.db"
        with closing(database(str(path))) as connection:
            connection.execute("CREATE TABLE proxy_meta (key TEXT PRIMARY KEY, value INTEGER)")
            connection.execute("CREATE TABLE logs AS SELECT zeroblob(100000) AS text")
            assert RouteReader(path, follows=True).poll() is not None


def joined(pages: Mapping[int, bytes]) -> dict[str, str]:
    """The rows of all pages, wherever one page ends."""
    found: dict[str, str] = {}
    for page in pages.values():
        found |= orjson.loads(page)[0]
    return found

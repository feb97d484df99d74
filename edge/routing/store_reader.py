"""Owns reading the routes from disk, which the edge does.

The reader never makes or changes routes, holds the interpreter only for slices of a page, and
raises one StoreError for whatever is wrong with the file: it looks again, with a fresh connection,
the next time it is asked.
"""

import sqlite3
import stat
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from edge.errors import StoreError
from edge.routing.database_image import DatabaseFile, Image, changed_rowids
from edge.routing.opening import connect, roll_back
from edge.routing.snapshot import Snapshot
from edge.routing.store import (
    cannot_read,
    damaged,
    database_id,
    has_options_column,
    missing,
    other_database,
    result_code,
    store_error,
)
from edge.routing.table import RouteTable

READ_TIMEOUT: Final = 0.25  # seconds that a poll waits for a lock; the next poll comes soon
PAGE_ROWS: Final = 1000  # rows parsed in one go: below a millisecond
PAGES_PER_READ: Final = 25  # pages read by one statement: about a megabyte
FIRST_ROWID: Final = -(2**63)
LAST_ROWID: Final = 2**63 - 1
# From so many pages on, to compare the file is worth it; and up to so many times their bytes, as
# whatever else is in the database is compared and kept too.
IMAGE_PAGES: Final = 8
IMAGE_SHARE: Final = 4
_VERSION: Final = (
    "SELECT CAST(coalesce(value, 0) AS INTEGER) FROM proxy_meta WHERE key = 'routes_version'"
)
# One page of rows as one JSON text, made in C without the interpreter's lock: targets by domain,
# options by domain where there are any, how many rows are left out, and how many these are. JSON
# has no form for a row whose domain is not text; a target that is none is one that is refused.
_PAGE: Final = """(
    SELECT json_array(
        json_group_object(domain, CASE typeof(target) WHEN 'text' THEN target ELSE '?' END)
            FILTER (WHERE typeof(domain) = 'text'),
        {options},
        count(*) FILTER (WHERE typeof(domain) != 'text'),
        count(*) FILTER (WHERE typeof(domain) = 'text')
    ) FROM proxy_routes WHERE rowid BETWEEN ? AND ?
)"""
_PAGE_WITHOUT_OPTIONS: Final = _PAGE.format(options="json_object()")
_PAGE_WITH_OPTIONS: Final = _PAGE.format(
    options="json_group_object(domain, CASE typeof(options) WHEN 'text' THEN options ELSE '?' END)"
    " FILTER (WHERE options IS NOT NULL AND typeof(domain) = 'text')"
)
# The last rowid of each full page in a range.
_PAGE_BOUNDARIES: Final = """
    WITH RECURSIVE page (last) AS (
        SELECT :after
        UNION ALL
        SELECT (
            SELECT rowid FROM proxy_routes WHERE rowid > page.last AND rowid <= :end
            ORDER BY rowid LIMIT 1 OFFSET :rows - 1
        ) FROM page WHERE page.last IS NOT NULL
    )
    SELECT json_group_array(last) FROM page WHERE last > :after
"""
_NON_TEXT_ROWS: Final = (
    "SELECT rowid FROM proxy_routes WHERE typeof(domain) != 'text' ORDER BY rowid"
)
# What SQLite says where it cannot make the files beside a database.
_NO_ROOM: Final = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL}
_EMPTY_PAGE: Final = b"[{},{},0,0]"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A table that was read, and one line for each row in it that is not served as it says.

    `database_id` and `pages` are what a `Snapshot` is made of.
    """

    table: RouteTable
    problems: tuple[str, ...]
    database_id: int
    pages: Mapping[int, bytes]


class _FileStamp(NamedTuple):
    """What tells one state of the database file from another without opening it."""

    file: tuple[int, int]  # device and inode
    size: int
    mtime: int


class RouteReader:
    """Reads the routes when they change. Calls may come from any thread, one at a time.

    One that `follows` is asked again and again: among many routes, it remembers what the file is.

    No connection stays open between two calls: while a file is open, SQLite leaves the log of what
    others write to it, and would apply it to another file that is put in its place.
    """

    def __init__(self, path: Path, *, follows: bool = False) -> None:
        self._path = path
        self._follows = follows
        self._database = DatabaseFile(path)
        self._file: tuple[int, int] | None = None  # device and inode that the table is from
        self._table = RouteTable()
        self._pages: dict[int, bytes] = {}  # by the last rowid that may be on the page
        self._image: Image = ()  # of the file that they were read from, if there are many

    def poll(self, force: bool = False, expected_id: int = 0) -> Loaded | None:
        """The routes, if their version or the file itself is another than before, or by `force`.

        With `expected_id`, only a database that has this id. Raises StoreError, which says what is
        wrong and what to do; the next call starts afresh.
        """
        try:
            stamp = _stamp(self._path)
            try:
                return self._load("mode=ro", stamp, force, expected_id)
            except sqlite3.OperationalError as error:
                if result_code(error) == sqlite3.SQLITE_READONLY:
                    roll_back(self._path, READ_TIMEOUT)
                    return self._load("mode=ro", stamp, force, expected_id)
                if result_code(error) not in _NO_ROOM or not _has_no_journal(self._path):
                    raise
                # Reading in WAL mode takes a file beside the database, for which the disk has no
                # room or is read-only. But all is in the database, and hardly anyone can write.
                return self._load("immutable=1", stamp, force, expected_id)
        except FileNotFoundError:
            raise missing(self._path) from None
        except OSError as error:
            raise cannot_read(self._path, error) from error
        except sqlite3.Error as error:
            self._file = None  # Whatever it was, it is looked at closely before it is believed.
            raise store_error(self._path, error) from error

    def restore(self, snapshot: Snapshot) -> Loaded:
        """The routes as they were read once; the next `poll` reads what there is."""
        version, pages = snapshot.header.version, dict(snapshot.pages)
        self._table = self._table.changed(version, *_difference(self._pages, pages))
        self._pages = pages
        self._image = ()
        self._file = None
        return Loaded(self._table, self._table.problems, snapshot.header.database_id, pages)

    def _load(self, how: str, stamp: _FileStamp, force: bool, expected_id: int) -> Loaded | None:
        """`how` is the query of an SQLite URI."""
        with closing(connect(self._path, how, READ_TIMEOUT)) as connection:
            connection.text_factory = bytes
            connection.execute("BEGIN")  # All that follows is one state of the database.
            row = connection.execute(_VERSION).fetchone()
            version = 0 if row is None else int(row[0])
            found_id = database_id(connection)
            if expected_id and found_id != expected_id:
                raise other_database(self._path)
            known = stamp.file == self._file
            if known and version == self._table.version and not force:
                return None
            if not known:
                # A damaged page may hide routes without any error while the others are read.
                (verdict,) = connection.execute("PRAGMA quick_check(proxy_routes)").fetchone()
                if verdict != b"ok":
                    raise damaged(self._path, verdict.decode(errors="replace").splitlines()[-1])
            before = self._image if known else ()
            image = self._read_file(stamp, before) if before else ()
            pages = self._read_pages(connection, changed_rowids(before, image))
            if self._follows and not before and _is_worth_comparing(pages, stamp):
                image = self._read_file(stamp, ())
            non_text = _non_text_rows(connection) if any(map(_left_out, pages.values())) else ()
        if how == "immutable=1" and (
            _stamp(self._path) != stamp or not _has_no_journal(self._path)
        ):
            raise StoreError(f"{self._path} was written while being read: it is read again")
        self._table = self._table.changed(version, *_difference(self._pages, pages))
        self._pages = pages
        self._image = image
        self._file = stamp.file
        return Loaded(self._table, self._table.problems + non_text, found_id, pages)

    def _read_file(self, stamp: _FileStamp, before: Image) -> Image:
        """In a transaction, which then is of what the file is; nothing if some of it is elsewhere.

        What comes into the log of a database in WAL mode from now on does not come into the file
        before the transaction has ended, and in other modes nothing is written.
        """
        if not _has_no_journal(self._path) or not self._database.open(stamp.file):
            return ()
        return self._database.read(before)

    def _read_pages(
        self, connection: sqlite3.Connection, changed: Sequence[tuple[int, int]] | None
    ) -> dict[int, bytes]:
        """All rows, on pages with the boundaries of the last time as far as they still do.

        So one new row changes one page. With the ranges of rowids that may have `changed`, the
        other pages are not read again. Many pages come by one statement: for each, the interpreter
        has to be won back from a busy event loop.
        """
        boundaries: list[int] = []
        pages: dict[int, bytes] = {}
        after = FIRST_ROWID
        for boundary, page in (self._pages or {LAST_ROWID: _EMPTY_PAGE}).items():
            if changed is not None and not _meet(changed, after, boundary):
                pages[boundary] = page
            elif boundary == LAST_ROWID or _row_count(page) > 2 * PAGE_ROWS:
                limits = {"after": after, "end": boundary, "rows": PAGE_ROWS}
                boundaries += orjson.loads(
                    connection.execute(_PAGE_BOUNDARIES, limits).fetchone()[0]
                )
            if boundary not in boundaries[-1:]:
                boundaries.append(boundary)
            after = boundary
        sql = _PAGE_WITH_OPTIONS if has_options_column(connection) else _PAGE_WITHOUT_OPTIONS
        ranges: list[tuple[int, int]] = []
        first = FIRST_ROWID
        for boundary in boundaries:
            if boundary not in pages:
                ranges.append((first, boundary))
            first = boundary + 1
        for start in range(0, len(ranges), PAGES_PER_READ):
            batch = ranges[start : start + PAGES_PER_READ]
            statement = f"SELECT {', '.join([sql] * len(batch))}"
            row = connection.execute(statement, [*chain.from_iterable(batch)]).fetchone()
            pages.update(zip((last for _, last in batch), row, strict=True))
        return {
            boundary: pages[boundary]
            for boundary in boundaries
            # The range of a page without rows goes to the next one.
            if not pages[boundary].endswith(b",0,0]") or boundary == LAST_ROWID
        }


def _stamp(path: Path) -> _FileStamp:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise StoreError(f"{path} is not a file: name the route database with --db")
    return _FileStamp((found.st_dev, found.st_ino), found.st_size, found.st_mtime_ns)


def _has_no_journal(path: Path) -> bool:
    """Whether all changes are in the database itself: there is no log or an empty one."""
    for suffix in ("-wal", "-journal"):
        try:
            if path.with_name(path.name + suffix).stat().st_size:
                return False
        except FileNotFoundError:
            pass
    return True


def _is_worth_comparing(pages: Mapping[int, bytes], stamp: _FileStamp) -> bool:
    limit = IMAGE_SHARE * sum(map(len, pages.values()))
    return len(pages) >= IMAGE_PAGES and stamp.size <= limit


def _meet(ranges: Sequence[tuple[int, int]], first: int, last: int) -> bool:
    """Whether any of `ranges` has a rowid from `first` to `last`."""
    return any(low <= last and high >= first for low, high in ranges)


def _non_text_rows(connection: sqlite3.Connection) -> tuple[str, ...]:
    """One line for each row that no page holds; found by scanning, so only if there are any."""
    rows = connection.execute(_NON_TEXT_ROWS).fetchall()
    return tuple(f"row {row} is skipped: its domain is not text" for (row,) in rows)


def _difference(
    old: Mapping[int, bytes], new: Mapping[int, bytes]
) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """Targets and options of the rows that are new or different, and the rows that are gone.

    Everything is text in flat lists and dicts: nothing that the garbage collector would have to
    walk through while the event loop waits.
    """
    targets: dict[str, str] = {}
    options: dict[str, str] = {}
    gone: list[str] = []
    for boundary, page in new.items():
        before = old.get(boundary, _EMPTY_PAGE)
        if page == before:
            continue
        old_targets, old_options = _rows(before)
        new_targets, new_options = _rows(page)
        targets |= {
            row: target
            for row, target in new_targets.items()
            if old_targets.get(row) != target or old_options.get(row) != new_options.get(row)
        }
        options |= new_options
        gone += old_targets.keys() - new_targets.keys()
    for boundary in old.keys() - new.keys():
        gone += _rows(old[boundary])[0]
    # A row that has moved to another page is not gone.
    return targets, options, [row for row in gone if row not in targets]


def _rows(page: bytes) -> tuple[dict[str, str], dict[str, str]]:
    try:
        targets, options, _, _ = orjson.loads(page)
    except orjson.JSONDecodeError:
        # SQLite keeps any bytes as text. What is not UTF-8 becomes a row that is refused.
        targets, options, _, _ = orjson.loads(page.decode(errors="replace"))
    return targets, options


def _left_out(page: bytes) -> int:
    end = page.rindex(b",")
    return int(page[page.rindex(b",", 0, end) + 1 : end])


def _row_count(page: bytes) -> int:
    return int(page[page.rindex(b",") + 1 : -1])

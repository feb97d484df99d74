"""Owns the routes on disk: the SQLite schema, the reader of the edge and the writer of everyone.

The tables are those of godeploy-platform, so that its database is served as it is; the column
`options` is added when the first route needs it. The reader never makes or changes routes, holds
the interpreter only for slices of a page, and raises one StoreError for whatever is wrong with the
file: it looks again, with a fresh connection, the next time it is asked.
"""

import sqlite3
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import orjson

from edge.errors import RouteError, StoreError
from edge.routing.options import quote
from edge.routing.routes import Route, RouteTable, parse_key, parse_route

READ_TIMEOUT: Final = 0.25  # seconds that a poll waits for a lock; the next poll comes soon
WRITE_TIMEOUT: Final = 5.0  # seconds that a change waits for its turn
CHECKPOINT_TIMEOUT: Final = 0.1  # seconds; what is missed here, the next change makes good
PAGE_ROWS: Final = 1000  # rows parsed in one go: below a millisecond
PAGES_PER_READ: Final = 25  # pages read by one statement: about a megabyte
FIRST_ROWID: Final = -(2**63)
LAST_ROWID: Final = 2**63 - 1

_SCHEMA: Final = (
    """
    CREATE TABLE IF NOT EXISTS proxy_routes
        (domain TEXT PRIMARY KEY, target TEXT NOT NULL, updated_at_unix INTEGER NOT NULL)
    """,
    "CREATE TABLE IF NOT EXISTS proxy_meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL)",
)
_HAS_ROUTES: Final = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'proxy_routes'"
_HAS_OPTIONS: Final = (
    "SELECT count(*) FROM pragma_table_info('proxy_routes') WHERE name = 'options'"
)
_VERSION: Final = (
    "SELECT CAST(coalesce(value, 0) AS INTEGER) FROM proxy_meta WHERE key = 'routes_version'"
)
_NEXT_VERSION: Final = (
    "INSERT INTO proxy_meta (key, value) VALUES ('routes_version', 1)"
    " ON CONFLICT (key) DO UPDATE SET value = value + 1 RETURNING value"
)
# One page of rows as one JSON text, made in C without the interpreter's lock: targets by domain,
# options by domain where there are any, and how many rows these are. JSON has no form for a row
# whose texts are not text.
_PAGE: Final = """(
    SELECT json_array(json_group_object(domain, target), {options}, count(*)) FROM proxy_routes
    WHERE rowid BETWEEN ? AND ? AND typeof(domain) = 'text' AND typeof(target) = 'text'
)"""
_PAGE_WITHOUT_OPTIONS: Final = _PAGE.format(options="json_object()")
_PAGE_WITH_OPTIONS: Final = _PAGE.format(
    options="json_group_object(domain, CASE typeof(options) WHEN 'text' THEN options ELSE '?' END)"
    " FILTER (WHERE options IS NOT NULL)"
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
_ROWS: Final = "SELECT count(*) FROM proxy_routes"
_NON_TEXT_ROWS: Final = (
    "SELECT rowid FROM proxy_routes WHERE typeof(domain) != 'text' OR typeof(target) != 'text'"
)
# What SQLite says where it cannot make the files beside a database.
_NO_ROOM: Final = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL}
_EMPTY_PAGE: Final = b"[{},{},0]"


@dataclass(frozen=True, slots=True)
class Loaded:
    """A table that was read, and one line for each row in it that is skipped."""

    table: RouteTable
    problems: tuple[str, ...]


class _FileStamp(NamedTuple):
    """What tells one state of the database file from another without opening it."""

    file: tuple[int, int]  # device and inode
    size: int
    mtime: int


class _Row(NamedTuple):
    """What is stored of one route."""

    domain: str
    target: str
    options: str | None


class RouteReader:
    """Reads the routes when they change. Calls may come from any thread, one at a time.

    No connection stays open between two calls: while a file is open, SQLite leaves the log of what
    others write to it, and would apply it to another file that is put in its place.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: tuple[int, int] | None = None  # device and inode that the table is from
        self._table = RouteTable()
        self._pages: dict[int, bytes] = {}  # by the last rowid that may be on the page

    def poll(self, force: bool = False) -> Loaded | None:
        """The routes, if their version or the file itself is another than before, or by `force`.

        Raises StoreError, which says what is wrong and what to do; the next call starts afresh.
        """
        try:
            stamp = _stamp(self._path)
            try:
                return self._load("mode=ro", stamp, force)
            except sqlite3.OperationalError as error:
                if _code(error) == sqlite3.SQLITE_READONLY:
                    _roll_back(self._path)
                    return self._load("mode=ro", stamp, force)
                if _code(error) not in _NO_ROOM or not _has_no_journal(self._path):
                    raise
                # Reading in WAL mode takes a file beside the database, for which the disk has no
                # room or is read-only. But all is in the database, and hardly anyone can write.
                return self._load("immutable=1", stamp, force)
        except FileNotFoundError:
            raise _missing(self._path) from None
        except OSError as error:
            raise StoreError(f"cannot read {self._path}: {error.strerror}") from error
        except sqlite3.Error as error:
            self._file = None  # Whatever it was, it is looked at closely before it is believed.
            raise _store_error(self._path, error) from error

    def _load(self, how: str, stamp: _FileStamp, force: bool) -> Loaded | None:
        """`how` is the query of an SQLite URI."""
        with closing(_connect(self._path, how, READ_TIMEOUT)) as connection:
            connection.text_factory = bytes
            connection.execute("BEGIN")  # All that follows is one state of the database.
            row = connection.execute(_VERSION).fetchone()
            version = 0 if row is None else int(row[0])
            known = stamp.file == self._file
            if known and version == self._table.version and not force:
                return None
            if not known:
                # A damaged page may hide routes without any error while the others are read.
                (verdict,) = connection.execute("PRAGMA quick_check(proxy_routes)").fetchone()
                if verdict != b"ok":
                    raise _damaged(self._path, verdict.decode(errors="replace").splitlines()[-1])
            pages = self._read_pages(connection)
            non_text = _non_text_rows(connection, sum(map(_row_count, pages.values())))
        if how == "immutable=1" and (
            _stamp(self._path) != stamp or not _has_no_journal(self._path)
        ):
            raise StoreError(f"{self._path} was written while being read: it is read again")
        self._table = self._table.changed(version, *_difference(self._pages, pages))
        self._pages = pages
        self._file = stamp.file
        return Loaded(self._table, self._table.problems + non_text)

    def _read_pages(self, connection: sqlite3.Connection) -> dict[int, bytes]:
        """All rows, on pages with the boundaries of the last time as far as they still do.

        So one new row changes one page. Many pages come by one statement: for each, the interpreter
        has to be won back from a busy event loop.
        """
        boundaries: list[int] = []
        after = FIRST_ROWID
        for boundary, page in (self._pages or {LAST_ROWID: _EMPTY_PAGE}).items():
            if boundary == LAST_ROWID or _row_count(page) > 2 * PAGE_ROWS:
                limits = {"after": after, "end": boundary, "rows": PAGE_ROWS}
                boundaries += orjson.loads(
                    connection.execute(_PAGE_BOUNDARIES, limits).fetchone()[0]
                )
            if boundary not in boundaries[-1:]:
                boundaries.append(boundary)
            after = boundary
        sql = _PAGE_WITH_OPTIONS if _has_options(connection) else _PAGE_WITHOUT_OPTIONS
        pages: dict[int, bytes] = {}
        first = FIRST_ROWID
        for start in range(0, len(boundaries), PAGES_PER_READ):
            batch = boundaries[start : start + PAGES_PER_READ]
            ranges: list[int] = []
            for boundary in batch:
                ranges += (first, boundary)
                first = boundary + 1
            row = connection.execute(f"SELECT {', '.join([sql] * len(batch))}", ranges).fetchone()
            pages.update(zip(batch, row, strict=True))
        return {
            boundary: page
            for boundary, page in pages.items()
            # The range of a page without rows goes to the next one.
            if _row_count(page) or boundary == LAST_ROWID
        }


class RouteWriter:
    """Changes routes. Every change is one transaction of its own, and counts the version up."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def set(self, domain: str, target: str, options: Mapping[str, object] | None = None) -> int:
        """Insert or replace a route; returns the new version. Makes the database if there is none.

        `target` is `host:port`, several with commas between; `options` as of
        `RouteOptions.non_default`.
        Raises RouteError (nothing was changed) or StoreError.
        """
        text = orjson.dumps(options).decode() if options else None
        route = parse_route(domain, target, text)
        with self._transaction("mode=rwc") as connection:
            _make_tables(connection)
            _upsert(connection, route)
            return _bump_version(connection)

    def change(self, domain: str, options: Mapping[str, object]) -> int:
        """Change some options of a route that exists and leave the rest; returns the new version.

        None brings an option back to its default. Of a route that is stored in several spellings
        it is the row that is served. Raises RouteError (nothing was changed) or StoreError.
        """
        with self._transaction("mode=rw") as connection:
            row = _served_row(connection, domain)
            if row is None:
                raise RouteError(
                    f"there is no route {quote(domain)}: create it with `fairlead route set`"
                )
            kept = parse_route(*row).options.non_default()
            wanted = orjson.dumps({**kept, **options}).decode()
            _upsert(connection, parse_route(row.domain, row.target, wanted), row.domain)
            return _bump_version(connection)

    def remove(self, domain: str) -> int:
        """Delete a route, in every spelling that it is stored in; returns the new version.

        A row that is not a valid route is deleted by its exact text. Raises RouteError if there is
        no such route, or StoreError.
        """
        with self._transaction("mode=rw") as connection:
            rows = _spellings(connection, domain)
            if not rows:
                raise RouteError(f"there is no route {quote(domain)}")
            connection.executemany("DELETE FROM proxy_routes WHERE domain = ?", rows)
            return _bump_version(connection)

    def targets(self, domains: Iterable[str]) -> dict[str, str | None]:
        """The targets of the routes that are stored under `domains`; None where there is no route.

        Raises RouteError for what is no domain, or StoreError.
        """
        if not self._path.exists():
            return dict.fromkeys(domains)
        found: dict[str, str | None] = {}
        try:
            with closing(_connect(self._path, "mode=ro", WRITE_TIMEOUT)) as connection:
                connection.text_factory = _decode_lossy
                connection.execute("BEGIN")  # All of them in one state of the database.
                has_table = connection.execute(_HAS_ROUTES).fetchone() is not None
                for domain in domains:
                    row = _served_row(connection, domain) if has_table else None
                    found[domain] = row.target if row else None
        except sqlite3.Error as error:
            raise _store_error(self._path, error) from error
        return found

    def retarget(self, targets: Mapping[str, str | None]) -> int:
        """Point the routes of some domains elsewhere, all in one change; returns the new version.

        `targets` are by domain, as in `set`; None removes the route. A route keeps its options, but
        not its weights, which name the targets that it had; where there is none, one is made.
        Raises RouteError (nothing was changed) or StoreError.
        """
        with self._transaction("mode=rwc") as connection:
            _make_tables(connection)
            for domain, target in targets.items():
                row = _served_row(connection, domain)
                connection.executemany(
                    "DELETE FROM proxy_routes WHERE domain = ?", _spellings(connection, domain)
                )
                if target is None:
                    continue
                options = orjson.loads(row.options) if row and row.options else {}
                options.pop("weights", None)
                text = orjson.dumps(options).decode() if options else None
                _upsert(connection, parse_route(domain, target, text))
            return _bump_version(connection)

    @contextmanager
    def _transaction(self, how: str) -> Iterator[sqlite3.Connection]:
        """All of it or nothing, durable when it is left."""
        if not self._path.parent.is_dir():
            raise StoreError(f"the folder {self._path.parent} does not exist: create it first")
        if how == "mode=rw" and not self._path.exists():
            raise _missing(self._path)
        try:
            with closing(_connect(self._path, how, WRITE_TIMEOUT)) as connection:
                # A row that is not UTF-8 is only ever compared here, and equals nothing.
                connection.text_factory = _decode_lossy
                connection.execute("PRAGMA synchronous = FULL")
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
                _checkpoint(connection)
        except sqlite3.Error as error:
            raise _store_error(self._path, error) from error


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


def _connect(path: Path, how: str, timeout: float) -> sqlite3.Connection:
    """`how` is the query of an SQLite URI, `timeout` in seconds; transactions begin by hand."""
    uri = f"{path.absolute().as_uri()}?{how}"
    return sqlite3.connect(uri, uri=True, timeout=timeout, isolation_level=None)


def _roll_back(path: Path) -> None:
    """Let SQLite undo the change that a writer was killed in; a reader alone may not do it."""
    with closing(_connect(path, "mode=rw", READ_TIMEOUT)) as connection:
        connection.execute(_HAS_OPTIONS).fetchone()


def _has_options(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute(_HAS_OPTIONS).fetchone()[0])


def _make_tables(connection: sqlite3.Connection) -> None:
    for statement in _SCHEMA:
        connection.execute(statement)


def _upsert(connection: sqlite3.Connection, route: Route, spelling: str | None = None) -> None:
    """Insert or replace the row of a route, under another `spelling` of its domain if it has one.

    The column `options` is made when the first route needs it.
    """
    kept = route.options.non_default()
    values: dict[str, object] = {
        "domain": spelling or route.key,
        "target": ",".join(route.targets),
        "updated_at_unix": int(time.time()),
    }
    has_options = _has_options(connection)
    if kept and not has_options:
        connection.execute("ALTER TABLE proxy_routes ADD COLUMN options TEXT")
    if kept or has_options:
        values["options"] = orjson.dumps(kept).decode() if kept else None
    names = ", ".join(values)
    marks = ", ".join("?" * len(values))
    changes = ", ".join(f"{name} = excluded.{name}" for name in values)
    connection.execute(
        f"INSERT INTO proxy_routes ({names}) VALUES ({marks})"  # noqa: S608  names of ours
        f" ON CONFLICT (domain) DO UPDATE SET {changes}",
        tuple(values.values()),
    )


def _served_row(connection: sqlite3.Connection, domain: str) -> _Row | None:
    """The row of a route; of one that is stored in several spellings, that which is served."""
    rows = [row for (row,) in _spellings(connection, domain)]
    if not rows:
        return None
    host, prefix = parse_key(domain)
    key = host + prefix.decode("ascii")
    row = key if key in rows else min(rows)
    options = "CAST(options AS TEXT)" if _has_options(connection) else "NULL"
    found = connection.execute(
        f"SELECT domain, CAST(target AS TEXT), {options} FROM proxy_routes"  # noqa: S608  ours
        " WHERE domain = ?",
        (row,),
    ).fetchone()
    return _Row(*found)


def _bump_version(connection: sqlite3.Connection) -> int:
    # All rows are fetched, or the statement would still run at the commit.
    ((version,),) = connection.execute(_NEXT_VERSION).fetchall()
    return int(version)


def _spellings(connection: sqlite3.Connection, domain: str) -> list[tuple[str]]:
    """The rows that name this route, however they spell it."""
    try:
        key = parse_key(domain)
    except RouteError:
        exact = domain.encode(errors="replace").decode()
        return connection.execute(
            "SELECT domain FROM proxy_routes WHERE domain = ?", (exact,)
        ).fetchall()
    # In C, all rows that may spell it: case, a trailing dot, the many forms of IPv6.
    likely = connection.execute(
        "SELECT domain FROM proxy_routes WHERE domain LIKE '[%'"
        " OR rtrim(replace(lower(domain), './', '/'), '.') = lower(?)",
        (key[0] + key[1].decode("ascii"),),
    )
    return [(row,) for (row,) in likely if _domain_of(row) == key]


def _domain_of(row: object) -> tuple[str, bytes] | None:
    try:
        return parse_key(row) if isinstance(row, str) else None
    except RouteError:
        return None


def _decode_lossy(text: bytes) -> str:
    return text.decode(errors="replace")


def _checkpoint(connection: sqlite3.Connection) -> None:
    """After a change, which is durable by now: WAL, and everything in the one file.

    In WAL mode readers and writers do not wait for each other. An empty log means that a copy of
    the file is a whole backup, and that no old log is applied to a file that replaces this one.
    """
    try:
        connection.execute(f"PRAGMA busy_timeout = {int(CHECKPOINT_TIMEOUT * 1000)}")
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.Error:
        pass  # Another connection is busy in it, or the disk is full; the change stands.


def _non_text_rows(connection: sqlite3.Connection, expected: int) -> tuple[str, ...]:
    """One line for each row that no page holds; found by scanning, so only if there are any."""
    if connection.execute(_ROWS).fetchone()[0] == expected:
        return ()
    rows = connection.execute(_NON_TEXT_ROWS).fetchall()
    return tuple(f"row {row} is skipped: its domain or target is not text" for (row,) in rows)


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
        targets, options, _ = orjson.loads(page)
    except orjson.JSONDecodeError:
        # SQLite keeps any bytes as text. What is not UTF-8 becomes a row that is refused.
        targets, options, _ = orjson.loads(page.decode(errors="replace"))
    return targets, options


def _row_count(page: bytes) -> int:
    return int(page[page.rindex(b",") + 1 : -1])


def _missing(path: Path) -> StoreError:
    return StoreError(f"the database {path} does not exist: add a route with `fairlead route set`")


def _damaged(path: Path, detail: str) -> StoreError:
    return StoreError(f"{path} is damaged ({detail}): restore it from a backup")


def _code(error: sqlite3.Error) -> int:
    """The primary result code; errors of the module itself, which have none, are SQLITE_ERROR."""
    return int(getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)) & 0xFF


def _store_error(path: Path, error: sqlite3.Error) -> StoreError:
    """What SQLite says, to the one who has to do something about it."""
    code = _code(error)
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return StoreError(f"{path} is locked by another program: try again later")
    if code == sqlite3.SQLITE_READONLY:
        return StoreError(f"{path} is read-only: make it and its folder writable")
    if code == sqlite3.SQLITE_FULL:
        return StoreError(f"the disk of {path} is full: free some space and try again")
    if code == sqlite3.SQLITE_IOERR:
        return StoreError(f"I/O error on {path} ({error}): check its disk and free space")
    if code == sqlite3.SQLITE_CORRUPT:
        return _damaged(path, str(error))
    if code == sqlite3.SQLITE_NOTADB:
        return StoreError(f"{path} is not a SQLite database: name the route database with --db")
    if code == sqlite3.SQLITE_CANTOPEN:
        return StoreError(f"cannot open {path}: make it and its folder readable and writable")
    if str(error).startswith("no such table"):
        return StoreError(f"{path} has no routes table: add a route with `fairlead route set`")
    return StoreError(f"{path} cannot be read: {error}")

"""Owns how the database of the routes is opened, also in a folder that other users write to.

Where the edge and the orchestrator share one, whoever has taken over the edge puts anything in any
place there, at any moment. Then nothing but routes must change.
"""

import os
import re
import sqlite3
import stat
import threading
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, NamedTuple

from edge.errors import StoreError, quote
from edge.routing.shared_file import SUFFIXES, is_own_folder, refuse_exchanged, refuse_planted
from edge.routing.store import MAX_WORK, has_options_column, result_code

CHECKPOINT_TIMEOUT: Final = 0.1  # seconds; what is missed here, the next change makes good
_WRITING: Final = "mode=rw"
_STEPS_PER_LOOK: Final = 100_000  # of SQLite's machine between two looks at the time: milliseconds
_MAX_VALUE: Final = 2**26  # bytes of a value or a row: no route has that many
_RETRY_INTERVAL: Final = 0.02  # seconds until who finds the database busy tries again
_BUSY: Final = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_DEFINITIONS: Final = (
    "SELECT CAST(sql AS TEXT) FROM sqlite_master"
    " WHERE lower(substr(tbl_name, 1, 6)) = 'proxy_' AND type IN ('table', 'index')"
    " AND sql IS NOT NULL"
)
# Of CHECK, generated columns, DEFAULT and indexes; a comment could hide one.
_EXPRESSION: Final = re.compile(
    r"\b(?:check|generated|as|where)\b|\bdefault\s*\(|\bindex\b.*\(.*\(|/\*|--",
    re.IGNORECASE | re.DOTALL,
)
_DESCRIPTORS: Final = Path("/proc/self/fd")
# Of two that open the database at once it would not be known who has opened what.
_opening: Final = threading.Lock()


class _Opened(NamedTuple):
    connection: sqlite3.Connection
    file: tuple[int, int] | None  # device and inode; None: not known


class _ExchangedError(StoreError):
    """Another file was put in the place of the database while it was opened twice."""


def connect(path: Path, how: str, timeout: float) -> sqlite3.Connection:
    """`how` is the query of an SQLite URI, `timeout` in seconds; transactions begin by hand.

    Raises sqlite3.Error, and StoreError where another user has put there what is not to be opened.
    """
    return _open(path, how, timeout).connection


def begin_reading(path: Path, timeout: float) -> sqlite3.Connection:
    """A connection in a transaction, for one who also writes. Raises as `connect`."""
    return _begin_reading(path, timeout).connection


def begin_writing(path: Path, timeout: float) -> sqlite3.Connection:
    """A connection in a transaction beside which nobody else writes. Raises as `connect`.

    Who opens a database for writing undoes what a journal beside it says, and SQLite then removes
    the file whose name the journal ends with, wherever that is (its "super-journal"). In a folder
    that others write to, the lock of one who only reads keeps all from undoing anything until the
    change has begun: what is a journal then is this change's own.
    """
    if is_own_folder(path):
        return _begin(_open(path, _WRITING, timeout), "BEGIN IMMEDIATE").connection
    deadline = time.monotonic() + timeout
    while True:
        try:
            reading = _begin_reading(path, 0.0, identify=True)
            with closing(reading.connection):
                writing = _open(path, _WRITING, 0.0, identify=True)
                if reading.file is None or writing.file != reading.file:
                    writing.connection.close()
                    raise _ExchangedError(f"{path} was another file when it was opened: try again")
                connection = _begin(writing, "BEGIN IMMEDIATE").connection
            connection.execute(f"PRAGMA busy_timeout = {int(timeout * 1000)}")
            return connection
        except (sqlite3.OperationalError, _ExchangedError) as error:
            is_busy = isinstance(error, _ExchangedError) or result_code(error) in _BUSY
            if not is_busy or time.monotonic() >= deadline:
                raise
        time.sleep(_RETRY_INTERVAL)


def roll_back(path: Path, timeout: float) -> None:
    """Let SQLite undo the change that a writer was killed in; a reader alone may not do it.

    Raises as `connect`, and StoreError in a folder that others write to: see `begin_writing`.
    """
    if not is_own_folder(path):
        raise StoreError(
            f"{path}-journal is what somebody has left of a change, and others write to its folder:"
            " let the folder's owner undo it (`fairlead route ls`; a running edge does), or remove"
            " it"
        )
    with closing(connect(path, _WRITING, timeout)) as connection:
        has_options_column(connection)


def checkpoint(connection: sqlite3.Connection) -> None:
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


def distrust(connection: sqlite3.Connection) -> None:
    """Have it run nothing that stands in the database, and nothing without an end.

    A trigger or a view of whoever else may write to the file could go on for ever, or keep a change
    from being made.
    """

    def allow(_action: int, _one: object, _two: object, _name: object, source: object) -> int:
        return sqlite3.SQLITE_OK if source is None else sqlite3.SQLITE_DENY

    deadline = time.monotonic() + MAX_WORK
    connection.set_authorizer(allow)
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS_PER_LOOK)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_VALUE)


def _begin_reading(path: Path, timeout: float, *, identify: bool = False) -> _Opened:
    try:
        return _begin(_open(path, "mode=ro", timeout, identify=identify), "BEGIN")
    except sqlite3.OperationalError as error:
        if result_code(error) != sqlite3.SQLITE_READONLY:
            raise
    roll_back(path, timeout)
    return _begin(_open(path, "mode=ro", timeout, identify=identify), "BEGIN")


def _begin(opened: _Opened, how: str) -> _Opened:
    connection = opened.connection
    try:
        distrust(connection)
        # A row that is not UTF-8 is only ever compared by who writes, and equals nothing.
        connection.text_factory = _decode_lossy
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(how)
        _refuse_expressions(connection)  # until something is read, nothing is locked
    except BaseException:
        connection.close()
        raise
    return opened


def _refuse_expressions(connection: sqlite3.Connection) -> None:
    """One function can take hours, and nothing ends it before. Raises StoreError."""
    for (definition,) in connection.execute(_DEFINITIONS).fetchall():
        if _EXPRESSION.search(definition):
            raise StoreError(
                "the tables of the routes have expressions in their definitions, which are not run:"
                f" {quote(definition)}"
            )


def _open(path: Path, how: str, timeout: float, *, identify: bool = False) -> _Opened:
    """With `identify`, `file` is known: to look costs as many steps as there are descriptors."""
    uri = f"{path.absolute().as_uri()}?{how}"
    with _opening:
        refuse_planted(path)
        before = _descriptors() if identify else {}
        connection = sqlite3.connect(uri, uri=True, timeout=timeout, isolation_level=None)
        try:
            # What else stands in the schema may be another user's.
            connection.execute("PRAGMA trusted_schema = OFF")
            # Nothing has been read or written so far.
            ((_, _, name),) = connection.execute("PRAGMA database_list").fetchall()
            refuse_exchanged(path, name)
            return _Opened(connection, _opened_since(before, Path(name)) if identify else None)
        except BaseException:
            connection.close()
            raise


def _opened_since(before: Mapping[int, os.stat_result], path: Path) -> tuple[int, int] | None:
    """The file that has been opened in the folder of `path`: SQLite does not say which."""
    files = set()
    after = _descriptors()
    for descriptor in after.keys() - before.keys():
        found = after[descriptor]
        with suppress(OSError):  # closed since
            place = (_DESCRIPTORS / str(descriptor)).readlink()
            is_beside = any(place.name == f"{path.name}{suffix}" for suffix in SUFFIXES if suffix)
            if place.parent == path.parent and stat.S_ISREG(found.st_mode) and not is_beside:
                files.add((found.st_dev, found.st_ino))
    return files.pop() if len(files) == 1 else None


def _descriptors() -> dict[int, os.stat_result]:
    """All that are open, but for the one that it takes to list them."""
    found = {}
    for descriptor in list(_DESCRIPTORS.iterdir()):
        with suppress(OSError):
            found[int(descriptor.name)] = os.fstat(int(descriptor.name))
    return found


def _decode_lossy(text: bytes) -> str:
    return text.decode(errors="replace")

"""Owns a copy of the database, taken while it is in use."""

import contextlib
import os
import sqlite3
import tempfile
from pathlib import Path
from typing import Final

from edge.routing.opening import begin_reading
from orchestrator.errors import OrchestratorError

# Seconds to wait for those who write.
BUSY_TIMEOUT: Final = 10.0


def back_up(db: Path, copy: Path) -> int:
    """Write the database `db` to the file `copy`, for its owner alone; its size in bytes.

    The copy is whole and checked, or there is none: what was there before stays. Raises
    OrchestratorError.
    """
    if not db.is_file():
        raise OrchestratorError(f"no database at {db}: set --db or FAIRLEAD_DB")
    if copy.exists() and copy.samefile(db):
        raise OrchestratorError(f"{copy} is the database itself: choose another file")
    try:
        # Made with mode 0600.
        descriptor, name = tempfile.mkstemp(dir=copy.parent, prefix=f".{copy.name}.")
    except OSError as error:
        raise OrchestratorError(f"cannot write to {copy.parent}: {error.strerror}") from None
    unfinished = Path(name)
    try:
        copy_whole(db, unfinished)
        os.fsync(descriptor)
        size = unfinished.stat().st_size
        unfinished.replace(copy)
        sync_folder(copy.parent)
    except sqlite3.Error as error:
        raise OrchestratorError(f"cannot back up {db}: {error}") from None
    except OSError as error:
        raise OrchestratorError(f"cannot write {copy}: {error.strerror}") from None
    finally:
        os.close(descriptor)
        unfinished.unlink(missing_ok=True)
    return size


def copy_whole(db: Path, unfinished: Path) -> None:
    """Write all of `db` into the empty file `unfinished`, and check it.

    Raises sqlite3.Error or StoreError.
    """
    source = begin_reading(db, BUSY_TIMEOUT)
    with contextlib.closing(source), contextlib.closing(sqlite3.connect(unfinished)) as target:
        source.backup(target)
        # One file, which no -wal has to travel with.
        target.execute("PRAGMA journal_mode = DELETE")
        (found,) = target.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise sqlite3.DatabaseError(f"the copy is corrupt, and so is the database: {found}")


def sync_folder(folder: Path) -> None:
    """What was renamed in it is so after a loss of power, too. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

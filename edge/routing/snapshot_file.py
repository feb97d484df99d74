"""Owns the last good table on disk: a file beside the database, which an edge serves that starts
where the database cannot be read, and by which a change knows that there was a database.
"""

import contextlib
import os
import stat
from pathlib import Path
from typing import BinaryIO

from edge.routing.snapshot import (
    ANY_DATABASE,
    DamagedSnapshotError,
    Header,
    Snapshot,
    read,
    read_header,
    write,
)


class SnapshotFile:
    """Beside the database `db`. It may be there or not."""

    def __init__(self, db: Path) -> None:
        # Not the database's name with an ending: "rm fairlead.db*" shall leave it.
        self.path = db.with_suffix(".last-good")
        self._db = db

    @property
    def binds(self) -> bool:
        """Whether routes were served that no new database may replace unasked."""
        header = self.header()
        return self.path.exists() if header is None else header.database_id != ANY_DATABASE

    @property
    def database_id(self) -> int:
        """The id that the database must have; 0 if any will do."""
        header = self.header()
        return 0 if header is None else max(header.database_id, 0)

    def header(self) -> Header | None:
        """None if there is no whole one, or none that can be read."""
        try:
            with self._opened() as file:
                return read_header(file.fileno())
        except OSError:
            return None

    def load(self) -> Snapshot | None:
        """None if there is none. Raises DamagedSnapshotError."""
        try:
            with self._opened() as file:
                return read(file.fileno())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DamagedSnapshotError(f"it cannot be read: {error.strerror}") from error

    def save(self, snapshot: Snapshot) -> None:
        """Put it in the place of the old one, whole and on the disk. Raises OSError."""
        # The old edge and the new one can both be at it.
        draft = self.path.with_name(f"{self.path.name}.{os.getpid()}.new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            try:
                self._share(descriptor)
                write(descriptor, snapshot)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            draft.replace(self.path)
        except OSError:
            draft.unlink(missing_ok=True)
            raise

    def remove_drafts(self) -> None:
        """Remove what those have left that were killed while writing."""
        for draft in self.path.parent.glob(f"{self.path.name}.*.new"):
            with contextlib.suppress(OSError):
                draft.unlink()

    def remove(self) -> bool:
        """Whether there was one. Raises OSError."""
        try:
            self.path.unlink()
        except FileNotFoundError:
            return False
        return True

    def _opened(self) -> BinaryIO:
        # Who else may write to the folder can put a FIFO there: nobody waits for its writer.
        return open(
            self.path, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK)
        )

    def _share(self, descriptor: int) -> None:
        """Let those read it who may read the database: it has the same in it."""
        try:
            found = self._db.stat()
        except OSError:
            return  # Whose it was nobody knows: it is for the edge alone.
        if not stat.S_ISREG(found.st_mode):
            return
        os.fchmod(descriptor, stat.S_IMODE(found.st_mode))
        with contextlib.suppress(PermissionError):
            os.fchown(descriptor, found.st_uid, found.st_gid)

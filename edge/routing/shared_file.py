"""Owns what the file of the routes is in a folder that several users write to: whose it is, and
what in it is not followed, waited for or obeyed.

The edge and the orchestrator are two such users where they run as services, and share the folder
through its group. Who has taken over the edge can put anything in it, under any name.
"""

import os
import stat
from pathlib import Path
from typing import Final

from edge.errors import StoreError

SUFFIXES: Final = ("", "-wal", "-shm", "-journal")  # of the files that SQLite writes


def open_to_folder_group(path: Path) -> None:
    """Let the group of its folder read and write a file of ours, if the folder is shared through
    it (set-group-ID). SQLite makes the files beside it with the same mode. Raises OSError.
    """
    # What a link leads to, which another user has just put there, keeps its mode.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _share(descriptor, path)
    finally:
        os.close(descriptor)


def make_file(path: Path) -> None:
    """An empty one if there is none: SQLite would let everybody read it. Raises StoreError."""
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            _share(descriptor, path)
        finally:
            os.close(descriptor)
    except FileExistsError:
        pass
    except OSError as error:
        raise StoreError(f"cannot create {path}: {error.strerror}") from error


def is_own_folder(path: Path) -> bool:
    """Whether what lies beside `path` is there by our will: its folder is ours, or root's and for
    nobody else to write to. Raises StoreError."""
    try:
        found = path.absolute().parent.stat()
    except OSError as error:
        raise StoreError(f"cannot read {path.parent}: {error.strerror}") from error
    if found.st_uid == os.geteuid():
        return True
    return found.st_uid == 0 and not found.st_mode & 0o022


def is_there(path: Path) -> bool:
    """Whether there is such a file. Raises StoreError where that cannot be known: a folder that is
    closed to us says nothing of what is in it."""
    try:
        path.stat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
    return True


def refuse_planted(path: Path) -> None:
    """Whoever else may write to the folder must not choose which of our files SQLite writes to, and
    must not have us wait for a writer of a FIFO.

    Links are as in folders for everybody (protected_symlinks, proc_sys_fs(5)). Raises StoreError.
    """
    for suffix in SUFFIXES:
        file = path.with_name(path.name + suffix)
        try:
            found = file.lstat()
            if stat.S_ISLNK(found.st_mode):
                if _is_foreign(found):
                    raise StoreError(
                        f"{file} is a link that user {found.st_uid} has made: remove it"
                    )
                found = file.stat()
        except FileNotFoundError:
            continue
        except OSError as error:
            raise StoreError(f"cannot read {file}: {error.strerror}") from error
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
            raise StoreError(f"{file} is not a file: name the route database with --db")


def refuse_exchanged(path: Path, opened: str) -> None:
    """The file that SQLite has opened for `path` is there and not where a link leads, which was put
    there after `refuse_planted` had looked. Raises StoreError.

    SQLite resolves links first, and follows none when it opens what it has found.
    """
    try:
        if stat.S_ISLNK(path.lstat().st_mode):
            refuse_planted(path)
            return
    except OSError:
        pass  # it is gone since
    if opened != str(path.parent.resolve() / path.name):
        raise StoreError(f"{path} was another file when it was opened: try again")


def _share(descriptor: int, path: Path) -> None:
    if path.absolute().parent.stat().st_mode & stat.S_ISGID:
        os.fchmod(descriptor, 0o660)


def _is_foreign(found: os.stat_result) -> bool:
    return found.st_uid not in (0, os.geteuid())

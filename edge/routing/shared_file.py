"""Owns what the file of the routes is in a folder that several users write to: whose it is, and
which links in it are followed.

The edge and the orchestrator are two such users where they run as services, and share the folder
through its group.
"""

import os
import stat
from pathlib import Path
from typing import Final

from edge.errors import StoreError

_SUFFIXES: Final = ("", "-wal", "-shm", "-journal")  # of the files that SQLite writes


def open_to_folder_group(path: Path) -> None:
    """Let the group of its folder read and write a file of ours, if the folder is shared through
    it (set-group-ID). SQLite makes the files beside it with the same mode. Raises OSError.
    """
    if path.absolute().parent.stat().st_mode & stat.S_ISGID:
        path.chmod(0o660)


def make_file(path: Path) -> None:
    """An empty one if there is none: SQLite would let everybody read it. Raises StoreError."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        open_to_folder_group(path)
    except FileExistsError:
        pass
    except OSError as error:
        raise StoreError(f"cannot create {path}: {error.strerror}") from error


def refuse_foreign_links(path: Path) -> None:
    """Whoever else may write to the folder must not choose which of our files SQLite writes to.

    As the kernel does in folders for everybody (protected_symlinks, proc_sys_fs(5)). Raises
    StoreError.
    """
    for suffix in _SUFFIXES:
        file = path.with_name(path.name + suffix)
        try:
            found = file.lstat()
        except OSError:
            continue  # none, or SQLite says what is wrong with it
        if stat.S_ISLNK(found.st_mode) and found.st_uid not in (0, os.geteuid()):
            raise StoreError(f"{file} is a link that user {found.st_uid} has made: remove it")

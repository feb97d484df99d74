"""Owns that the file of a database grows smaller when rows are removed from it.

SQLite keeps the pages of removed rows for later. It gives them back a piece at a time where
`auto_vacuum` is INCREMENTAL, which a file that has tables already gets by one VACUUM
(https://www.sqlite.org/pragma.html#pragma_auto_vacuum).
"""

import asyncio
import logging
import os
import sqlite3
from pathlib import Path
from typing import Final

import aiosqlite

logger = logging.getLogger(__name__)

INCREMENTAL: Final = 2  # what `PRAGMA auto_vacuum` says of it
# A VACUUM writes a copy of the file, and then all of it into the -wal.
COPIES: Final = 2
# Bytes of the -wal that stay when all of it is in the database.
WAL_KEPT: Final = 4 * 1024 * 1024


async def enable(connection: aiosqlite.Connection, path: Path) -> None:
    """From now on the file can be made smaller. Nothing may be under way on the connection.

    A file that has tables is written anew, once: before anything is served, as that locks it. Where
    there is no room for that, or another process keeps it locked, the next start tries again.
    """
    await connection.execute(f"PRAGMA journal_size_limit = {WAL_KEPT}")
    ((mode,),) = await connection.execute_fetchall("PRAGMA auto_vacuum")
    if mode == INCREMENTAL:
        return
    size, free = await asyncio.to_thread(_size_and_free, path)
    if size * COPIES > free:
        logger.warning("no room to make %s able to shrink: %d bytes are free", path, free)
        return
    await connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    try:
        await connection.execute("VACUUM")
    except sqlite3.OperationalError as error:
        logger.warning("cannot make %s able to shrink, trying at the next start: %s", path, error)


def _size_and_free(path: Path) -> tuple[int, int]:
    found = os.statvfs(path.parent)
    return path.stat().st_size, found.f_bavail * found.f_frsize

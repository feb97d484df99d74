"""Owns what is kept of the table that is served beyond the process that serves it.

The leader keeps it in the memory that all workers share, before a change is acknowledged, and then
on disk. A worker that starts where the store cannot be read serves what is there.
"""

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from edge.errors import StoreError
from edge.routing.snapshot import DamagedSnapshotError, Snapshot
from edge.routing.snapshot_file import SnapshotFile
from edge.routing.snapshot_memory import SnapshotMemory
from edge.routing.store_reader import Loaded

logger = logging.getLogger(__name__)

# Seconds between two looks whether the table on disk is the one that is served, at least; a large
# one is written at most a tenth of the time.
SAVE_INTERVAL: Final = 1.0
SAVE_SHARE: Final = 10
# Seconds until the next try where it could not be written.
SAVE_RETRY: Final = 30.0


class LastGoodTable:
    """`memory` is that of all workers. What does not wait is called in the route store's thread."""

    def __init__(self, db: Path, memory: SnapshotMemory) -> None:
        self._memory = memory
        self._file = SnapshotFile(db)
        self._served: Snapshot | None = None  # by the leader
        self._draining = False
        self._memory_failed = False
        self._file_failed = False
        # A change is acknowledged before its table is on the disk, and is not kept waiting by it.
        self._saver = ThreadPoolExecutor(1, thread_name_prefix="last-good-table")

    def database_id(self) -> int:
        """That of the database which the table is from; 0 if any will do."""
        header = self._memory.header()
        return self._file.database_id if header is None else max(header.database_id, 0)

    def load(self) -> Snapshot | None:
        """What is kept, in memory or else on disk."""
        for kept, where in ((self._memory, "in memory"), (self._file, f"in {self._file.path}")):
            try:
                snapshot = kept.load()
            except DamagedSnapshotError as error:
                logger.error("the last good table %s cannot be used: %s", where, error)
                continue
            if snapshot is not None:
                return snapshot
        return None

    # The leader's

    def replace(self, snapshot: Snapshot) -> None:
        """Another one is served from now on."""
        self._served = snapshot

    def replace_by(self, loaded: Loaded) -> None:
        """As `replace`, of what was read from the database."""
        version = loaded.table.version
        self.replace(Snapshot.of(loaded.database_id, version, loaded.pages, self._served))

    def share(self) -> None:
        """Have the memory hold the table that is served.

        Looked at each time: at an upgrade the old edge's leader may have written to it, too.
        """
        if self._served is None or self._draining:
            return
        try:
            if not self._served.header.is_same_table(self._memory.header()):
                self._memory.write(self._served)
            self._memory_failed = False
        except OSError as error:
            if not self._memory_failed:
                logger.error("cannot keep the last good table in memory: %s", error.strerror)
            self._memory_failed = True

    def release(self) -> None:
        """Let any database replace the table that is served; `save` has to follow.

        Raises StoreError.
        """
        if self._served is not None:
            self._served = self._served.of_any_database()
            self.share()
            return
        try:
            self._file.remove()  # of a damaged one nobody knows which database it is from
        except OSError as error:
            raise self._unwritable(error) from error

    async def run(self) -> None:
        """Keep the served table on disk, until cancelled."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._saver, self._file.remove_drafts)
        while True:
            begun = time.monotonic()
            try:
                await self.save()
                self._file_failed = False
                pause = max(SAVE_INTERVAL, SAVE_SHARE * (time.monotonic() - begun))
            except StoreError as error:
                if not self._file_failed:
                    logger.error("the last good table is not kept on disk: %s", error)
                self._file_failed = True
                pause = SAVE_RETRY
            await asyncio.sleep(pause)

    async def save(self) -> None:
        """Have the file hold the table that is served. Raises StoreError."""
        try:
            await asyncio.get_running_loop().run_in_executor(self._saver, self._save)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> StoreError:
        return StoreError(f"cannot write {self._file.path}: {error.strerror}")

    def _save(self) -> None:
        if self._served is None or self._draining:
            return
        if not self._served.header.is_same_table(self._file.header()):
            self._file.save(self._served)

    def drain(self) -> None:
        """Another edge may have taken over: it keeps its own from now on."""
        self._draining = True

    def close(self) -> None:
        """Keep nothing more."""
        self._saver.shutdown()
        self._memory.close()

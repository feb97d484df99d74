"""Owns how a worker learns of changed routes: it reads the store beside the loop, and has the new
table served. Whatever becomes of the store, the last good table goes on.

What is kept of it beyond this process is `LastGoodTable`'s.
"""

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from edge.errors import StoreError
from edge.proxy.drain import TargetDrains
from edge.proxy.state import ServingState
from edge.routing.checks import checks_by_target
from edge.routing.store import NoRoutesError, OtherDatabaseError
from edge.routing.store_reader import Loaded, RouteReader
from edge.routing.table import RouteTable
from edge.rules.health_check import HealthCheck
from edge.worker.last_good_table import LastGoodTable

logger = logging.getLogger(__name__)


class _Diff(NamedTuple):
    """What a new table changes, worked out beside the loop.

    `gone` are the routes in use that are not in it, by key; `checks` are those of each target;
    `unavailable` counts the routes whose targets get no requests.
    """

    gone: tuple[str, ...]
    checks: dict[str, frozenset[HealthCheck]]
    unavailable: int


class RouteWatch:
    """Looks at the store, when asked to and every poll interval, and swaps the table."""

    def __init__(self, state: ServingState, drains: TargetDrains, last_good: LastGoodTable) -> None:
        self.error: str | None = None  # why the store could not be read the last time
        self._state = state
        self._drains = drains
        self._reader = RouteReader(state.settings.db, follows=True)
        self._last_good = last_good
        # SQLite wants one thread for one connection.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="route-store")
        self._lock = asyncio.Lock()
        self._problems: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<RouteWatch version={self.version} error={self.error!r}>"

    @property
    def version(self) -> int:
        """Of the table that is served; 0 without one."""
        table = self._state.table
        return table.version if table is not None else 0

    @property
    def problem(self) -> str | None:
        """What an operator has to know of the table that is served."""
        if self.error is None or self._state.table is None:
            return self.error
        return f"the last good table (version {self.version}) is served: {self.error}"

    async def run(self) -> None:
        """Look every poll interval, until cancelled."""
        while True:
            await asyncio.sleep(self._state.settings.poll_interval)
            await self.reload(force=False)

    async def reload(self, force: bool = True) -> int:
        """Look at the store now; the version that is served afterwards, 0 without a table.

        By `force` the rows are read even if the version is the one that is served.
        """
        loop = self._state.loop
        async with self._lock:
            try:
                found = await loop.run_in_executor(self._thread, self._look, force)
                if found is not None:
                    self._swap(*found)
                    self._state.metrics.reloads["ok"] += 1
            except StoreError as error:
                if self._state.table is None:
                    restored = await loop.run_in_executor(self._thread, self._restore)
                    if restored is not None:
                        self._swap(*restored)
                self._unreadable(str(error))
                return self.version
            finally:
                # Before anybody is told of a change, and after it is served.
                await loop.run_in_executor(self._thread, self._last_good.share)
            self._readable()
        return self.version

    async def adopt(self) -> bool:
        """Take the database that is there, whichever it is. False if there is none: then the next
        one is taken.

        All workers follow with their next look. Raises StoreError if it cannot be read, or if its
        table cannot be kept, without which the next change would still be refused.
        """
        loop = self._state.loop
        async with self._lock:
            try:
                found = await loop.run_in_executor(self._thread, self._look, True, True)
            except NoRoutesError:
                found = None
                await loop.run_in_executor(self._thread, self._last_good.release)
            if found is not None:
                self._swap(*found)
                await loop.run_in_executor(self._thread, self._last_good.share)
                self._readable()
            await self._last_good.save()
        return found is not None

    def close(self) -> None:
        """Look no more."""
        self._thread.shutdown()

    # In the thread

    def _look(self, force: bool, adopt: bool = False) -> tuple[Loaded, _Diff] | None:
        loaded = self._read(force, 0 if adopt else self._last_good.database_id())
        if loaded is None:
            return None
        if self._state.leader:
            self._last_good.replace_by(loaded)
        return loaded, self._diff(loaded.table)

    def _read(self, force: bool, expected_id: int) -> Loaded | None:
        try:
            return self._reader.poll(force, expected_id)
        except OtherDatabaseError:
            if self._state.table is not None or self._last_good.load() is not None:
                raise
        # There is no table that this one could be worse than.
        return self._reader.poll(force)

    def _restore(self) -> tuple[Loaded, _Diff] | None:
        snapshot = self._last_good.load()
        if snapshot is None:
            return None
        if self._state.leader:
            self._last_good.replace(snapshot)
        restored = self._reader.restore(snapshot)
        return restored, self._diff(restored.table)

    def _diff(self, table: RouteTable) -> _Diff:
        gone = tuple(key for key in list(self._state.route_states) if key not in table)
        boot = self._state.boot
        return _Diff(
            gone,
            checks_by_target(each for each in table.checked if not each.why_unavailable(boot)),
            sum(bool(each.why_unavailable(boot)) for each in table.managed),
        )

    # In the loop

    def _swap(self, loaded: Loaded, diff: _Diff) -> None:
        table = loaded.table
        before = self._state.table
        self._state.swap(table, diff.gone, diff.checks)
        self._drains.prune()
        metrics = self._state.metrics
        metrics.table_version = table.version
        metrics.table_routes = len(table)
        metrics.routes_invalid = len(loaded.problems)
        if self._state.leader:
            for problem in sorted(set(loaded.problems) - set(self._problems)):
                logger.warning("%s", problem)
            if before is None or before.version != table.version:
                logger.info("serving %d routes, version %d", len(table), table.version)
            if metrics.routes_unavailable != diff.unavailable:
                logger.info(
                    "%d routes are unavailable and answered 503; `fairlead route ls` says why",
                    diff.unavailable,
                )
        metrics.routes_unavailable = diff.unavailable
        self._problems = loaded.problems

    def _unreadable(self, error: str) -> None:
        self._state.metrics.reload_ok = False
        self._state.metrics.reloads["failed"] += 1
        if error != self.error:
            self.error = error
            if self._state.leader:
                goes_on = (
                    "no routes are served"
                    if self._state.table is None
                    else "the last routes stay in use"
                )
                logger.error("%s; %s", error, goes_on)

    def _readable(self) -> None:
        self._state.metrics.reload_ok = True
        if self.error is not None:
            self.error = None
            if self._state.leader:
                logger.warning("the route database is readable again")

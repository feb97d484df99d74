"""Owns the rows of leases: which subnet, and which port of this machine, is whose app's.

A resource is one app's at a time, and rests before it is another's: what still knows it by the
first one's name, such as a client's connection, is gone by then.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from orchestrator.store.database import Rows, shielded

# Seconds that a resource is nobody's after its app was removed.
REST: Final = 3600.0


class Lease(NamedTuple):
    """A resource that an app has, or had: `app` is empty since `released_at`, in Unix seconds."""

    app: str
    released_at: float


class Leases(Rows):
    """The leases of a database. A resource is a subnet ("10.213.0.0/27") or a port ("20000")."""

    async def held(self, app: str) -> list[str]:
        """What the app has, in the order in which it got it."""
        rows = await self._database.fetch_all(
            "SELECT resource FROM leases WHERE app = ? ORDER BY rowid", app
        )
        return [str(resource) for (resource,) in rows]

    async def holders(self) -> set[str]:
        """The apps that have something."""
        rows = await self._database.fetch_all("SELECT DISTINCT app FROM leases WHERE app != ''")
        return {str(app) for (app,) in rows}

    @shielded
    async def take(
        self, app: str, candidates: Iterable[str], is_free: Callable[[str], bool]
    ) -> str | None:
        """Lend the app one of the candidates; None if nothing is left.

        `is_free` is asked of those that are nobody's.
        """
        now = time.time()
        async with self._database.transaction() as connection:
            rows = await connection.execute_fetchall(
                "SELECT resource, app, released_at FROM leases"
            )
            known = {str(row[0]): Lease(str(row[1]), float(row[2])) for row in rows}
            resource = longest_unused(candidates, known, now, is_free)
            if resource is not None:
                await connection.execute(
                    "INSERT OR REPLACE INTO leases (resource, app, released_at) VALUES (?, ?, 0)",
                    (resource, app),
                )
        return resource

    @shielded
    async def release(self, app: str, resource: str | None = None) -> None:
        """The app needs it no more, or nothing of what it has."""
        async with self._database.transaction() as connection:
            await connection.execute(
                "UPDATE leases SET app = '', released_at = ?1"
                " WHERE app = ?2 AND resource = ifnull(?3, resource)",
                (time.time(), app, resource),
            )

    async def routed_hosts(self) -> set[str]:
        """What the routes point to, as "host:port"."""
        return set(await asyncio.to_thread(self._database.routes.all_targets))

    async def last_address(self, app: str) -> str:
        """The address that the newest container of the app was made with; empty for its first."""
        rows = await self._database.fetch_all(
            "SELECT address FROM deploys WHERE app = ? AND address != '' ORDER BY id DESC LIMIT 1",
            app,
        )
        return str(rows[0][0]) if rows else ""


def longest_unused(
    candidates: Iterable[str],
    known: Mapping[str, Lease],
    now: float,
    is_free: Callable[[str], bool],
) -> str | None:
    """The first that never was lent, else the one that was released first and has rested."""
    rested = []
    for order, resource in enumerate(candidates):
        lease = known.get(resource)
        if lease is None:
            if is_free(resource):
                return resource
        elif not lease.app and lease.released_at + REST <= now:
            rested.append((lease.released_at, order, resource))
    return next((resource for _, _, resource in sorted(rested) if is_free(resource)), None)

"""Owns which rows of the past may go: deliveries, deploys and their steps, by age and size.

Never the row of a deploy that is under way or live, nor of a release that somebody may go back to.
"""

import json
from collections.abc import Collection
from typing import Final, NamedTuple

from orchestrator.store.database import Rows, shielded

# Pages that one step gives back to the file system: 1 MiB, some milliseconds of the connection.
PAGES: Final = 256

# Of an app that is removed, nothing is gone back to.
_KEPT: Final = """
    state IN ('queued', 'running') OR app IN (SELECT name FROM apps) AND (
        state = 'live' OR state = 'retired' AND place < ?1
        OR id IN (SELECT live_deploy FROM apps WHERE live_deploy IS NOT NULL))
"""
# A row takes about 512 bytes beside its longer texts.
_DEPLOYS: Final = """
    WITH ended AS (
        SELECT id, app, state, coalesce(finished_at, created_at) AS ended_at,
            512 + length(error) + length(cutover) + coalesce((
                SELECT sum(length(s.error) + length(s.detail)) FROM deploy_steps s
                WHERE s.deploy = deploys.id), 0) AS size,
            row_number() OVER (
                PARTITION BY app, state IN ('live', 'retired') ORDER BY id DESC) - 1 AS place
        FROM deploys
    ), sized AS (SELECT *, sum(size) OVER (ORDER BY id DESC) AS total FROM ended)
"""


class Stage(NamedTuple):
    """What a build went through beside its image: `layer` is the last one of it, a short id."""

    layer: str
    app: str
    deploy: int
    ended_at: float


class History(Rows):
    """The past of a database. `keep` is how many releases of each app are kept."""

    async def old_deliveries(self, before: float, max_bytes: int, limit: int) -> dict[int, int]:
        """Bytes of each delivery that came before that time, or that the newer ones leave no room
        for; the oldest ones first, and at most `limit`."""
        return await self._sizes(
            """
            WITH sized AS (SELECT *, sum(size) OVER (ORDER BY id DESC) AS total FROM (
                SELECT id, received_at, decision, deploy,
                    512 + length(headers) + length(body) AS size FROM deliveries))
            SELECT id, size FROM sized
            WHERE (received_at < ? OR total > ?) AND decision != '' AND (deploy IS NULL OR deploy
                NOT IN (SELECT id FROM deploys WHERE state IN ('queued', 'running')))
            ORDER BY id LIMIT ?
            """,
            *(before, max_bytes, limit),
        )

    async def old_deploys(
        self, before: float, max_bytes: int, keep: int, limit: int
    ) -> dict[int, int]:
        """The same for the records of deploys, by when they ended."""
        return await self._sizes(
            f"{_DEPLOYS} SELECT id, size FROM sized"  # noqa: S608  names of ours
            f" WHERE (ended_at < ?2 OR total > ?3) AND NOT ({_KEPT}) ORDER BY id LIMIT ?4",
            *(keep, before, max_bytes, limit),
        )

    async def kept_deploys(self, keep: int) -> set[int]:
        """The deploys whose records and logs stay, however old and large they are."""
        rows = await self._database.fetch_all(
            f"{_DEPLOYS} SELECT id FROM sized WHERE {_KEPT}",  # noqa: S608  names of ours
            keep,
        )
        return {number for (number,) in rows}

    async def numbers(self) -> set[int]:
        """The deploys that there is a record of."""
        return {number for (number,) in await self._database.fetch_all("SELECT id FROM deploys")}

    async def stages(self) -> list[Stage]:
        """All stages of builds that ended well."""
        rows = await self._database.fetch_all(
            "SELECT stage.value, d.app, d.id, coalesce(d.finished_at, d.created_at)"
            " FROM deploy_steps s JOIN deploys d ON d.id = s.deploy,"
            " json_each(s.detail, '$.stages') stage WHERE s.step = 'build'"
        )
        return [Stage(*row) for row in rows]

    @shielded
    async def remove_deploys(self, numbers: Collection[int]) -> None:
        """Forget these deploys and their steps."""
        chosen = json.dumps([*numbers])
        async with self._database.transaction() as connection:
            for table, column in (("deploy_steps", "deploy"), ("deploys", "id")):
                await connection.execute(
                    f"DELETE FROM {table} WHERE {column} IN"  # noqa: S608  names of ours
                    " (SELECT value FROM json_each(?))",
                    (chosen,),
                )

    async def shrink(self) -> bool:
        """Give some pages of removed rows back to the file system; whether more are left.

        The checkpoint, which makes the file itself smaller, waits for nobody who reads.
        """
        ((free,),) = await self._database.fetch_all("PRAGMA freelist_count")
        if not free:
            return False
        await self._database.run(f"PRAGMA incremental_vacuum({PAGES})")
        await self._database.fetch_all("PRAGMA wal_checkpoint(PASSIVE)")
        ((left,),) = await self._database.fetch_all("PRAGMA freelist_count")
        return 0 < int(left) < int(free)

    async def _sizes(self, sql: str, *values: object) -> dict[int, int]:
        return dict(await self._database.fetch_all(sql, *values))

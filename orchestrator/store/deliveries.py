"""Owns the rows of webhook deliveries: what came, and what was decided about it."""

import time
from collections.abc import Collection, Mapping
from typing import Final

import orjson

from orchestrator.model import Delivery
from orchestrator.store.credentials import Credentials
from orchestrator.store.database import Database, Rows, id_limit, shielded

_COLUMNS: Final = tuple(Delivery.__dataclass_fields__)
_NAMES: Final = ", ".join(_COLUMNS)


# With the headers, under a name that no header can have (RFC 9110 section 5.1).
_CREDENTIALS: Final = ":credentials"


class Deliveries(Rows):
    """The webhook deliveries of a database."""

    def __init__(self, database: Database, credentials: Credentials) -> None:
        super().__init__(database)
        self._credentials = credentials

    @shielded
    async def add(
        self,
        provider: str,
        delivery_id: str,
        event: str,
        headers: Mapping[str, str],
        body: bytes,
        replay_of: int | None = None,
        credentials: str = "",
    ) -> tuple[Delivery, bool]:
        """Store a delivery; the first one of its id, and whether this is it.

        `credentials` are those of its clone URL, which neither headers nor body may have.
        """
        reference = await self._credentials.keep(credentials)
        if reference:
            headers = {**headers, _CREDENTIALS: reference}
        async with self._database.transaction() as connection:
            cursor = await connection.execute(
                "INSERT OR IGNORE INTO deliveries"
                " (provider, delivery_id, event, headers, body, received_at, replay_of)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    provider,
                    delivery_id,
                    event,
                    orjson.dumps(dict(headers)).decode(),
                    body,
                    time.time(),
                    replay_of,
                ),
            )
            is_new = cursor.rowcount == 1
        if not is_new:
            await self._credentials.forget([reference])
        rows = await self._select("WHERE provider = ? AND delivery_id = ?", provider, delivery_id)
        return rows[0], is_new

    @shielded
    async def set_decision(
        self, delivery: int, decision: str, reason: str, status: int, deploy: int | None = None
    ) -> None:
        """Record what was decided about a delivery."""
        async with self._database.transaction() as connection:
            await connection.execute(
                "UPDATE deliveries SET decision = ?, reason = ?, status = ?,"
                " deploy = coalesce(?, deploy) WHERE id = ?",
                (decision, reason, status, deploy, delivery),
            )

    async def credentials(self, delivery: Delivery) -> str:
        """Those of its clone URL; "" where none are kept."""
        return await self._credentials.get(delivery.headers.get(_CREDENTIALS, ""))

    async def references(self) -> list[str]:
        """Of the credentials that deliveries have."""
        rows = await self._database.fetch_all(
            "SELECT json_extract(headers, ?1) FROM deliveries"
            " WHERE json_extract(headers, ?1) IS NOT NULL",
            f'$."{_CREDENTIALS}"',
        )
        return [str(reference) for (reference,) in rows]

    @shielded
    async def remove(self, numbers: Collection[int]) -> None:
        """Forget these and their credentials; one that comes again is a new one."""
        async with self._database.transaction() as connection:
            removed = await connection.execute_fetchall(
                "DELETE FROM deliveries WHERE id IN (SELECT value FROM json_each(?1))"
                " RETURNING coalesce(json_extract(headers, ?2), '')",
                (orjson.dumps([*numbers]).decode(), f'$."{_CREDENTIALS}"'),
            )
        await self._credentials.forget([str(reference) for (reference,) in removed])

    async def page(self, limit: int = 50, before: int | None = None) -> list[Delivery]:
        """The newest deliveries, or those before the id `before`, newest first."""
        return await self._select("WHERE id < ? ORDER BY id DESC LIMIT ?", id_limit(before), limit)

    async def get(self, number: int) -> Delivery | None:
        """The delivery with that id, None if there is none."""
        return next(iter(await self._select("WHERE id = ?", number)), None)

    async def _select(self, where: str, *values: object) -> list[Delivery]:
        rows = await self._database.fetch_all(
            f"SELECT {_NAMES} FROM deliveries {where}",  # noqa: S608  names of ours
            *values,
        )
        found = []
        for row in rows:
            fields = dict(zip(_COLUMNS, row, strict=True))
            found.append(Delivery(**{**fields, "headers": orjson.loads(fields["headers"])}))
        return found

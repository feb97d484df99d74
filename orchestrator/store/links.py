"""Owns the rows of links: which app reaches which other one."""

from orchestrator.errors import RefusedError
from orchestrator.model import Link
from orchestrator.store.database import Rows, shielded


class Links(Rows):
    """The links of a database."""

    async def all(self) -> list[Link]:
        """All links, by the names of their apps."""
        rows = await self._database.fetch_all("SELECT app, target FROM app_links ORDER BY 1, 2")
        return [Link(str(app), str(target)) for app, target in rows]

    @shielded
    async def add(self, link: Link) -> None:
        """One that is there already stays. Raises RefusedError where an app of it is not there."""
        async with self._database.transaction() as connection:
            for app in link:
                rows = await connection.execute_fetchall(
                    "SELECT 1 FROM apps WHERE name = ?", (app,)
                )
                if not list(rows):
                    raise RefusedError(f"no such app: {app}", 404)
            await connection.execute("INSERT OR IGNORE INTO app_links VALUES (?, ?)", link)

    @shielded
    async def remove(self, link: Link) -> bool:
        """Forget it; whether it was there."""
        async with self._database.transaction() as connection:
            cursor = await connection.execute(
                "DELETE FROM app_links WHERE app = ? AND target = ?", link
            )
            return cursor.rowcount > 0

    @shielded
    async def remove_app(self, app: str) -> None:
        """Forget all of an app, in both directions."""
        async with self._database.transaction() as connection:
            await connection.execute("DELETE FROM app_links WHERE ? IN (app, target)", (app,))

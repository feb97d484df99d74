"""Owns the rows of the tokens of the API: their hashes, and what each is good for."""

import time
from collections.abc import Collection
from typing import Final

from edge.api.permission import Grant, Scope
from edge.api.token_form import hash_of, is_token
from orchestrator.errors import RefusedError
from orchestrator.model import Token
from orchestrator.store.database import Rows, shielded

# Seconds within which a token's use is noted once: a write for each request would be a disk's work.
_USE_INTERVAL: Final = 60.0

_COLUMNS: Final = "id, name, scopes, apps, created_at, expires_at, used_at"


class Tokens(Rows):
    """The tokens of a database."""

    async def all(self) -> list[Token]:
        """All that were not revoked, by name; expired ones, too."""
        rows = await self._database.fetch_all(f"SELECT {_COLUMNS} FROM tokens ORDER BY name")  # noqa: S608  names of ours
        return [_token(row) for row in rows]

    async def hashes(self) -> list[tuple[str, str, str, str, float | None]]:
        """Of all: hash, name, scopes and apps with spaces between, and when it expires."""
        rows = await self._database.fetch_all(
            "SELECT hash, name, scopes, apps, expires_at FROM tokens"
        )
        return [(str(a), str(b), str(c), str(d), e) for a, b, c, d, e in rows]

    async def find(self, token: str) -> Grant | None:
        """What it grants, None if it is none of ours or has expired. Its use is noted."""
        if not is_token(token):
            return None
        rows = await self._database.fetch_all(
            f"SELECT {_COLUMNS} FROM tokens WHERE hash = ?",  # noqa: S608  names of ours
            hash_of(token),
        )
        now = time.time()
        for found in map(_token, rows):
            if found.expires_at is not None and found.expires_at <= now:
                return None
            if found.used_at is None or abs(now - found.used_at) >= _USE_INTERVAL:
                await self._note_use(found.id, now)
            return Grant(f"token {found.name}", frozenset(found.scopes), frozenset(found.apps))
        return None

    @shielded
    async def add(
        self,
        name: str,
        token: str,
        scopes: Collection[Scope],
        apps: Collection[str],
        expires_at: float | None,
    ) -> None:
        """Keep the hash of a new one. Raises RefusedError where the name is taken."""
        async with self._database.transaction() as connection:
            cursor = await connection.execute(
                "INSERT INTO tokens (name, hash, scopes, apps, created_at, expires_at)"
                " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO NOTHING",
                (
                    name,
                    hash_of(token),
                    " ".join(sorted(scopes)),
                    " ".join(sorted(apps)),
                    time.time(),
                    expires_at,
                ),
            )
            if cursor.rowcount == 0:
                raise RefusedError(
                    f"there is a token {name}: choose another name, or revoke it first"
                    f" (`fairlead tokens revoke {name}`)",
                    409,
                )

    @shielded
    async def remove(self, name: str) -> bool:
        """From now on it grants nothing; whether there was one."""
        async with self._database.transaction() as connection:
            cursor = await connection.execute("DELETE FROM tokens WHERE name = ?", (name,))
            return cursor.rowcount > 0

    @shielded
    async def _note_use(self, number: int, now: float) -> None:
        async with self._database.transaction() as connection:
            await connection.execute("UPDATE tokens SET used_at = ? WHERE id = ?", (now, number))


def _token(row: tuple[object, ...]) -> Token:
    number, name, scopes, apps, created_at, expires_at, used_at = row
    return Token(
        id=int(str(number)),
        name=str(name),
        scopes=tuple(Scope(word) for word in str(scopes).split()),
        apps=tuple(str(apps).split()),
        created_at=float(str(created_at)),
        expires_at=None if expires_at is None else float(str(expires_at)),
        used_at=None if used_at is None else float(str(used_at)),
    )

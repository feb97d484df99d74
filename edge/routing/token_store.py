"""Owns the table of the named tokens that the edge's admin API takes, beside the routes on disk.

The orchestrator makes and revokes them in a database that the edge cannot read, and keeps a copy
of their hashes here. Whoever may write here can change every route anyhow.
"""

import sqlite3
from collections.abc import Iterable
from typing import Final, NamedTuple

_SCHEMA: Final = """
    CREATE TABLE IF NOT EXISTS proxy_tokens
        (hash TEXT PRIMARY KEY, name TEXT NOT NULL, scopes TEXT NOT NULL, apps TEXT NOT NULL,
         expires_at REAL)
"""
# As these types, whatever another program has written.
_TOKENS: Final = """
    SELECT CAST(hash AS TEXT), CAST(name AS TEXT), CAST(scopes AS TEXT), CAST(apps AS TEXT),
        CAST(expires_at AS REAL)
    FROM proxy_tokens WHERE hash || name || scopes || apps IS NOT NULL
"""
_HAS_TOKENS: Final = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'proxy_tokens'"


class StoredToken(NamedTuple):
    """What is stored of a token. Scopes and apps have spaces between, `expires_at` is Unix time."""

    hash: str
    name: str
    scopes: str
    apps: str
    expires_at: float | None


def read_tokens(connection: sqlite3.Connection) -> set[StoredToken]:
    """All of a database; none where there never were any."""
    if connection.execute(_HAS_TOKENS).fetchone() is None:
        return set()
    rows = connection.execute(_TOKENS)
    return {StoredToken(*row) for row in rows}


def replace_tokens(connection: sqlite3.Connection, tokens: Iterable[StoredToken]) -> None:
    """These and no others, as part of the caller's transaction."""
    connection.execute(_SCHEMA)
    connection.execute("DELETE FROM proxy_tokens")
    connection.executemany("INSERT INTO proxy_tokens VALUES (?, ?, ?, ?, ?)", tokens)

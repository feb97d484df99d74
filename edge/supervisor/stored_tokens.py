"""Owns what the admin API knows of the named tokens: those beside the routes, as read last."""

import asyncio
import logging
import sqlite3
import time
from collections.abc import Collection
from contextlib import closing
from pathlib import Path
from typing import Final

from edge.api.permission import Grant, parse_scopes
from edge.api.token_form import hash_of, is_token
from edge.errors import StoreError
from edge.routing.opening import connect
from edge.routing.store import store_error
from edge.routing.token_store import StoredToken, read_tokens

READ_TIMEOUT: Final = 1.0  # seconds that a request waits for whoever writes

logger = logging.getLogger(__name__)


class StoredTokens:
    """The tokens of the database at `path`, as `edge.api.access.Access` asks for them.

    Where the database cannot be read, those of the last time count: a scrape goes on.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last_read: Collection[StoredToken] = ()
        self._fault = ""

    async def find(self, token: str) -> Grant | None:
        """What it grants; None if it is none of them, or has expired."""
        if not is_token(token):
            return None
        await asyncio.to_thread(self._read)
        wanted = hash_of(token)
        for stored in self._last_read:
            # A hash tells nothing of its token, so neither does the time that comparing takes.
            if stored.hash == wanted:
                return _grant(stored)
        return None

    def _read(self) -> None:
        try:
            with closing(connect(self._path, "mode=ro", READ_TIMEOUT)) as connection:
                self._last_read = read_tokens(connection)
            self._fault = ""
        except StoreError as error:
            self._report(error)
        except sqlite3.Error as error:
            self._report(store_error(self._path, error))

    def _report(self, error: StoreError) -> None:
        if str(error) != self._fault:
            self._fault = str(error)
            logger.warning("tokens are as they were read last: %s", error)


def _grant(stored: StoredToken) -> Grant | None:
    if stored.expires_at is not None and stored.expires_at <= time.time():
        return None
    try:
        scopes = parse_scopes(stored.scopes.split())
    except ValueError as error:
        logger.warning("token %s is not taken: %s", stored.name, error)
        return None
    return Grant(f"token {stored.name}", scopes, frozenset(stored.apps.split()))

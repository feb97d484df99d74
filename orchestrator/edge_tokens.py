"""Owns the copy of the tokens that the edge reads: it follows the store, whatever happens to it."""

import asyncio
import logging
from typing import Final

from edge.errors import StoreError
from edge.routing.store_writer import RouteWriter
from edge.routing.token_store import StoredToken
from orchestrator.store.tokens import Tokens

# Seconds. A backup of the routes that is put back brings revoked tokens with it for that long.
INTERVAL: Final = 30.0
# While there is no database to copy them to: the first route, whoever sets it, makes one.
ABSENT_INTERVAL: Final = 1.0

logger = logging.getLogger(__name__)


class EdgeTokens:
    """Writes the tokens of the store beside the routes of `routes`."""

    def __init__(self, tokens: Tokens, routes: RouteWriter) -> None:
        self._tokens = tokens
        self._routes = routes
        self._task: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._fault = ""

    async def copy(self) -> bool:
        """Make the copy what the store has; whether there is a database for it yet.

        Raises StoreError; it is tried again.
        """
        # A copy that was read before a change must not be written after it.
        async with self._turn:
            tokens = [StoredToken(*row) for row in await self._tokens.hashes()]
            return await asyncio.to_thread(self._routes.replace_tokens, tokens)

    def start(self) -> None:
        """Copy now, when the database of the routes appears, and every INTERVAL seconds, until
        `stop`."""
        self._task = asyncio.get_running_loop().create_task(self._follow())

    async def stop(self) -> None:
        """Copy no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            pause = INTERVAL
            try:
                if not await self.copy():
                    pause = ABSENT_INTERVAL
                self._fault = ""
            except StoreError as error:
                if str(error) != self._fault:
                    self._fault = str(error)
                    logger.warning("the edge knows the tokens of before: %s", error)
            await asyncio.sleep(pause)

"""Owns what goes on beside the supervisor's life, such as a reload that a signal asked for."""

import asyncio
import logging
from collections.abc import Awaitable

from edge.errors import FairleadError

logger = logging.getLogger(__name__)


class Background:
    """Work that nobody waits for; its errors are logged."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[object]] = set()

    def start(self, work: Awaitable[object]) -> None:
        async def logged() -> None:
            try:
                await work
            except FairleadError as error:
                logger.error("%s", error)

        task: asyncio.Task[object] = asyncio.create_task(logged())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

"""Owns the store of the tests: opened, used and closed; and a push to it."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from orchestrator.model import DeployRequest
from orchestrator.store.store import Store


def request(app: str = "app", **fields: Any) -> DeployRequest:
    """A push to the repository of `app`."""
    given: dict[str, Any] = {
        "app": app,
        "provider": "github",
        "repository": f"team/{app}",
        "clone_url": f"https://git.test/team/{app}.git",
        "branch": "main",
        "commit": "a" * 40,
    }
    return DeployRequest(**{**given, **fields})


def state_of(db: Path) -> Path:
    """Where the state is that stands beside the routes of `db`."""
    return db.with_suffix(".state.db")


def in_store(path: Path, use: Callable[[Store], Awaitable[None]]) -> None:
    """Open the store beside the routes' database `path`, use it, close it."""

    async def opened() -> None:
        store = await Store.open(state_of(path), path)
        try:
            await use(store)
        finally:
            await store.close()

    asyncio.run(opened())

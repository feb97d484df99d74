"""Owns the last step: the old container is stopped, and goes; so does the clone."""

import asyncio
import time

from orchestrator.deploy import Step
from orchestrator.steps import clone
from orchestrator.steps.work import Detail, Work


async def do(work: Work) -> Detail:
    """SIGTERM, a grace period, SIGKILL, removal: for all containers of the app but the new one."""
    # While the engine works: it takes some 200 ms to end a container, a clone of any size its own.
    removing_clone = asyncio.create_task(clone.undo(work))
    try:
        return await _end_old(work)
    finally:
        await removing_clone


async def undo(work: Work) -> None:
    """There is no way back from here."""


async def _end_old(work: Work) -> Detail:
    engine, deploy = work.world.engine, work.deploy
    removed = []
    stopping = 0.0
    for container in await engine.containers(deploy.app):
        if container.deploy != deploy.id:
            begun = time.monotonic()
            await engine.stop(container.id, work.world.settings.stop_timeout)
            stopping += time.monotonic() - begun
            await engine.remove(container.id)
            removed.append(container.id)
            work.says(Step.RETIRE, f"container {container.name} is stopped and removed")
    return {"removed": removed, "stopping_s": round(stopping, 3)}

"""Owns the last step: the old container is stopped, and goes; so does the clone."""

import asyncio
import time
from collections.abc import Sequence

from orchestrator.deploy import Step
from orchestrator.docker_engine import Container
from orchestrator.steps import clone
from orchestrator.steps.work import Detail, Work


async def do(work: Work) -> Detail:
    """SIGTERM, a grace period, SIGKILL, removal: for all containers of the app but the new one."""
    listed = await work.world.engine.containers(work.deploy.app)
    # While the engine works: it takes some 200 ms to end a container, a clone of any size its own.
    removing_clone = asyncio.create_task(clone.undo(work))
    try:
        return await _end(work, [each for each in listed if each.deploy != work.deploy.id])
    finally:
        await removing_clone


async def undo(work: Work) -> None:
    """There is no way back from here."""


async def _end(work: Work, containers: Sequence[Container]) -> Detail:
    engine = work.world.engine
    stopping = 0.0
    for container in containers:
        begun = time.monotonic()
        await engine.stop(container.id, work.world.settings.stop_timeout)
        stopping += time.monotonic() - begun
        await engine.remove(container)
        work.says(Step.RETIRE, f"container {container.name} is stopped and removed")
    removed = [container.id for container in containers]
    return {"removed": removed, "stopping_s": round(stopping, 3)}

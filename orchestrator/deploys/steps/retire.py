"""Owns the last step: the old container is stopped, and goes; so does the clone."""

import asyncio
import time
from collections.abc import Sequence

from orchestrator.deploys.context import DeployContext, Detail
from orchestrator.deploys.steps import clone
from orchestrator.engine.container import Container
from orchestrator.model import Step


async def do(context: DeployContext) -> Detail:
    """SIGTERM, a grace period, SIGKILL, removal: for all containers of the app but the new one.

    That one the engine keeps running from now on.
    """
    await context.services.engine.enable_restarts(context.deploy.container_id)
    listed = await context.services.engine.containers(context.deploy.app)
    # While the engine works: it takes some 200 ms to end a container, a clone of any size its own.
    removing_clone = asyncio.create_task(clone.undo(context))
    try:
        return await _stop_and_remove(
            context, [each for each in listed if each.deploy != context.deploy.id]
        )
    finally:
        await removing_clone


async def undo(context: DeployContext) -> None:
    """There is no way back from here."""


async def _stop_and_remove(context: DeployContext, containers: Sequence[Container]) -> Detail:
    engine = context.services.engine
    stopping = 0.0
    for container in containers:
        begun = time.monotonic()
        await engine.stop(container.id, context.services.settings.stop_timeout)
        stopping += time.monotonic() - begun
        await engine.remove(container)
        context.write_log(Step.RETIRE, f"stopped and removed container {container.name}")
    removed = [container.id for container in containers]
    return {"removed": removed, "stop_duration_s": round(stopping, 3)}

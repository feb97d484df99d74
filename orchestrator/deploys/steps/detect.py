"""Owns the second step: what kind of app the tree is."""

import asyncio

from orchestrator.deploys.context import DeployContext, Detail
from orchestrator.model import Step
from orchestrator.source.detect import detect
from orchestrator.source.tree import read_tree


async def do(context: DeployContext) -> Detail:
    """Look at the tree."""
    found = detect(await asyncio.to_thread(read_tree, context.source))
    context.detection = found
    context.deploy.runtime = found.runtime
    context.write_log(Step.DETECT, f"{found.runtime}: {'; '.join(found.evidence)}")
    return {"runtime": found.runtime, "evidence": list(found.evidence)}


async def undo(context: DeployContext) -> None:
    """It leaves nothing."""

"""Owns the second step: what kind of app the tree is."""

from orchestrator.deploys.context import DeployContext, Detail
from orchestrator.model import Step
from orchestrator.source import fetch_rules
from orchestrator.source.fetches import Fetch
from orchestrator.source.reader import detect


async def do(context: DeployContext) -> Detail:
    """Look at the tree, and whether the engine may fetch what its Dockerfile names."""
    settings = context.services.settings
    found = await detect(context.source)
    await fetch_rules.check(
        [Fetch(**each) for each in found.options.get("fetches", ())],
        allowed=settings.build_fetch,
        image_prefix=settings.image_prefix,
        app=context.deploy.app,
    )
    context.detection = found
    context.deploy.runtime = found.runtime
    context.write_log(Step.DETECT, f"{found.runtime}: {'; '.join(found.evidence)}")
    return {"runtime": found.runtime, "evidence": list(found.evidence)}


async def undo(context: DeployContext) -> None:
    """It leaves nothing."""

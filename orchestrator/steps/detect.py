"""Owns the second step: what kind of app the tree is."""

import asyncio

from orchestrator.deploy import Step
from orchestrator.detector import detect
from orchestrator.steps.work import Detail, Work
from orchestrator.tree import read_tree


async def do(work: Work) -> Detail:
    """Look at the tree."""
    found = detect(await asyncio.to_thread(read_tree, work.source))
    work.detection = found
    work.deploy.runtime = found.runtime
    work.says(Step.DETECT, f"{found.runtime}: {'; '.join(found.evidence)}")
    return {"runtime": found.runtime, "evidence": list(found.evidence)}


async def undo(work: Work) -> None:
    """It leaves nothing."""

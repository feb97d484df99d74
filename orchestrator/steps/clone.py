"""Owns the first step: the commit of the push, in a folder of the deploy's own."""

import asyncio
import contextlib
import shutil

from orchestrator.deploy import Step
from orchestrator.git import Source
from orchestrator.steps.work import Detail, Work


async def do(work: Work) -> Detail:
    """Fetch exactly the commit. Where only a branch is known, its tip becomes the commit."""
    deploy = work.deploy
    await undo(work)
    await asyncio.to_thread(work.folder.mkdir, mode=0o700, parents=True)
    dirty = await work.world.git.dirty_files(deploy.clone_url) if deploy.allow_file else 0
    if dirty:
        work.says(
            Step.CLONE,
            f"warning: the repository has {dirty} uncommitted changes, which are not deployed",
        )
        work.notes.append(
            f"local repository working tree has uncommitted changes; build will use HEAD only"
            f" (dirty_files={dirty})"
        )
    source = Source(
        url=deploy.clone_url,
        credentials=deploy.credentials,
        branch=deploy.branch,
        commit=deploy.commit,
        allow_file=deploy.allow_file,
    )
    deploy.commit = await work.world.git.clone(
        source, work.source, lambda line: work.says(Step.CLONE, line)
    )
    return {"commit": deploy.commit}


async def undo(work: Work) -> None:
    """Remove the folder."""
    with contextlib.suppress(FileNotFoundError):
        await asyncio.to_thread(shutil.rmtree, work.folder)

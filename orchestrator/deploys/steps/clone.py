"""Owns the first step: the commit of the push, in a folder of the deploy's own."""

import asyncio
import contextlib
import shutil

from orchestrator.deploys.context import DeployContext, Detail
from orchestrator.model import Step
from orchestrator.source.git_commands import Source


async def do(context: DeployContext) -> Detail:
    """Fetch exactly the commit. Where only a branch is known, its tip becomes the commit."""
    deploy = context.deploy
    await undo(context)
    await asyncio.to_thread(context.folder.mkdir, mode=0o700, parents=True)
    dirty = await context.services.git.dirty_files(deploy.clone_url) if deploy.allow_file else 0
    if dirty:
        context.write_log(
            Step.CLONE,
            f"warning: the repository has {dirty} uncommitted changes, which are not deployed",
        )
        context.warnings.append(
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
    deploy.commit = await context.services.git.clone(
        source, context.source, lambda line: context.write_log(Step.CLONE, line)
    )
    return {"commit": deploy.commit}


async def undo(context: DeployContext) -> None:
    """Remove the folder."""
    with contextlib.suppress(FileNotFoundError):
        await asyncio.to_thread(shutil.rmtree, context.folder)

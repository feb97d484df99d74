"""Owns the third step: an image of the commit."""

import asyncio
import hashlib
import time
from typing import Final

from orchestrator.deploys.context import DeployContext, Detail
from orchestrator.engine.container import LABEL_APP, LABEL_DEPLOY, LABEL_INSTANCE, LABEL_MANAGED
from orchestrator.errors import StepError
from orchestrator.model import Step
from orchestrator.source import reader
from orchestrator.source.build_context import dockerfile_name
from orchestrator.source.detect import Detection
from orchestrator.source.dockerfile import render
from orchestrator.source.fetches import check_triggers

SHORT_COMMIT: Final = 7  # digits of a commit in a tag


async def do(context: DeployContext) -> Detail:
    """Build it, from the repository's Dockerfile or a generated one."""
    deploy, settings = context.deploy, context.services.settings
    assert context.detection is not None  # noqa: S101  the step before leaves it
    written = context.detection.runtime == "dockerfile"
    text = None if written else render(context.detection)
    deploy.image_tag = image_tag(settings.image_prefix, deploy.app, deploy.commit, time.time())
    if written:
        await _check_base_images(context, context.detection)
    name = await asyncio.to_thread(dockerfile_name, context.source, generated=not written)
    await context.save()  # A kill from here on leaves an image of this name, or none.

    def say(line: str) -> None:
        context.write_log(Step.BUILD, line)

    built = await context.services.engine.build(
        reader.context(
            context.source, dockerfile=text, max_bytes=settings.git_max_bytes, on_warning=say
        ),
        tag=deploy.image_tag,
        dockerfile=name,
        labels={
            LABEL_MANAGED: "true",
            LABEL_APP: deploy.app,
            LABEL_DEPLOY: str(deploy.id),
            LABEL_INSTANCE: context.services.instance,
        },
        memory=settings.build_memory,
        cpus=settings.build_cpus,
        timeout=settings.build_timeout,
        on_line=say,
    )
    deploy.image_id = built.id
    exposed = await context.services.engine.image_port(deploy.image_id) if written else None
    deploy.port = exposed or context.detection.port
    deploy.release = release_of(deploy.image_id, deploy.port)
    return {
        "image_tag": deploy.image_tag,
        "image_id": deploy.image_id,
        "port": deploy.port,
        "stages": list(built.stages),
    }


async def _check_base_images(context: DeployContext, detection: Detection) -> None:
    limit = context.services.settings.build_timeout
    try:
        async with asyncio.timeout(limit):
            named = {(each["image"], each["platform"]) for each in detection.options["fetches"]}
            for image, platform in sorted(named):
                if image:
                    found = await context.services.engine.triggers(image, platform)
                    check_triggers(image, found)
    except TimeoutError:
        raise StepError(
            "build_timeout",
            f"fetching the base images timed out after {limit:g} s: raise FAIRLEAD_BUILD_TIMEOUT if"
            " it needs longer",
        ) from None


async def undo(context: DeployContext) -> None:
    """Remove the image; what other images share with it stays."""
    if context.deploy.image_tag:
        await context.services.engine.remove_image(context.deploy.image_tag)


def image_tag(prefix: str, app: str, commit: str, now: float) -> str:
    """PREFIX/APP:YYYYmmdd-HHMMSS-COMMIT, in UTC."""
    moment = time.strftime("%Y%m%d-%H%M%S", time.gmtime(now))
    return f"{prefix}/{app}:{moment}-{commit[:SHORT_COMMIT]}"


def release_of(image_id: str, port: int) -> str:
    """A name for what runs: the same image with the same configuration has the same one."""
    return hashlib.sha256(f"{image_id} PORT={port}".encode()).hexdigest()[:12]

"""Owns the fourth step: a container of the image, beside the one that serves."""

from dataclasses import replace

from orchestrator.deploy import Step
from orchestrator.docker_engine import Container, ContainerSpec, Engine
from orchestrator.errors import StepError
from orchestrator.steps.work import Detail, Work


async def do(work: Work) -> Detail:
    """Create it, note its id, start it. The container that serves is not touched."""
    deploy, world = work.deploy, work.world
    await world.engine.ensure_network(world.settings.network)
    # Numbers begin anew with a new database, while containers of an old one may be left.
    name = f"{world.settings.image_prefix}-{deploy.app}-{deploy.id}-{world.instance[:4]}"
    deploy.container_name = name.replace("/", "-")
    created = await create(
        world.engine,
        ContainerSpec(
            name=deploy.container_name,
            image=deploy.image_id,
            app=deploy.app,
            deploy=deploy.id,
            release=deploy.release,
            network=world.settings.network,
            port=deploy.port,
            env={"PORT": str(deploy.port)},
            memory=world.settings.memory,
            cpus=world.settings.cpus,
            bind_docker_sock=world.settings.bind_docker_sock,
        ),
        deploy.image_tag,
    )
    deploy.container_id = created.id
    await work.save()
    await world.engine.start(created.id)
    work.says(Step.START, f"container {deploy.container_name} ({created.id[:12]}) is started")
    return {"container_id": created.id, "container_name": deploy.container_name}


async def create(engine: Engine, spec: ContainerSpec, tag: str) -> Container:
    """Of the image `spec.image`, an id; by its `tag` if that still is its own.

    What a container is made from is what `docker ps` shows, and an id says nothing to anybody.
    """
    try:
        created = await engine.create(replace(spec, image=tag))
    except StepError:
        pass  # The tag may be gone. Any other cause meets the id as well, and is raised there.
    else:
        if created.image_id == spec.image:
            return created
        await engine.remove(created)
    return await engine.create(spec)


async def undo(work: Work) -> None:
    """Remove every container of this deploy, also one whose id was never noted."""
    for container in await work.world.engine.containers(work.deploy.app):
        if container.deploy == work.deploy.id:
            await work.world.engine.remove(container)
    work.deploy.container_id = ""
    work.deploy.target = ""

"""Owns the fourth step: a container of the image, beside the one that serves."""

from orchestrator.deploy import Step
from orchestrator.docker_engine import ContainerSpec
from orchestrator.steps.work import Detail, Work


async def do(work: Work) -> Detail:
    """Create it, note its id, start it. The container that serves is not touched."""
    deploy, world = work.deploy, work.world
    await world.engine.ensure_network(world.settings.network)
    # Numbers begin anew with a new database, while containers of an old one may be left.
    name = f"{world.settings.image_prefix}-{deploy.app}-{deploy.id}-{world.instance[:4]}"
    deploy.container_name = name.replace("/", "-")
    created = await world.engine.create(
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
        )
    )
    deploy.container_id = created.id
    await work.save()
    await world.engine.start(created.id)
    work.says(Step.START, f"container {deploy.container_name} ({created.id[:12]}) is started")
    return {"container_id": created.id, "container_name": deploy.container_name}


async def undo(work: Work) -> None:
    """Remove every container of this deploy, also one whose id was never noted."""
    for container in await work.world.engine.containers():
        if container.deploy == work.deploy.id:
            await work.world.engine.remove(container.id)
    work.deploy.container_id = ""
    work.deploy.target = ""

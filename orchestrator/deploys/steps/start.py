"""Owns the fourth step: a container of the image, beside the one that serves."""

from dataclasses import replace

from orchestrator.deploys.context import DeployContext, DeployServices, Detail
from orchestrator.engine.container import Container, ContainerSpec
from orchestrator.engine.engine import Engine
from orchestrator.errors import StepError
from orchestrator.model import Deploy, Step


async def do(context: DeployContext) -> Detail:
    """Create it, note its id, start it. The container that serves is not touched."""
    deploy, services = context.deploy, context.services
    # Numbers begin anew with a new database, while containers of an old one may be left.
    name = f"{services.settings.image_prefix}-{deploy.app}-{deploy.id}-{services.instance[:4]}"
    deploy.container_name = name.replace("/", "-")
    created = await place_container(services, deploy)
    await context.save()
    await services.engine.start(created.id)
    context.write_log(
        Step.START,
        f"started container {deploy.container_name} ({created.id[:12]}) at {created.target}",
    )
    return {
        "container_id": created.id,
        "container_name": deploy.container_name,
        "target": created.target,
    }


async def place_container(services: DeployServices, deploy: Deploy) -> Container:
    """Of the image of the deploy, in a place of its own; `deploy` says where and which afterwards.

    Raises StepError.
    """
    await services.networks.place(deploy)
    read_only = await services.apps.is_read_only(
        deploy.app, default=services.settings.container_read_only
    )
    created = await create_container(
        services.engine,
        ContainerSpec(
            name=deploy.container_name,
            image=deploy.image_id,
            app=deploy.app,
            deploy=deploy.id,
            release=deploy.release,
            network=services.networks.name(deploy.app),
            address=deploy.address,
            port=deploy.port,
            env={"PORT": str(deploy.port)},
            memory=services.settings.memory,
            cpus=services.settings.cpus,
            host_port=deploy.host_port,
            bind_docker_sock=services.settings.bind_docker_sock,
            read_only=read_only,
            tmp_size=services.settings.container_tmp_size,
            disk_size=services.settings.container_disk,
        ),
        deploy.image_tag,
    )
    deploy.container_id = created.id
    # What it needs to start may be another app; its own name is for a healthy one.
    await services.links.join(created.id, serves=False)
    return created


async def create_container(engine: Engine, spec: ContainerSpec, tag: str) -> Container:
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


async def undo(context: DeployContext) -> None:
    """Remove every container of this deploy, also one whose id was never noted."""
    for container in await context.services.engine.containers(context.deploy.app):
        if container.deploy == context.deploy.id:
            await context.services.engine.remove(container)
    context.deploy.container_id = ""
    context.deploy.target = ""

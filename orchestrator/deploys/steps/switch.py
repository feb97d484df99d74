"""Owns the sixth step, the one commit point: the routes move, and every worker says that it knows.

Until the route is written a deploy can be undone without anybody noticing; afterwards it goes
forward, or the old route is restored in the same acknowledged way.
"""

import asyncio
from collections.abc import Mapping
from types import MappingProxyType

from edge.boot import boot_id
from orchestrator.deploys.context import UNACKNOWLEDGED_WAIT, DeployContext, Detail
from orchestrator.errors import StepError
from orchestrator.model import Step


async def do(context: DeployContext) -> Detail:
    """Point all domains of the app to the new container; wait for every worker."""
    deploy, services = context.deploy, context.services
    container, old, stored = await asyncio.gather(
        services.engine.inspect(deploy.container_id),
        old_address(context),
        asyncio.to_thread(services.routes.targets, deploy.domains),
    )
    address = container.target if container and container.is_running else None
    if address is None:
        raise StepError("container_gone", "the new container is no longer running")
    if deploy.target not in stored.values():
        # Of a domain that an operator gives to the app, what the route pointed to before.
        deploy.old_target = old or next(filter(None, stored.values()), "")
        context.displaced_targets = {
            domain: target for domain, target in stored.items() if target != old
        }
    deploy.target = address
    await context.save()
    # It may be that of a container of the app that was drained away, many deploys ago.
    await services.edge.undrain(address)
    return await _point_routes(context, dict.fromkeys(deploy.domains, address))


async def undo(context: DeployContext) -> None:
    """Point them back to where they were, and wait for that."""
    deploy, services = context.deploy, context.services
    if not await is_switched(context):
        return
    # An old container that does not run now is reached there again once it does.
    old = await old_address(context) or deploy.old_target or None
    if old is not None:
        for target in old.split(","):
            await services.edge.undrain(target)
    # Where nothing was served before, there is no route again.
    await _point_routes(context, dict.fromkeys(deploy.domains, old), context.displaced_targets)
    context.write_log(Step.SWITCH, f"routes restored to {old or 'none'}")


async def is_switched(context: DeployContext) -> bool:
    """Whether a route points to the new container: the commit point is passed."""
    deploy = context.deploy
    if not deploy.target:
        return False
    stored = await asyncio.to_thread(context.services.routes.targets, deploy.domains)
    return deploy.target in stored.values()


async def old_address(context: DeployContext) -> str | None:
    """Where the container that served before is now, if it runs."""
    if not context.deploy.old_container_id:
        return None
    old = await context.services.engine.inspect(context.deploy.old_container_id)
    if old is None or not old.is_running:
        return None
    return old.target


async def _point_routes(
    context: DeployContext,
    targets: Mapping[str, str | None],
    displaced: Mapping[str, str | None] = MappingProxyType({}),
) -> Detail:
    """`displaced` are an operator's, which nobody has to confirm after a restart."""
    deploy, services = context.deploy, context.services
    ours = {domain: target for domain, target in targets.items() if domain not in displaced}
    async with services.routes_lock:
        version = await asyncio.to_thread(services.routes.retarget, ours, boot_id())
        if displaced:
            version = await asyncio.to_thread(services.routes.retarget, displaced)
    deploy.route_version = version
    begun = asyncio.get_running_loop().time()
    answer = await services.edge.reload(version)
    if answer is None:
        context.write_log(
            Step.SWITCH,
            f"no edge is running at {services.edge.path}: routes are saved, but not served yet",
        )
        await services.pause(UNACKNOWLEDGED_WAIT)
        return {"route_version": version, "workers": 0, "acknowledged": False}
    seconds = round(asyncio.get_running_loop().time() - begun, 3)
    context.write_log(
        Step.SWITCH,
        f"{answer['workers']} workers acknowledged route version {version} after {seconds:g} s",
    )
    return {
        "route_version": version,
        "workers": answer["workers"],
        "acknowledged": True,
        "acknowledged_after_s": seconds,
    }

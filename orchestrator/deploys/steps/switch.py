"""Owns the sixth step, the one commit point: the routes move, and every worker says that it knows.

Until the route is written a deploy can be undone without anybody noticing; afterwards it goes
forward, or the old route is restored in the same acknowledged way.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

from edge.boot import boot_id
from edge.routing.store_writer import StoredRoute
from orchestrator.deploys.context import UNACKNOWLEDGED_WAIT, DeployContext, Detail
from orchestrator.errors import StepError
from orchestrator.model import Deploy, Step

# Why a route answers 503 after a deploy that failed.
NOTHING_BEFORE: Final = "deploy {number} failed, and nothing was live before it"
NOT_RUNNING: Final = "container of before deploy {number}, which failed, does not run"


async def do(context: DeployContext) -> Detail:
    """Point all domains of the app to the new container; wait for every worker."""
    deploy, services = context.deploy, context.services
    container, old, stored = await asyncio.gather(
        services.engine.inspect(deploy.container_id),
        old_address(context),
        asyncio.to_thread(services.routes.routes, deploy.domains),
    )
    address = container.target if container and container.is_running else None
    if address is None:
        raise StepError("container_gone", "the new container is no longer running")
    if not _points_to(deploy, stored):
        # Of a domain that an operator gives to the app, what the route pointed to before. That of
        # an app that was removed is managed, and leads to nobody any more.
        deploy.old_target = old or next(
            (
                route.target
                for route in stored.values()
                if route and (deploy.old_container_id or not (route.boot or route.unavailable))
            ),
            "",
        )
        context.displaced = {
            domain: route
            for domain, route in stored.items()
            if route is None or route.target != old
        }
    deploy.target = address
    await context.save()
    await services.links.join(deploy.container_id, serves=True)
    # It may be that of a container of the app that was drained away, many deploys ago.
    await services.edge.undrain(address)
    return await _point_routes(
        context, dict.fromkeys(deploy.domains, StoredRoute(address, boot_id(), ""))
    )


async def undo(context: DeployContext) -> None:
    """Point them back to where they were, and wait for that; no route or rule of one is lost."""
    deploy, services = context.deploy, context.services
    if not await is_switched(context):
        return
    running = await old_address(context)
    if running is not None:
        before = StoredRoute(running, boot_id(), "")
    elif deploy.old_container_id:
        # It is reached there again once it runs.
        why = NOT_RUNNING.format(number=deploy.id)
        before = StoredRoute(deploy.old_target or deploy.target, boot_id(), why)
    elif deploy.old_target:
        # An operator's, which nobody has to confirm after a restart.
        before = StoredRoute(deploy.old_target, "", "")
    else:
        before = _withdrawn(deploy)
    if not before.unavailable:
        for target in before.target.split(","):
            await services.edge.undrain(target)
    displaced = {domain: route or _withdrawn(deploy) for domain, route in context.displaced.items()}
    await _point_routes(context, dict.fromkeys(deploy.domains, before) | displaced)
    done = f"restored to {before.target}"
    if before.unavailable:
        done = f"withdrawn: {before.unavailable}"
    context.write_log(Step.SWITCH, f"routes {done}")


async def is_switched(context: DeployContext) -> bool:
    """Whether a route points to the new container: the commit point is passed."""
    deploy = context.deploy
    if not deploy.target:
        return False
    return _points_to(
        deploy, await asyncio.to_thread(context.services.routes.routes, deploy.domains)
    )


def _points_to(deploy: Deploy, stored: Mapping[str, StoredRoute | None]) -> bool:
    """Not by a route that is withdrawn: it may name an address that the new container has now."""
    return any(
        route is not None and route.target == deploy.target and not route.unavailable
        for route in stored.values()
    )


def _withdrawn(deploy: Deploy) -> StoredRoute:
    """The route of a domain that had none before: it is not for a wider route to take."""
    return StoredRoute(deploy.target, boot_id(), NOTHING_BEFORE.format(number=deploy.id))


async def old_address(context: DeployContext) -> str | None:
    """Where the container that served before is now, if it runs."""
    if not context.deploy.old_container_id:
        return None
    old = await context.services.engine.inspect(context.deploy.old_container_id)
    if old is None or not old.is_running:
        return None
    return old.target


async def _point_routes(context: DeployContext, routes: Mapping[str, StoredRoute]) -> Detail:
    deploy, services = context.deploy, context.services
    async with services.routes_lock:
        version = await asyncio.to_thread(services.routes.restore, routes)
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

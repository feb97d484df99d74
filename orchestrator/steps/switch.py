"""Owns the sixth step, the one commit point: the routes move, and every worker says that it knows.

Until the route is written a deploy can be undone without anybody noticing; afterwards it goes
forward, or the old route is restored in the same acknowledged way.
"""

import asyncio
from collections.abc import Mapping

from orchestrator.deploy import Step
from orchestrator.errors import StepError
from orchestrator.steps.work import UNACKNOWLEDGED_WAIT, Detail, Work


async def do(work: Work) -> Detail:
    """Point all domains of the app to the new container; wait for every worker."""
    deploy, world = work.deploy, work.world
    container, old, stored = await asyncio.gather(
        world.engine.inspect(deploy.container_id),
        old_address(work),
        asyncio.to_thread(world.routes.targets, deploy.domains),
    )
    # Looked up anew: the engine publishes another port each time that a container starts.
    address = container.address(deploy.port) if container and container.is_running else None
    if address is None:
        raise StepError("gone", "the new container is not running any more")
    if deploy.target not in stored.values():
        # Of a domain that an operator gives to the app, what the route pointed to before.
        deploy.old_target = old or next(filter(None, stored.values()), "")
        work.others = {domain: target for domain, target in stored.items() if target != old}
    deploy.target = address
    await work.save()
    # The engine gives a port that was drained away to whoever is next.
    await world.edge.undrain(address)
    return await _point(work, dict.fromkeys(deploy.domains, address))


async def undo(work: Work) -> None:
    """Point them back to where they were, and wait for that."""
    deploy, world = work.deploy, work.world
    if not await is_switched(work):
        return
    old = await old_address(work)
    if old is None and not deploy.old_container_id:
        old = deploy.old_target or None
    if old is not None:
        for target in old.split(","):
            await world.edge.undrain(target)
    # Where nothing was served before, there is no route again.
    await _point(work, {**dict.fromkeys(deploy.domains, old), **work.others})
    work.says(Step.SWITCH, f"the routes point to {old or 'nothing'} again")


async def is_switched(work: Work) -> bool:
    """Whether a route points to the new container: the commit point is passed."""
    deploy = work.deploy
    if not deploy.target:
        return False
    stored = await asyncio.to_thread(work.world.routes.targets, deploy.domains)
    return deploy.target in stored.values()


async def old_address(work: Work) -> str | None:
    """Where the container that served before is now, if it runs."""
    if not work.deploy.old_container_id:
        return None
    old = await work.world.engine.inspect(work.deploy.old_container_id)
    if old is None or not old.is_running:
        return None
    return next(iter(old.ports.values()), None)


async def _point(work: Work, targets: Mapping[str, str | None]) -> Detail:
    deploy, world = work.deploy, work.world
    async with world.routes_turn:
        version = await asyncio.to_thread(world.routes.retarget, dict(targets))
    deploy.route_version = version
    begun = asyncio.get_running_loop().time()
    answer = await world.edge.reload(version)
    if answer is None:
        work.says(
            Step.SWITCH,
            f"no edge runs at {world.edge.path}: the routes are written, but nobody serves them",
        )
        await world.pause(UNACKNOWLEDGED_WAIT)
        return {"route_version": version, "workers": 0, "acknowledged": False}
    seconds = round(asyncio.get_running_loop().time() - begun, 3)
    work.says(
        Step.SWITCH,
        f"version {version} is served by {answer['workers']} workers after {seconds:g} s",
    )
    return {
        "route_version": version,
        "workers": answer["workers"],
        "acknowledged": True,
        "served_after_s": seconds,
    }

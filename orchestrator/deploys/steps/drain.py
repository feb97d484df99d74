"""Owns the seventh step: what is in flight on the old container ends before it does.

The old container is kept for some time: it takes over again if the new one ends.
"""

import asyncio

from orchestrator.deploys.context import DeployContext, Detail
from orchestrator.deploys.readiness import exit_code_hint
from orchestrator.deploys.steps.switch import old_address
from orchestrator.errors import StepError
from orchestrator.model import Step


async def do(context: DeployContext) -> Detail:
    """Wait for it; what takes too long is cut, and counted. Raises StepError, kind
    "died_after_switch", as soon as the new container ends."""
    deploy, services = context.deploy, context.services
    nothing = {"finished": 0, "cut": 0, "tunnels_closed": 0, "workers_lost": 0}
    address = await old_address(context)
    if address is None or address == deploy.target:
        # The first deploy; or nothing of before is in flight, as its container does not run.
        return nothing
    settings = services.settings
    window = asyncio.create_task(asyncio.sleep(settings.rollback_window))
    draining = asyncio.create_task(
        services.edge.drain(
            address,
            settings.drain_timeout,
            settings.tunnel_drain_timeout,
            deploy.route_version or 0,
        )
    )
    exiting = asyncio.create_task(services.engine.wait_until_exited(deploy.container_id))
    try:
        for waiting in (draining, window):
            await asyncio.wait((waiting, exiting), return_when=asyncio.FIRST_COMPLETED)
        if exiting.done():
            exiting.result()
        await _require_alive(context)
        answer = await draining
    finally:
        for task in (window, draining, exiting):
            task.cancel()
        await asyncio.gather(window, draining, exiting, return_exceptions=True)
    if answer is None:
        context.write_log(Step.DRAIN, "no edge is running: nothing to drain")
        return nothing
    result = {name: answer[name] for name in nothing}
    context.write_log(
        Step.DRAIN,
        f"drained {address} in {answer['seconds']:g} s: {answer['finished']} requests finished,"
        f" {answer['cut']} aborted, {answer['tunnels_closed']} tunnels closed",
    )
    return result


async def undo(context: DeployContext) -> None:
    """The step before it brings the old container back."""


async def _require_alive(context: DeployContext) -> None:
    """One last look at the new container while the old one can still take over."""
    deploy, engine = context.deploy, context.services.engine
    container = await engine.inspect(deploy.container_id)
    if container is None:
        raise StepError("died_after_switch", "the new container was removed by another program")
    # One that was started again meanwhile dies again.
    if not container.is_running or container.restart_count:
        tail = await engine.tail_logs(container.id)
        raise StepError(
            "died_after_switch",
            f"the new container exited with code {container.exit_code}{exit_code_hint(container)}"
            f" right after the switch; logs:\n{tail}",
        )

"""Owns the fifth step: the new container answers, or the deploy ends here."""

from orchestrator.deploys.context import DeployContext, Detail
from orchestrator.deploys.readiness import HealthCheck, wait_until_healthy
from orchestrator.model import Step


async def do(context: DeployContext) -> Detail:
    """Wait until it is healthy."""
    deploy, settings = context.deploy, context.services.settings
    check = HealthCheck(
        path=deploy.health_path,
        host=deploy.domains[0],
        port=deploy.port,
        statuses=settings.health_status,
        timeout=settings.health_timeout,
    )
    report = await wait_until_healthy(
        context.services.engine,
        deploy.container_id,
        check,
        lambda line: context.write_log(Step.HEALTH, line),
    )
    deploy.target = report.target
    return {"target": report.target, "attempts": report.attempts, "healthy_after_s": report.seconds}


async def undo(context: DeployContext) -> None:
    """It leaves nothing: the container is the step's before."""

"""Owns the fifth step: the new container answers, or the deploy ends here."""

from orchestrator.deploy import Step
from orchestrator.health import HealthCheck, wait_until_healthy
from orchestrator.steps.work import Detail, Work


async def do(work: Work) -> Detail:
    """Wait until it is healthy; from then on the engine keeps it running."""
    deploy, settings = work.deploy, work.world.settings
    check = HealthCheck(
        path=deploy.health_path,
        host=deploy.domains[0],
        port=deploy.port,
        statuses=settings.health_status,
        timeout=settings.health_timeout,
    )
    report = await wait_until_healthy(
        work.world.engine, deploy.container_id, check, lambda line: work.says(Step.HEALTH, line)
    )
    deploy.target = report.target
    await work.world.engine.keep_running(deploy.container_id)
    return {"target": report.target, "attempts": report.attempts, "seconds": report.seconds}


async def undo(work: Work) -> None:
    """It leaves nothing: the container is the step's before."""

"""Owns the order of a deploy's steps: what is done, what is written down before, what is undone.

The record of a step is stored before the step begins and after it ended. So whoever finds a deploy
that was killed knows the one step that may be half done.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final

from edge.errors import EdgeError, FairleadError, StoreError
from orchestrator.deploys.context import DeployContext, DeployServices, DeployStep
from orchestrator.deploys.log import DeployLogs
from orchestrator.deploys.pruner import Pruner
from orchestrator.deploys.steps import build, clone, detect, drain, health, retire, start, switch
from orchestrator.errors import EngineUnavailableError, StepError
from orchestrator.metrics import Metrics
from orchestrator.model import STEPS, Deploy, DeployState, Step, StepRecord
from orchestrator.security.redact import Redactor
from orchestrator.store.store import Store

logger = logging.getLogger(__name__)

# Processes that may die over one deploy; then it is taken for what kills them.
MAX_ATTEMPTS: Final = 3

CONTAINER_GONE: Final = (
    "container_gone"  # the kind of error where the new container is not there any more
)

STEP_MODULES: Final[dict[Step, DeployStep]] = {
    Step.CLONE: clone,
    Step.DETECT: detect,
    Step.BUILD: build,
    Step.START: start,
    Step.HEALTH: health,
    Step.SWITCH: switch,
    Step.DRAIN: drain,
    Step.RETIRE: retire,
}
# Done while a slot for builds is held: what starves a machine.
BUILD_STEPS: Final = (Step.CLONE, Step.DETECT, Step.BUILD)


class Interrupted(Exception):  # noqa: N818  no error: the daemon stops, the next one goes on
    """The deploy is left to the next start."""


class Pipeline:
    """Runs deploys. `is_stopping` is asked between two steps; `on_built` frees the slot."""

    def __init__(
        self,
        services: DeployServices,
        store: Store,
        logs: DeployLogs,
        redactor: Redactor,
        metrics: Metrics,
        pruner: Pruner,
        is_stopping: Callable[[], bool],
    ) -> None:
        self._services = services
        self._store = store
        self._logs = logs
        self._redactor = redactor
        self._metrics = metrics
        self._pruner = pruner
        self._is_stopping = is_stopping
        self._current: dict[int, asyncio.Task[dict[str, object]]] = {}
        self._cancelled: set[int] = set()

    async def run(self, deploy: Deploy, on_built: Callable[[], None]) -> None:
        """Take a deploy from where it stands to its end. Raises Interrupted, StoreError."""
        try:
            log = self._logs.open(deploy.id)
        except OSError as error:
            if deploy.state is DeployState.RUNNING:
                raise StoreError(f"cannot write the deploy log: {_error_text(error)}") from None
            deploy.state, deploy.finished_at = DeployState.FAILED, time.time()
            deploy.error, deploy.error_kind = (
                f"cannot write the deploy log: {_error_text(error)}",
                "system_error",
            )
            await self._store.deploys.finish(deploy)
            self._metrics.deploy_finished(deploy.app, deploy.state.value)
            return
        context = DeployContext(
            self._services, deploy, log, lambda: self._store.deploys.save(deploy)
        )
        self._redactor.add_credentials(deploy.credentials)
        try:
            await self._run(context, on_built)
        finally:
            if deploy.state.is_final:
                log.close()

    def cancel(self, deploy: Deploy) -> None:
        """Stop what it is doing and undo it; without effect past the commit point."""
        self._cancelled.add(deploy.id)
        task = self._current.get(deploy.id)
        if task is not None and not deploy.is_switching:
            task.cancel()

    async def _run(self, context: DeployContext, on_built: Callable[[], None]) -> None:
        deploy = context.deploy
        deploy.attempts += 1
        deploy.state = DeployState.RUNNING
        deploy.started_at = deploy.started_at or time.time()
        await self._store.deploys.save(deploy)
        try:
            if deploy.attempts > MAX_ATTEMPTS:
                raise StepError(
                    "interrupted", f"gave up: the deploy was interrupted {MAX_ATTEMPTS} times"
                )
            for step in await self._remaining_steps(context):
                if step not in BUILD_STEPS:
                    on_built()
                if deploy.id in self._cancelled and not deploy.is_switching:
                    raise asyncio.CancelledError
                if self._is_stopping():
                    # A stop in order is no attempt that failed.
                    deploy.attempts -= 1
                    await self._store.deploys.save(deploy)
                    raise Interrupted
                await self._run_step(context, step)
        except (FairleadError, OSError) as error:
            if isinstance(error, StoreError):
                raise  # What cannot be written down must not go on; the next start finds it.
            await self._fail(context, error)
        except asyncio.CancelledError:
            if deploy.id not in self._cancelled:
                raise
            await self._finish_cancelled(context)
        else:
            await self._finish_live(context)
        finally:
            self._cancelled.discard(deploy.id)

    async def _remaining_steps(self, context: DeployContext) -> tuple[Step, ...]:
        """What is to be done; of what was half done, nothing is left."""
        records = {
            record.step: record for record in await self._store.deploys.steps(context.deploy.id)
        }
        done = {step for step, record in records.items() if record.state == "done"}
        if await switch.is_switched(context):
            container = await self._services.engine.inspect(context.deploy.container_id)
            if container is None or not container.is_running:
                raise StepError(
                    CONTAINER_GONE, "the new container stopped while the orchestrator was down"
                )
            context.write_log(
                Step.SWITCH, "resuming after an interruption: the routes are already switched"
            )
            return STEPS[STEPS.index(Step.SWITCH) :]
        await self._note_old_container(context.deploy)
        if not records:
            return STEPS
        first = Step.START if Step.BUILD in done and context.deploy.image_id else Step.CLONE
        context.write_log(first, f"resuming after an interruption at step {first}")
        for step in reversed(STEPS[STEPS.index(first) : STEPS.index(Step.SWITCH)]):
            await STEP_MODULES[step].undo(context)
        return STEPS[STEPS.index(first) :]

    async def _note_old_container(self, deploy: Deploy) -> None:
        """That of the live deploy; the reconciler may make it anew until the switch begins."""
        live = (await self._store.deploys.live()).get(deploy.app)
        deploy.old_container_id = live.container_id if live else ""

    async def _run_step(self, context: DeployContext, step: Step) -> None:
        deploy = context.deploy
        deploy.step = step
        record = StepRecord(deploy.id, step, "running", time.time())
        await self._store.deploys.save(deploy, record)
        if step is Step.SWITCH and not await switch.is_switched(context):
            async with self._services.routes_lock:
                await self._note_old_container(deploy)
        # A task of its own: cancelling it never cancels what is written down.
        task = asyncio.ensure_future(self._do(context, step))
        self._current[deploy.id] = task
        if deploy.id in self._cancelled:
            self.cancel(deploy)
        try:
            record.detail = await task
            record.state = "done"
        except (FairleadError, OSError) as error:
            record.state = "failed"
            record.error = self._redactor.redact(_error_text(error))
            if isinstance(error, StepError):
                record.detail = self._redactor.redact_json(error.detail)
            raise
        except asyncio.CancelledError:
            task.cancel()
            record.state, record.error = "failed", "cancelled"
            raise
        finally:
            del self._current[deploy.id]
            record.finished_at = time.time()
            if record.state == "running":
                record.state = "failed"  # a fault of ours, on its way up with its traceback
            self._metrics.step_finished(
                step.value, record.state, record.finished_at - record.started_at
            )
            if step is Step.SWITCH and record.state == "done":
                await self._store.deploys.set_live(deploy, record)
            else:
                await self._store.deploys.save(deploy, record)
        for warning in context.warnings:
            logger.warning(warning, extra={"fields": {"app": deploy.app}})
        context.warnings.clear()

    async def _do(self, context: DeployContext, step: Step) -> dict[str, Any]:
        if step not in BUILD_STEPS:
            return await STEP_MODULES[step].do(context)
        await self._pruner.make_room(context.deploy.app, lambda line: context.write_log(step, line))
        return await self._pruner.disk.while_free(STEP_MODULES[step].do(context))

    # Ends

    async def _finish_live(self, context: DeployContext) -> None:
        deploy = context.deploy
        deploy.cutover = await self._cutover(deploy)
        await self._finish(context, DeployState.LIVE)
        logger.info("deployed", extra={"fields": {"app": deploy.app, "target": deploy.target}})

    async def _fail(self, context: DeployContext, error: Exception) -> None:
        deploy = context.deploy
        text = self._redactor.redact(_error_text(error))
        deploy.error = text
        deploy.error_kind = error.kind if isinstance(error, StepError) else _error_kind(error)
        context.log.write(deploy.step.value if deploy.step else "", f"failed: {text}")
        fields = {"app": deploy.app, "provider": deploy.provider, "step": deploy.step, "err": text}
        logger.error("pipeline failed", extra={"fields": fields})
        if deploy.step is Step.RETIRE and deploy.error_kind != CONTAINER_GONE:
            # It serves, and so it counts. What is left of the old version goes with the next look.
            deploy.cutover = await self._cutover(deploy)
            await self._finish(context, DeployState.LIVE)
            return
        await self._undo(context)
        deploy.cutover = await self._cutover(deploy)
        await self._finish(context, DeployState.FAILED)

    async def _finish_cancelled(self, context: DeployContext) -> None:
        context.deploy.error = "cancelled"
        context.deploy.error_kind = "cancelled"
        context.log.write("", "cancelled")
        await self._undo(context)
        await self._finish(context, DeployState.CANCELLED)

    async def _undo(self, context: DeployContext) -> None:
        """Undo the steps that were begun, the last one first. The image stays, to be looked into:
        `docker run --rm` of its tag shows what a user's machine shows; one that was never
        finished goes."""
        deploy = context.deploy
        reached = STEPS.index(deploy.step) if deploy.step else 0
        for step in reversed(STEPS[: reached + 1]):
            if step is Step.BUILD and deploy.image_id:
                continue
            try:
                await STEP_MODULES[step].undo(context)
            except StoreError:
                raise  # Where the routes lead is not known: the container may be what serves.
            except (FairleadError, OSError) as error:
                # The reconciler finds what is left: the deploy is no longer one at work.
                text = self._redactor.redact(_error_text(error))
                context.log.write(step.value, f"rollback of this step failed: {text}")
                logger.error(
                    "rollback failed",
                    extra={"fields": {"app": deploy.app, "step": step, "err": text}},
                )
        await self._store.deploys.revert_live(deploy)

    async def _finish(self, context: DeployContext, state: DeployState) -> None:
        deploy = context.deploy
        deploy.state = state
        deploy.finished_at = time.time()
        await self._store.deploys.finish(deploy)
        self._metrics.deploy_finished(deploy.app, state.value)
        context.log.write("", f"deploy {deploy.id} is {state.value}")

    async def _cutover(self, deploy: Deploy) -> dict[str, object]:
        cutover: dict[str, object] = {}
        seconds: dict[str, float] = {}
        for record in await self._store.deploys.steps(deploy.id):
            if record.finished_at is not None:
                seconds[record.step.value] = round(record.finished_at - record.started_at, 3)
            if record.step in (Step.SWITCH, Step.DRAIN) and record.state == "done":
                cutover |= record.detail
        return {**cutover, "step_durations_s": seconds} if seconds else {}


def _error_text(error: Exception) -> str:
    if isinstance(error, OSError) and not isinstance(error, FairleadError):
        return f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
    return str(error)


def _error_kind(error: Exception) -> str:
    if isinstance(error, EngineUnavailableError):
        return "engine_unavailable"
    return "edge_error" if isinstance(error, EdgeError) else "system_error"

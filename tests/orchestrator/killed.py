"""Owns an orchestrator that kills itself, with SIGKILL, at one exact point of its next deploy.

`python -m tests.orchestrator.killed POINT`, where POINT is:
- before:STEP  the step is recorded as running, and nothing of it was done
- after:STEP   it is done, and that is not recorded
- saved:STEP   it is recorded as done
- inside:build, inside:start, inside:switch  it is half done
"""

import os
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from types import SimpleNamespace
from typing import Any

from edge.routing.store_writer import RouteWriter, StoredRoute
from orchestrator.__main__ import main
from orchestrator.deploys import pipeline
from orchestrator.deploys.context import DeployContext, DeployStep, Detail
from orchestrator.engine.build_output import BuiltImage
from orchestrator.engine.container import Container, ContainerSpec
from orchestrator.engine.engine import Engine
from orchestrator.model import Deploy, Step, StepRecord
from orchestrator.store.deploys import Deploys


def die() -> None:
    """As by the kernel when memory is out: nothing is finished, nothing flushed."""
    os.kill(os.getpid(), signal.SIGKILL)


def around(step: DeployStep, *, before: bool) -> Any:
    """The step, with a death."""

    async def do(context: DeployContext) -> Detail:
        if before:
            die()
        detail = await step.do(context)
        die()
        return detail

    return SimpleNamespace(do=do, undo=step.undo)


def after_saving(wanted: Step) -> None:
    """Die when the step is recorded as done."""
    save, set_live = Deploys.save, Deploys.set_live

    async def saved(self: Deploys, deploy: Deploy, record: StepRecord | None = None) -> None:
        await save(self, deploy, record)
        if record is not None and record.step is wanted and record.state == "done":
            die()

    async def made_live(self: Deploys, deploy: Deploy, record: StepRecord) -> None:
        await set_live(self, deploy, record)
        if wanted is Step.SWITCH:
            die()

    Deploys.save, Deploys.set_live = saved, made_live  # type: ignore[method-assign]


def inside_build() -> None:
    """Die at the first line of the engine's output."""
    build = Engine.build

    async def dying(self: Engine, context: AsyncGenerator[bytes, None], **named: Any) -> BuiltImage:
        named["on_line"] = lambda _: die()
        return await build(self, context, **named)

    Engine.build = dying  # type: ignore[method-assign]


def inside_start() -> None:
    """Die when the container is made, before its id is noted."""
    create = Engine.create

    async def dying(self: Engine, spec: ContainerSpec) -> Container:
        container = await create(self, spec)
        die()
        return container

    Engine.create = dying  # type: ignore[method-assign]


def inside_switch() -> None:
    """Die when the routes are written, before any worker was told."""
    restore = RouteWriter.restore

    def dying(self: RouteWriter, routes: Mapping[str, StoredRoute]) -> int:
        version = restore(self, routes)
        die()
        return version

    RouteWriter.restore = dying  # type: ignore[method-assign]


def arm(point: str) -> None:
    """Have it happen."""
    when, _, name = point.partition(":")
    step = Step(name)
    if when == "inside":
        {"build": inside_build, "start": inside_start, "switch": inside_switch}[name]()
    elif when == "saved":
        after_saving(step)
    else:
        pipeline.STEP_MODULES[step] = around(pipeline.STEP_MODULES[step], before=when == "before")


if __name__ == "__main__":
    arm(sys.argv.pop(1))
    main()

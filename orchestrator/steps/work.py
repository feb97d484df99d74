"""Owns what the steps of one deploy work with: its record, its log, and the world around it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from edge.route_store import RouteWriter
from orchestrator.config import Settings
from orchestrator.deploy import Deploy, Step
from orchestrator.deploy_log import DeployLog
from orchestrator.detector import Detection
from orchestrator.docker_engine import Engine
from orchestrator.edge_client import EdgeClient
from orchestrator.git import Git

Detail = dict[str, Any]

# Seconds after which an edge that cannot be asked has looked at its routes by itself: it does each
# second (FAIRLEAD_POLL_INTERVAL), and a change that it found has to be loaded.
UNACKNOWLEDGED_WAIT: Final = 1.5


@dataclass(slots=True)
class World:
    """What all deploys share."""

    settings: Settings
    instance: str
    engine: Engine
    git: Git
    edge: EdgeClient
    routes: RouteWriter
    # Held while routes are written after a look at what is live, which must not change meanwhile.
    routes_turn: asyncio.Lock
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep


@dataclass(slots=True)
class Work:
    """One deploy at work."""

    world: World
    deploy: Deploy
    log: DeployLog
    save: Callable[[], Awaitable[None]]  # writes the deploy's record down as it is now
    detection: Detection | None = None
    notes: list[str] = field(default_factory=list)
    # Of domains that the old container did not serve, what did: a target, or nothing.
    others: dict[str, str | None] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where the repository is cloned to; it goes when the deploy ends."""
        return self.world.settings.work_folder / str(self.deploy.id)

    @property
    def source(self) -> Path:
        """The checked-out tree."""
        return self.folder / "source"

    def says(self, step: Step, text: str) -> None:
        """A line, or several, for the deploy's log."""
        self.log.write(step.value, text)


class DeployStep(Protocol):
    """One step: a module. Both functions may raise FairleadError."""

    async def do(self, work: Work) -> Detail:
        """What its record shall tell. Done twice, it does no harm."""
        ...

    async def undo(self, work: Work) -> None:
        """Nothing of it is left; also where it was killed half-way, or never begun."""
        ...

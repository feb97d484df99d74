"""Owns what the steps of one deploy are given: its record, its log, the services they use."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from edge.routing.store_writer import RouteWriter, StoredRoute
from orchestrator.deploys.app_links import AppLinks
from orchestrator.deploys.app_networks import AppNetworks
from orchestrator.deploys.log import DeployLog
from orchestrator.edge_client import EdgeClient
from orchestrator.engine.engine import Engine
from orchestrator.model import Deploy, Step
from orchestrator.settings import Settings
from orchestrator.source.detect import Detection
from orchestrator.source.git import Git
from orchestrator.store.apps import Apps

Detail = dict[str, Any]

# Seconds after which an edge that cannot be asked has looked at its routes by itself: it does each
# second (FAIRLEAD_POLL_INTERVAL), and a change that it found has to be loaded.
UNACKNOWLEDGED_WAIT: Final = 1.5


@dataclass(slots=True)
class DeployServices:
    """The services that all deploys share."""

    settings: Settings
    instance: str
    engine: Engine
    apps: Apps
    networks: AppNetworks
    links: AppLinks
    git: Git
    edge: EdgeClient
    routes: RouteWriter
    # Held while routes are written after a look at what is live, which must not change meanwhile.
    routes_lock: asyncio.Lock
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep


@dataclass(slots=True)
class DeployContext:
    """One running deploy, as its steps see it."""

    services: DeployServices
    deploy: Deploy
    log: DeployLog
    save: Callable[[], Awaitable[None]]  # writes the deploy's record down as it is now
    detection: Detection | None = None
    warnings: list[str] = field(default_factory=list)
    # By domain: the route that it had before, where that was not one to the old container.
    displaced: dict[str, StoredRoute | None] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where the repository is cloned to; it goes when the deploy ends."""
        return self.services.settings.work_folder / str(self.deploy.id)

    @property
    def source(self) -> Path:
        """The checked-out tree."""
        return self.folder / "source"

    def write_log(self, step: Step, text: str) -> None:
        """Append one or more lines to the deploy's log."""
        self.log.write(step.value, text)


class DeployStep(Protocol):
    """One step: a module. Both functions may raise FairleadError."""

    async def do(self, context: DeployContext) -> Detail:
        """What its record shall tell. Done twice, it does no harm."""
        ...

    async def undo(self, context: DeployContext) -> None:
        """Nothing of it is left; also where it was killed half-way, or never begun."""
        ...

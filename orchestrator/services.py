"""Owns the services that the HTTP API uses."""

from dataclasses import dataclass
from typing import Protocol

from edge.api.access import Access
from orchestrator.deploys.log import DeployLogs
from orchestrator.deploys.pruner import Pruned
from orchestrator.edge_tokens import EdgeTokens
from orchestrator.engine.engine import Engine
from orchestrator.metrics import Metrics
from orchestrator.model import Deploy, DeployRequest, Link
from orchestrator.security.clients import Clients
from orchestrator.security.redact import Redactor
from orchestrator.settings import Settings
from orchestrator.store.store import Store


class Deployer(Protocol):
    """What the API needs of the deploy queue."""

    @property
    def logs(self) -> DeployLogs:
        """The logs of the deploys."""

    async def submit(self, request: DeployRequest) -> Deploy:
        """Store it and put it into the queue. Raises RefusedError."""

    async def branch_for(self, app: str, default_branch: str) -> str:
        """The branch that an app deploys from; "" for any."""

    async def wait(self, deploy: int, seconds: float) -> Deploy:
        """The deploy when it is final, or as it is after so many seconds."""

    async def cancel(self, deploy: int) -> Deploy:
        """End it. Raises RefusedError where it is too late."""

    async def link(self, link: Link) -> bool:
        """Let one app reach another; whether that is done. Raises RefusedError."""

    async def unlink(self, link: Link) -> bool:
        """End that; whether it is done. Raises RefusedError."""

    async def remove_app(self, app: str) -> None:
        """Withdraw its routes; remove its containers and records. Raises RefusedError."""

    async def prune(self, *, dry_run: bool) -> tuple[list[Pruned], bool]:
        """Remove what is too old or too much, or say what would go; whether more is left."""

    def written(self) -> dict[str, int]:
        """By app, bytes that its containers have written, while the engine's disk is short."""

    def queued(self) -> int:
        """Number of deploys in the queue."""

    def running(self) -> int:
        """Number of running deploys."""

    def unready_reason(self) -> str | None:
        """Why deploys cannot run now; None if they can."""


@dataclass(frozen=True, slots=True)
class ApiServices:
    """Everything that the handler of a request may need."""

    settings: Settings
    store: Store
    engine: Engine
    deployer: Deployer
    access: Access
    edge_tokens: EdgeTokens
    clients: Clients
    redactor: Redactor
    metrics: Metrics

"""Owns what a deploy is: what is asked for, its steps and states, and its record.

Times are Unix seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, NamedTuple

from edge.api.permission import Scope


class Step(StrEnum):
    """What a deploy does, in this order."""

    CLONE = "clone"
    DETECT = "detect"
    BUILD = "build"
    START = "start"
    HEALTH = "health"
    SWITCH = "switch"  # the commit point: from here on a deploy goes forward
    DRAIN = "drain"
    RETIRE = "retire"


STEPS: Final = tuple(Step)

# What an app may have for its containers: whether they can write to their files.
DEFAULT: Final = "default"  # as FAIRLEAD_CONTAINER_READ_ONLY says
READ_ONLY: Final = ("on", "off", DEFAULT)


class DeployState(StrEnum):
    """Where a deploy stands."""

    QUEUED = "queued"
    RUNNING = "running"
    LIVE = "live"
    RETIRED = "retired"  # it was live until a newer one took its place
    FAILED = "failed"
    SUPERSEDED = "superseded"  # a newer push came while it waited
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Whether the deploy has ended, well or not."""
        return self not in (DeployState.QUEUED, DeployState.RUNNING)


@dataclass(frozen=True, slots=True)
class DeployRequest:
    """What is asked for, checked by `orchestrator.security.validation`."""

    app: str
    provider: str  # "github", "gitlab", "gitea", "bitbucket" or "cli"
    repository: str  # "owner/name" as the provider says it, or the clone URL
    clone_url: str  # without credentials
    credentials: str = ""  # "user:password" of the clone URL; never shown
    branch: str = ""
    commit: str = ""  # "": the tip of the branch, which the clone step records
    domain: str = ""  # "": those that the app has, else APP.local
    health_path: str = ""  # "": the app's, else the setting's
    delivery: int | None = None
    allow_file: bool = False  # a file:// URL from a caller on this machine
    operator: bool = False  # asked for on purpose by an operator, and not by a webhook


@dataclass(slots=True)
class Deploy:
    """The record of one deploy."""

    id: int
    app: str
    state: DeployState
    step: Step | None  # the one that is running, or was when it ended
    provider: str
    repository: str
    clone_url: str
    branch: str
    commit: str
    domains: list[str]
    health_path: str
    created_at: float
    credentials: str = ""
    allow_file: bool = False
    runtime: str = ""
    image_tag: str = ""
    image_id: str = ""
    release: str = ""
    container_id: str = ""
    container_name: str = ""
    port: int = 0  # that the app listens on in its container
    address: str = ""  # of its container, in the network of the app
    host_port: int = 0  # of this machine, where the container is published; 0: it is not
    target: str = ""  # where the edge sends requests, as far as it is known by now
    old_container_id: str = ""
    old_target: str = ""
    route_version: int | None = None
    started_at: float | None = None
    finished_at: float | None = None
    error: str = ""
    error_kind: str = ""
    superseded_by: int | None = None
    delivery: int | None = None
    attempts: int = 0  # processes that have worked on it
    cutover: dict[str, Any] = field(default_factory=dict)

    @property
    def is_switching(self) -> bool:
        """Whether it has reached the commit point: it moves the routes, and is not cancelled."""
        return self.step is not None and STEPS.index(self.step) >= STEPS.index(Step.SWITCH)

    @property
    def duration_s(self) -> float | None:
        """Seconds from its start to its end, None before that."""
        if self.started_at is None or self.finished_at is None:
            return None
        return round(self.finished_at - self.started_at, 3)

    def as_json(self) -> dict[str, Any]:
        """Its JSON in the API."""
        return {
            "id": self.id,
            "app": self.app,
            "state": self.state.value,
            "step": self.step.value if self.step else None,
            "provider": self.provider,
            "repository": self.repository,
            "clone_url": self.clone_url,
            "branch": self.branch,
            "commit": self.commit,
            "domains": self.domains,
            "health_path": self.health_path,
            "runtime": self.runtime,
            "image_tag": self.image_tag,
            "image_id": self.image_id,
            "release": self.release,
            "container_id": self.container_id,
            "container_name": self.container_name,
            "address": self.address,
            "host_port": self.host_port,
            "target": self.target,
            "old_container_id": self.old_container_id,
            "old_target": self.old_target,
            "route_version": self.route_version,
            "created_at": self.created_at,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "duration_s": self.duration_s,
            "error": self.error,
            "error_kind": self.error_kind,
            "superseded_by": self.superseded_by,
            "delivery": self.delivery,
            "attempts": self.attempts,
            "cutover": self.cutover,
        }

    def result_json(self) -> dict[str, Any]:
        """The response to a webhook once it is live: godeploy-platform's keys, and ours."""
        return {
            "provider": self.provider,
            "app": self.app,
            "runtime": self.runtime,
            "image_tag": self.image_tag,
            "new_container_id": self.container_id,
            "old_container_id": self.old_container_id,
            "routed_target": self.target,
            "deploy_id": self.id,
            "commit": self.commit,
            "duration_s": self.duration_s,
            "cutover": self.cutover,
        }


@dataclass(slots=True)
class StepRecord:
    """One step of one deploy, the last time that it ran."""

    deploy: int
    step: Step
    state: str  # "running", "done" or "failed"
    started_at: float
    finished_at: float | None = None
    error: str = ""
    detail: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Its JSON in the API."""
        duration_s = (
            None if self.finished_at is None else round(self.finished_at - self.started_at, 3)
        )
        return {
            "step": self.step.value,
            "state": self.state,
            "started_at": self.started_at,
            "finished_at": self.finished_at,
            "duration_s": duration_s,
            "error": self.error,
            "detail": self.detail,
        }


@dataclass(slots=True)
class App:
    """What is deployed again and again."""

    name: str
    repository: str
    clone_url: str
    branch: str  # "": the repository's default branch, as each push names it
    health_path: str  # "": the setting's
    created_at: float
    domains: list[str] = field(default_factory=list)
    live_deploy: int | None = None
    down: str = ""  # why its container does not run; empty: it does, or there is none
    stopped: str = ""  # the id of the container that was stopped on purpose
    read_only: str = DEFAULT  # of READ_ONLY

    def as_json(self) -> dict[str, Any]:
        """Its JSON in the API."""
        return {
            "name": self.name,
            "repository": self.repository,
            "clone_url": self.clone_url,
            "branch": self.branch,
            "health_path": self.health_path,
            "domains": self.domains,
            "live_deploy": self.live_deploy,
            "down": self.down,
            "read_only": self.read_only,
            "created_at": self.created_at,
        }


@dataclass(slots=True)
class Delivery:
    """One webhook delivery that was verified, and what was decided about it."""

    id: int
    provider: str
    delivery_id: str
    event: str
    headers: Mapping[str, str]  # without secrets
    body: bytes  # JSON without secrets; empty if what came was none
    received_at: float
    decision: str = ""  # "deploy", "ignored", "pong" or "refused"; "" until it is decided
    reason: str = ""
    status: int = 0  # of the answer
    deploy: int | None = None
    replay_of: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Its JSON in the API, without headers and body."""
        return {
            "id": self.id,
            "provider": self.provider,
            "delivery_id": self.delivery_id,
            "event": self.event,
            "received_at": self.received_at,
            "decision": self.decision,
            "reason": self.reason,
            "status": self.status,
            "deploy_id": self.deploy,
            "replay_of": self.replay_of,
        }


@dataclass(frozen=True, slots=True)
class Token:
    """A token of the API, of which nobody has more than the hash. Times are Unix seconds."""

    id: int
    name: str
    scopes: tuple[Scope, ...]
    apps: tuple[str, ...]  # that it is limited to; none: it is for all
    created_at: float
    expires_at: float | None
    used_at: float | None  # to the minute

    def as_json(self) -> dict[str, Any]:
        """Its JSON in the API."""
        return {
            "name": self.name,
            "scopes": list(self.scopes),
            "apps": list(self.apps),
            "created_at": self.created_at,
            "expires_at": self.expires_at,
            "used_at": self.used_at,
        }


class Link(NamedTuple):
    """An operator's word that containers of `app` reach those of the app `to`, by its name."""

    app: str
    to: str

    @property
    def holder(self) -> str:
        """What has its subnet, as an app has its own: no app's name has a "_"."""
        return f"{self.app}_{self.to}"

    @staticmethod
    def is_holder(name: str) -> bool:
        """Whether that is a link, and no app."""
        return "_" in name

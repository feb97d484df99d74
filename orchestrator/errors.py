"""Owns the tree of the orchestrator's errors. The text of each is fit for an operator."""

from collections.abc import Mapping
from typing import Final

from edge.errors import FairleadError

MAKE_ROOM: Final = (
    "Make room on it (`fairlead prune` removes what Fairlead no longer needs, `docker system df`"
    " shows what takes it), and deploy again"
)


class OrchestratorError(FairleadError):
    """Base of every error that the orchestrator raises on purpose."""


class RefusedError(OrchestratorError):
    """Something cannot be done as it was asked; `status` is the answer's (RFC 9110 section 15)."""

    def __init__(self, reason: str, status: int = 422) -> None:
        super().__init__(reason)
        self.status = status


class EngineUnavailableError(OrchestratorError):
    """The Docker Engine cannot be reached; the text says where it was looked for, and why not."""


class StepError(OrchestratorError):
    """A step of a deploy failed.

    The text is the cause, in several lines where there is output to show. `kind` is a word for
    programs, such as "early_exit"; `detail` goes as JSON into the deploy's record.
    """

    def __init__(self, kind: str, reason: str, detail: Mapping[str, object] | None = None) -> None:
        super().__init__(reason)
        self.kind = kind
        self.detail = dict(detail or {})


class NameConflictError(StepError):
    """A container of that name exists, and it is not ours to remove."""

    def __init__(self, reason: str) -> None:
        super().__init__("name_conflict", reason)


class SubnetTakenError(OrchestratorError):
    """Another network of the engine overlaps it."""


class PortConflictError(StepError):
    """The engine could not publish a port."""

    def __init__(self, reason: str) -> None:
        super().__init__("port_conflict", reason)

"""Owns the first step of an edge: before anything of it is imported, how its workers are to run."""

import gc
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from edge import compiled

if TYPE_CHECKING:
    from edge.supervisor.sidecar import Sidecar


def run(texts: Mapping[str, str], sidecars: "Sequence[Sidecar]" = ()) -> int:
    """As `supervisor.run`, with the compiled conversation where that is there."""
    gc.disable()  # of what is imported nothing is garbage: to look is a twentieth of a start
    compiled.use()
    from edge.supervisor import supervisor

    gc.freeze()
    gc.enable()
    return supervisor.run(texts, sidecars)

"""Owns what a build is asked for with: its names, its limits, its labels. Pure."""

from collections.abc import Mapping
from typing import Final

import orjson

from orchestrator.engine.build_leftovers import build_mark
from orchestrator.engine.container import LABEL_INSTANCE, LABEL_MANAGED

# Microseconds of a scheduling period, the kernel's own default: a CPU limit is a share of it.
CPU_PERIOD: Final = 100_000
# It takes no less than 1 ms of one.
_MIN_QUOTA: Final = 1000


def build_query(
    instance: str,
    *,
    tag: str,
    dockerfile: str,
    labels: Mapping[str, str],
    memory: int,
    cpus: float,
) -> dict[str, str | int]:
    """The query of `POST /build`; `memory` is in bytes, `cpus` in cores."""
    marked = {**labels, LABEL_MANAGED: "true", LABEL_INSTANCE: instance}
    return {
        "t": tag,
        "dockerfile": dockerfile,
        "version": "1",
        "rm": "1",
        "forcerm": "1",
        "memory": memory,
        "memswap": memory,  # of both together: no swap
        "cpuperiod": CPU_PERIOD,
        "cpuquota": max(_MIN_QUOTA, round(cpus * CPU_PERIOD)),
        "networkmode": "default",
        "extrahosts": build_mark(instance),
        "labels": orjson.dumps(marked).decode(),
    }

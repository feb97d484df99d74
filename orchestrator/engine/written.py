"""Owns how much the containers of apps have written, as the engine counts it. Pure."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from orchestrator.engine.container import LABEL_APP, LABEL_INSTANCE


def written(usage: Mapping[str, Any], instance: str) -> dict[str, int]:
    """By app of the instance, bytes of files and of volumes of its containers.

    `usage` is what `GET /system/df` says. What a container logs is not in it.
    """
    volumes = {
        each["Name"]: (each.get("UsageData") or {}).get("Size", 0)
        for each in usage["Volumes"] or ()
    }
    found: Counter[str] = Counter()
    for container in usage["Containers"] or ():
        labels = container["Labels"] or {}
        if labels.get(LABEL_INSTANCE) == instance:
            names = {each.get("Name", "") for each in container["Mounts"]}
            # -1 is a volume that the engine could not look into.
            sizes = [container.get("SizeRw", 0), *(volumes.get(name, 0) for name in names)]
            found[labels.get(LABEL_APP, "")] += sum(max(0, size) for size in sizes)
    return dict(found)

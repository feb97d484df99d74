"""Owns how much disk is free where we and the engine write, and the end of what takes too much."""

import asyncio
import os
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

from edge.settings.syntax import size_text
from orchestrator.engine.engine import Engine
from orchestrator.errors import MAKE_ROOM, OrchestratorError, StepError

T = TypeVar("T")

DATA: Final = "database"
ENGINE: Final = "engine"
# Seconds between two looks while something is being made. A disk takes some 500 MB in one.
LOOK_INTERVAL: Final = 0.5


@dataclass(frozen=True, slots=True)
class Space:
    """What is free, in bytes, on one disk; `holds` is DATA or ENGINE."""

    holds: str
    path: Path
    free: int

    def __str__(self) -> str:
        return f"{size_text(self.free)} free on the disk of the {self.holds} ({self.path})"


class Disk:
    """The disks of a database in `folder` and of the engine. `min_free` is what a build needs."""

    def __init__(self, folder: Path, engine: Engine, min_free: int) -> None:
        self._folder = folder
        self._engine = engine
        self._min_free = min_free
        self._paths: dict[str, Path] = {}

    async def look(self) -> list[Space]:
        """What is free now. The engine's is not known where its folder is not on this machine, or
        not for us to look at."""
        self._paths = {DATA: self._folder}
        try:
            root = await self._engine.data_root()
        except OrchestratorError:
            root = None  # what needs the engine finds that out for itself
        if root is not None:
            self._paths[ENGINE] = root
        return await self._look()

    async def shortage(self) -> Space | None:
        """Of the disk that has too little room for a build."""
        return self._least(await self.look(), self._min_free)

    def refusal(self, space: Space) -> StepError:
        """The error of a deploy that nothing is begun for."""
        return StepError(
            "disk_full",
            f"not enough disk: {space}, {size_text(self._min_free)} needed (FAIRLEAD_MIN_FREE),"
            f" and nothing is left that Fairlead could remove. {MAKE_ROOM}",
            {"path": str(space.path), "free": space.free, "needed": self._min_free},
        )

    async def while_free(self, work: Coroutine[Any, Any, T]) -> T:
        """What `work` returns; it is ended when it has taken half of what must be free before it.

        Raises StepError, kind "disk_full".
        """
        task = asyncio.ensure_future(work)
        try:
            while not (await asyncio.wait([task], timeout=LOOK_INTERVAL))[0]:
                space = self._least(await self._look(), self._min_free // 2)
                if space is not None:
                    raise StepError(
                        "disk_full",
                        f"stopped, as it was filling the disk: {space}, of which"
                        f" {size_text(self._min_free // 2)} are not for builds (half of"
                        f" FAIRLEAD_MIN_FREE). {MAKE_ROOM}",
                        {"path": str(space.path), "free": space.free},
                    )
            return task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _look(self) -> list[Space]:
        return await asyncio.to_thread(_look, dict(self._paths))

    def _least(self, spaces: list[Space], needed: int) -> Space | None:
        low = [space for space in spaces if space.free < needed]
        return min(low, key=lambda space: space.free, default=None)


def _look(paths: dict[str, Path]) -> list[Space]:
    found = []
    for holds, path in paths.items():
        try:
            state = os.statvfs(path)
        except OSError:
            continue
        found.append(Space(holds, path, state.f_bavail * state.f_frsize))
    return found

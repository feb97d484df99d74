"""Owns what is removed because it is too old or too much, kind by kind, in the background.

Each kind says what of it may go, and what is never: whatever belongs to a deploy that is under way
or live, the newest releases of an app, and all that is not of this instance.
"""

import asyncio
import logging
import os
import shutil
import time
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, Final

from edge.errors import FairleadError
from edge.settings.syntax import size_text
from orchestrator.deploys.context import DeployServices
from orchestrator.deploys.disk import ENGINE, Disk
from orchestrator.deploys.log import DeployLogs
from orchestrator.engine.image_tree import ImageTree
from orchestrator.metrics import Metrics
from orchestrator.store.store import Store

logger = logging.getLogger(__name__)

# Seconds between two turns where no deploy has ended.
INTERVAL: Final = 30.0
# Seconds between two turns where the first one left something: others have the disk in between.
PAUSE: Final = 1.0
# Of each kind, what one turn removes at most, and how many bytes of rows: a transaction of them
# takes some 200 ms.
TURN: Final = 100
TURN_BYTES: Final = 8 * 1024 * 1024
# Of each kind that are named to whoever asks.
NAMES: Final = 100
# Apps that are named where the disk runs short.
MOST: Final = 5
# Seconds for all turns that somebody waits for.
PATIENCE: Final = 15.0


@dataclass(frozen=True, slots=True)
class Batch:
    """What may go of one kind: the bytes of each, by its name. `remove` says which it removed."""

    kind: str
    sizes: dict[str, int]
    remove: Callable[[], Awaitable[Collection[str]]]


@dataclass(slots=True)
class Pruned:
    """What was removed of one kind, or would be."""

    kind: str
    sizes: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        """Its JSON in the API."""
        return {
            "kind": self.kind,
            "count": len(self.sizes),
            "bytes": sum(self.sizes.values()),
            "names": [*self.sizes][:NAMES],
        }


class Pruner:
    """`is_deploying` tells the apps whose images a deploy may be making; `is_ready` whether the
    engine answers. `start` it first, or ask `prune`."""

    def __init__(
        self,
        services: DeployServices,
        store: Store,
        logs: DeployLogs,
        metrics: Metrics,
        is_deploying: Callable[[str], bool],
        is_ready: Callable[[], bool],
    ) -> None:
        settings = services.settings
        self.disk = Disk(settings.state_path.absolute().parent, services.engine, settings.min_free)
        self._services = services
        self._settings = settings
        self._store = store
        self._logs = logs
        self._metrics = metrics
        self._is_deploying = is_deploying
        self._is_ready = is_ready
        self._one_at_a_time = asyncio.Lock()
        self._triggered = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failing: dict[str, str] = {}  # by what was tried; why
        # By app, bytes of its containers' files, while the engine's disk has too little room.
        self.written: dict[str, int] = {}
        self._is_short = False

    def start(self) -> None:
        """Start the background task."""
        self._task = asyncio.create_task(self._loop())

    async def stop(self) -> None:
        """Stop it; what it has begun is finished."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def trigger(self) -> None:
        """Take a turn soon."""
        self._triggered.set()

    async def prune(self, *, dry_run: bool = False) -> tuple[list[Pruned], bool]:
        """What was removed, or would be, and whether more is left that took too long."""
        if dry_run:
            batches = await self._batches(limit=2**31)
            return [Pruned(batch.kind, batch.sizes) for batch in batches if batch.sizes], False
        deadline = time.monotonic() + PATIENCE
        return await self._turns(lambda: time.monotonic() > deadline)

    async def make_room(self, app: str, say: Callable[[str], None]) -> None:
        """Returns when there is room for a build of this app, which has not made its image yet.

        Raises StepError, kind "disk_full", if there is none when all is removed that may be.
        """
        space = await self.disk.shortage()
        if space is None:
            return
        say(f"only {space}: pruning")
        await self._turns(lambda: False, hard=True, building=app)
        space = await self.disk.shortage()
        if space is not None:
            raise self.disk.refusal(space)

    async def _loop(self) -> None:
        while True:
            pause = INTERVAL
            try:
                async with self._one_at_a_time:
                    pruned = await self._turn()
                if pruned or await self._store.history.shrink():
                    pause = PAUSE
                await self._look_at_disk()
            except FairleadError as error:
                self._report("prune", str(error))
            except Exception:
                logger.exception("internal error while pruning")
            if pause == PAUSE:
                await self._services.pause(PAUSE)
                continue
            try:
                await asyncio.wait_for(self._triggered.wait(), pause)
            except TimeoutError:
                pass
            self._triggered.clear()

    async def _look_at_disk(self) -> None:
        """And while the engine's has less room than a build needs, at who has written how much."""
        short = None
        for space in await self.disk.look():
            self._metrics.disk_free(space.holds, space.free)
            if space.holds == ENGINE and space.free < self._settings.min_free:
                short = space
        if short is None or not self._is_ready():
            self.written = {}
            self._is_short = False
        else:
            self.written = await self._services.engine.written()
            most = sorted(self.written.items(), key=lambda each: -each[1])[:MOST]
            if most and not self._is_short:
                self._is_short = True
                who = ", ".join(f"{app} {size_text(size)}" for app, size in most)
                logger.warning(
                    "little disk is left: containers have written",
                    extra={"fields": {"free": str(short), "written": who}},
                )
        self._metrics.written(self.written)

    async def _turns(
        self, is_over: Callable[[], bool], *, hard: bool = False, building: str = ""
    ) -> tuple[list[Pruned], bool]:
        total: dict[str, Pruned] = {}
        while True:
            async with self._one_at_a_time:
                pruned = await self._turn(hard=hard, building=building)
            for each in pruned:
                total.setdefault(each.kind, Pruned(each.kind, {})).sizes.update(each.sizes)
            more = any(pruned) or await self._store.history.shrink()
            if not more or is_over():
                return list(total.values()), more

    async def _turn(self, *, hard: bool = False, building: str = "") -> list[Pruned]:
        """Remove some of each kind. What cannot be removed is said once, and tried again."""
        pruned = []
        for batch in await self._batches(TURN, hard=hard, building=building):
            if not batch.sizes:
                continue
            try:
                removed = await batch.remove()
            except (FairleadError, OSError) as error:
                self._report(batch.kind, str(error))
                continue
            self._failing.pop(batch.kind, None)
            if removed:
                sizes = {name: batch.sizes[name] for name in removed}
                pruned.append(Pruned(batch.kind, sizes))
                self._metrics.pruned(batch.kind, len(sizes), sum(sizes.values()))
        return pruned

    async def _batches(self, limit: int, *, hard: bool = False, building: str = "") -> list[Batch]:
        """`hard`: also what only makes builds faster, or failures easier to look into."""
        found = [await self._clones(limit)]
        if self._is_ready():
            tree = await self._services.engine.image_tree()
            found.append(await self._images(tree, limit, hard=hard, building=building))
            found.append(await self._cache(tree, limit, hard=hard))
        # The rows last: they say what the others belong to.
        found += [await self._old_logs(limit), await self._deploys(limit)]
        found.append(await self._deliveries(limit))
        return found

    def _report(self, what: str, reason: str) -> None:
        if self._failing.get(what) != reason:
            self._failing[what] = reason
            logger.warning(
                "cannot prune, retrying", extra={"fields": {"what": what, "err": reason}}
            )

    # Each kind

    async def _deliveries(self, limit: int) -> Batch:
        sizes = await self._store.history.old_deliveries(
            self._oldest(), self._settings.history_size, limit
        )
        return self._rows("deliveries", sizes, self._store.deliveries.remove, limit)

    async def _deploys(self, limit: int) -> Batch:
        sizes = await self._store.history.old_deploys(
            self._oldest(), self._settings.history_size, self._settings.keep_releases, limit
        )

        async def remove(numbers: Collection[int]) -> None:
            # First what only their records lead to.
            for number in numbers:
                await asyncio.to_thread(self._logs.remove, number)
            await self._store.history.remove_deploys(numbers)

        return self._rows("deploys", sizes, remove, limit)

    def _rows(
        self,
        kind: str,
        sizes: dict[int, int],
        remove: Callable[[Collection[int]], Awaitable[None]],
        limit: int,
    ) -> Batch:
        if limit == TURN:
            count = bisect_right([*accumulate(sizes.values())], TURN_BYTES)
            sizes = dict(islice(sizes.items(), max(count, 1)))

        async def remove_all() -> Collection[str]:
            await remove(sizes)
            return [*map(str, sizes)]

        return Batch(kind, {str(number): size for number, size in sizes.items()}, remove_all)

    async def _old_logs(self, limit: int) -> Batch:
        """Those that there is no room for, and old ones without a record; others go with theirs."""
        history = self._store.history
        logs = await asyncio.to_thread(self._logs.all)
        kept = await history.kept_deploys(self._settings.keep_releases)
        numbers = await history.numbers()
        oldest, total = self._oldest(), 0
        sizes: dict[int, int] = {}
        for log in sorted(logs, key=lambda each: each.deploy, reverse=True):
            total += log.size
            is_orphan = log.deploy not in numbers and log.written_at < oldest
            if log.deploy not in kept and (total > self._settings.history_size or is_orphan):
                sizes[log.deploy] = log.size
        sizes = dict(sorted(sizes.items())[:limit])

        async def remove() -> Collection[str]:
            for number in sizes:
                await asyncio.to_thread(self._logs.remove, number)
            return [*map(str, sizes)]

        return Batch("logs", {str(number): size for number, size in sizes.items()}, remove)

    async def _images(self, tree: ImageTree, limit: int, *, hard: bool, building: str) -> Batch:
        """Those of releases that nobody goes back to, and of failures that are long past."""

        def is_busy(app: str) -> bool:
            return app != building and self._is_deploying(app)

        keep = self._settings.keep_releases
        images = tree.of_instance(self._services.instance)
        going = []
        for app in {image.app for image in images if not is_busy(image.app)}:
            kept = await self._store.deploys.kept_images(app, keep, 0 if hard else keep)
            going += [image for image in images if image.app == app and image.id not in kept]
        going = sorted(going, key=lambda image: image.created)[:limit]
        freed = tree.freed(image.id for image in going)
        names = {image.tags[0] if image.tags else image.id: image for image in going}

        async def remove() -> Collection[str]:
            for image in going:
                for tag in image.tags or (image.id,):
                    if not is_busy(image.app):
                        await self._services.engine.remove_image(tag)
            left = {image.id for image in await self._services.engine.images()}
            return [name for name, image in names.items() if image.id not in left]

        return Batch("images", {name: freed[image.id] for name, image in names.items()}, remove)

    async def _cache(self, tree: ImageTree, limit: int, *, hard: bool) -> Batch:
        """Stages of builds that the newest build of no app, or only one long ago, went through."""
        stages, oldest = await self._store.history.stages(), self._oldest()
        apps = {app.name for app in await self._store.apps.all()}
        newest: dict[str, int] = {}
        for stage in stages:
            if stage.app in apps and stage.ended_at >= oldest and not hard:
                newest[stage.app] = max(newest.get(stage.app, 0), stage.deploy)
        kept = {stage.layer for stage in stages if newest.get(stage.app) == stage.deploy}
        going = tree.nameless({stage.layer for stage in stages} - kept)[:limit]
        freed = tree.freed(going)

        async def remove() -> Collection[str]:
            return going if await self._services.engine.remove_build_leftovers(going) else ()

        return Batch("cache", {layer: freed[layer] for layer in going}, remove)

    async def _clones(self, limit: int) -> Batch:
        """What deploys left that were killed, and were given up."""
        folder = self._settings.work_folder
        # Listed before the question: what is made after it is a deploy's that has just begun.
        found = await asyncio.to_thread(_list_folder, folder)
        unfinished = {str(deploy.id) for deploy in await self._store.deploys.unfinished()}
        going = [entry for entry in found if entry.name not in unfinished][:limit]
        sizes = {entry.name: await asyncio.to_thread(_size_of, entry) for entry in going}

        async def remove() -> Collection[str]:
            for entry in going:
                await asyncio.to_thread(shutil.rmtree, entry, ignore_errors=True)
            return [entry.name for entry in going if not entry.exists()]

        return Batch("clones", sizes, remove)

    def _oldest(self) -> float:
        return time.time() - self._settings.history_age


def _list_folder(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


def _size_of(folder: Path) -> int:
    """Bytes of the files in it; what goes away meanwhile has none."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(f"{parent}/{name}").st_size
    return total

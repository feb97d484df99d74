"""Owns whether a container that has started again is ready: its health path has answered since.

A deploy asks its new container before it switches. One that starts again later listens when it
pleases: until then its routes answer 503, as they do while it is down.
"""

import asyncio
from collections.abc import Callable, Collection
from typing import Final, NamedTuple

from orchestrator.deploys import http_probe
from orchestrator.engine.container import Container
from orchestrator.model import Deploy

# Seconds between two questions: doubled from the first to the last.
MIN_INTERVAL: Final = 0.05
MAX_INTERVAL: Final = 2.0
STARTING: Final = "starting: GET {path} has given no good answer yet"


class _Run(NamedTuple):
    """A container between a start and its end."""

    container: str
    started_at: str


class Restarts:
    """`statuses` are good answers; `on_ready` is called when an app has given one."""

    def __init__(self, statuses: Collection[int], on_ready: Callable[[], None]) -> None:
        self._statuses = statuses
        self._on_ready = on_ready
        self._ready: dict[str, _Run] = {}  # by app
        self._asking: dict[str, tuple[_Run, asyncio.Task[None]]] = {}  # by app

    def is_ready(self, deploy: Deploy, container: Container, *, is_served: bool) -> bool:
        """Whether the running container of a live deploy may be served; it is asked if not.

        One that `is_served` and was not seen before is: its deploy, or the process before this
        one, has asked it.
        """
        run, known = _Run(container.id, container.started_at), self._ready.get(deploy.app)
        if is_served and (known is None or known.container != run.container):
            self._ready[deploy.app] = run
            return True
        if known == run:
            return True
        asked = self._asking.get(deploy.app)
        # One that has failed for want of a descriptor, say, is begun anew with the next look.
        if asked is None or asked[0] != run or asked[1].done():
            self._give_up(deploy.app)
            asking = asyncio.create_task(self._ask(deploy, container.target or "", run))
            self._asking[deploy.app] = run, asking
        return False

    def retain(self, apps: Collection[str]) -> None:
        """Nobody needs to know of any other app whether it is ready."""
        for app in self._asking.keys() - set(apps):
            self._give_up(app)

    async def stop(self) -> None:
        """Ask no more."""
        asking = [task for _, task in self._asking.values()]
        self.retain(())
        await asyncio.gather(*asking, return_exceptions=True)

    def _give_up(self, app: str) -> None:
        if app in self._asking:
            self._asking.pop(app)[1].cancel()

    async def _ask(self, deploy: Deploy, target: str, run: _Run) -> None:
        pause = MIN_INTERVAL
        async with http_probe.client() as sender:
            while True:
                found = await http_probe.send(sender, target, deploy.health_path, deploy.domains[0])
                if found.status in self._statuses:
                    break
                await asyncio.sleep(pause)
                pause = min(2 * pause, MAX_INTERVAL)
        del self._asking[deploy.app]
        self._ready[deploy.app] = run
        self._on_ready()

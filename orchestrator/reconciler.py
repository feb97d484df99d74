"""Owns that containers and routes are what the store says, whatever happened to either.

A container that starts again gets another address, an engine that comes back has other containers
running than before, and a process that was killed leaves things half done. So the truth is looked
up anew: at the start, when the engine comes back, and when a container starts or ends.
"""

import asyncio
import logging
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from edge.errors import FairleadError
from orchestrator.deploy import App, Deploy
from orchestrator.docker_engine import Container
from orchestrator.errors import EngineUnavailableError
from orchestrator.steps.work import DeployServices
from orchestrator.store import Store

logger = logging.getLogger(__name__)

# Seconds between two looks when nothing is heard from the engine.
LOOK_INTERVAL: Final = 30.0
# Seconds between two attempts to reach an engine that is not there.
ENGINE_INTERVAL: Final = 1.0
# What containers do that can make a route wrong, or right again.
TELLING: Final = frozenset({"start", "die", "destroy"})


@dataclass(frozen=True, slots=True)
class AppFacts:
    """What is known of one app whose routes no deploy is moving."""

    app: App
    live: Deploy | None
    withdrawn: str  # why its routes were taken away; empty if they were not
    ours: Collection[str]  # targets that its deploys ever had


@dataclass(slots=True)
class Plan:
    """What is to be done."""

    remove: list[Container] = field(default_factory=list)
    targets: dict[str, str | None] = field(default_factory=dict)  # of routes, by domain
    withdrawn: dict[str, str] = field(default_factory=dict)  # apps; why, empty: they are back


def plan(
    facts: Sequence[AppFacts],
    at_work: Collection[str],
    containers: Sequence[Container],
    routes: Mapping[str, str | None],
) -> Plan:
    """What makes containers and routes agree with what is live.

    Containers of apps at work are left alone, and so are routes that `facts` says nothing of.
    """
    wanted = Plan()
    by_id = {container.id: container for container in containers}
    live = {each.app.name: each.live for each in facts}
    for container in containers:
        if container.app in at_work:
            continue
        counts = live.get(container.app)
        if counts is None or container.deploy != counts.id:
            wanted.remove.append(container)
    for each in facts:
        if each.live is None:
            _never_live(each, routes, wanted)
            continue
        domains = [
            domain
            for domain in each.app.domains
            # One that was asked for since still is whose it was: its deploy runs, or has failed.
            if domain in each.live.domains or routes.get(domain) in each.ours
        ]
        found = by_id.get(each.live.container_id)
        address = found.address(each.live.port) if found and found.is_running else None
        if address is not None:
            _point(each, domains, address, routes, wanted)
        else:
            taken = {
                target
                for other in containers
                if other.is_running and other is not found
                for target in other.ports.values()
            }
            _withdraw(each, domains, found, taken, routes, wanted)
    return wanted


def _never_live(each: AppFacts, routes: Mapping[str, str | None], wanted: Plan) -> None:
    # Others than ours are an operator's: a first deploy that failed must not take them away.
    for domain in each.app.domains:
        if routes.get(domain) in each.ours:
            wanted.targets[domain] = None


def _point(
    each: AppFacts,
    domains: Sequence[str],
    address: str,
    routes: Mapping[str, str | None],
    wanted: Plan,
) -> None:
    for domain in domains:
        target = routes.get(domain)
        # One that is not there was removed by an operator, unless we have taken it away.
        if target != address and (target is not None or each.withdrawn):
            wanted.targets[domain] = address
    if each.withdrawn:
        wanted.withdrawn[each.app.name] = ""


def _withdraw(
    each: AppFacts,
    domains: Sequence[str],
    found: Container | None,
    taken: Collection[str],
    routes: Mapping[str, str | None],
    wanted: Plan,
) -> None:
    """Take away routes to a container that does not run.

    While the engine is starting it again, only those whose address is somebody else's by now: 502
    for a moment says more to a client than a route that is not there.
    """
    coming_back = found is not None and found.state == "restarting"
    reason = "its container is gone" if found is None else f"its container is {found.state}"
    for domain in domains:
        target = routes.get(domain)
        if target is not None and (not coming_back or target in taken):
            wanted.targets[domain] = None
            wanted.withdrawn[each.app.name] = reason


class Reconciler:
    """Looks in the background.

    `is_at_work` tells the apps that a deploy is at work on: their containers are its own affair.
    Their routes are so only while it is `is_switching`: during a build of many minutes the live
    container may start again, at another address.
    `on_engine` is called when the engine answers for the first time, and again after it was away.
    """

    def __init__(
        self,
        services: DeployServices,
        store: Store,
        is_at_work: Callable[[str], bool],
        is_switching: Callable[[str], bool],
        on_engine: Callable[[], None],
    ) -> None:
        self.problem: str | None = "the engine was not asked yet"
        self._services = services
        self._store = store
        self._is_at_work = is_at_work
        self._is_switching = is_switching
        self._on_engine = on_engine
        self._wanted = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Look now, and from now on."""
        self._tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._work())]

    async def stop(self) -> None:
        """Look no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def look(self) -> None:
        """Look soon."""
        self._wanted.set()

    async def _watch(self) -> None:
        """Hear what containers do, and whether the engine is there."""
        while True:
            try:
                await self._services.engine.check()
                if self.problem is not None:
                    logger.info("the engine answers")
                    self.problem = None
                    self._on_engine()
                self.look()
                async for event in self._services.engine.events():
                    # While a deploy moves an app, all that it does to containers is heard here.
                    # A look follows its end.
                    if event.action in TELLING and not self._is_switching(event.app):
                        self.look()
            except EngineUnavailableError as error:
                if self.problem != str(error):
                    logger.error("no engine", extra={"fields": {"err": str(error)}})
                self.problem = str(error)
            except Exception:
                logger.exception("events cannot be read")
            await self._services.pause(ENGINE_INTERVAL)

    async def _work(self) -> None:
        while True:
            try:
                await asyncio.wait_for(self._wanted.wait(), LOOK_INTERVAL)
            except TimeoutError:
                pass
            self._wanted.clear()
            if self.problem is not None:
                continue
            try:
                await self.reconcile()
            except FairleadError as error:
                logger.warning("cannot reconcile now", extra={"fields": {"err": str(error)}})
            except Exception:
                logger.exception("cannot reconcile")

    async def reconcile(self) -> None:
        """Look once, and mend what is found."""
        async with self._services.routes_lock:
            wanted = await self._look()
            # Written down before: else a crash in between makes it look like an operator's doing,
            # and the routes never come back.
            await self._note({app: why for app, why in wanted.withdrawn.items() if why})
            if wanted.targets:
                await self._point(wanted.targets)
            await self._note({app: "" for app, why in wanted.withdrawn.items() if not why})
        for container in wanted.remove:
            if not self._is_at_work(container.app):
                fields = {"app": container.app, "container": container.name}
                logger.warning("orphan removed", extra={"fields": fields})
                await self._services.engine.stop(container.id, self._services.settings.stop_timeout)
                await self._services.engine.remove(container)
        await self._remove_clones()

    async def _note(self, withdrawn: Mapping[str, str]) -> None:
        for app, reason in withdrawn.items():
            logger.warning(
                "routes withdrawn" if reason else "routes are back",
                extra={"fields": {"app": app, "reason": reason}},
            )
            await self._store.note_withdrawal(app, reason)

    async def _point(self, targets: Mapping[str, str | None]) -> None:
        for domain, target in targets.items():
            fields = {"domain": domain, "target": target or "withdrawn"}
            logger.warning("route mended", extra={"fields": fields})
        # The engine gives a port that was drained away to whoever is next.
        for target in {target for target in targets.values() if target}:
            await self._services.edge.undrain(target)
        version = await asyncio.to_thread(self._services.routes.retarget, targets)
        await self._services.edge.reload(version)

    async def _look(self) -> Plan:
        """A deploy that is at work at any moment of the look makes what was read of its app a mix
        of before and after: such an app is left to the next look, which follows its end. A switch
        that begins after the look waits for `routes_lock`, and so has the last word.
        """
        apps = await self._store.apps()
        at_work = {app.name for app in apps if self._is_at_work(app.name)}
        switching = {app.name for app in apps if self._is_switching(app.name)}
        live = await self._store.live()
        facts = [
            AppFacts(
                app,
                live.get(app.name),
                await self._store.withdrawn(app.name),
                await self._store.targets(app.name),
            )
            for app in apps
        ]
        containers = await self._services.engine.containers()
        domains = [domain for app in apps for domain in app.domains]
        routes = await asyncio.to_thread(self._services.routes.targets, domains)
        now = await self._store.live()
        for name in {*live, *now}:
            if _number(live.get(name)) != _number(now.get(name)):
                at_work.add(name)
                switching.add(name)
        for name in {*(app.name for app in apps), *(each.app for each in containers)}:
            if self._is_at_work(name):
                at_work.add(name)
            if self._is_switching(name):
                switching.add(name)
        settled = [each for each in facts if each.app.name not in switching]
        return plan(settled, at_work, containers, routes)

    async def _remove_clones(self) -> None:
        """What deploys left that were killed, and were given up."""
        folder = self._services.settings.work_folder
        # Listed before the question: what is made after it is a deploy's that has just begun.
        found = await asyncio.to_thread(_entries, folder)
        unfinished = {str(deploy.id) for deploy in await self._store.unfinished()}
        for entry in found:
            if entry.name not in unfinished:
                await asyncio.to_thread(shutil.rmtree, entry, ignore_errors=True)


def _number(deploy: Deploy | None) -> int | None:
    return deploy.id if deploy else None


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []

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
from orchestrator.deploys.context import DeployServices
from orchestrator.engine.container import Container
from orchestrator.errors import EngineUnavailableError
from orchestrator.model import App, Deploy
from orchestrator.store.store import Store

logger = logging.getLogger(__name__)

# Seconds between two looks when nothing is heard from the engine.
RESYNC_INTERVAL: Final = 30.0
# Seconds between two attempts to reach an engine that is not there.
ENGINE_RETRY_INTERVAL: Final = 1.0
# What containers do that can make a route wrong, or right again.
RELEVANT_ACTIONS: Final = frozenset({"start", "die", "destroy"})


@dataclass(frozen=True, slots=True)
class AppState:
    """The state of one app whose routes no deploy is switching."""

    app: App
    live: Deploy | None
    withdrawn: str  # why its routes were taken away; empty if they were not
    own_targets: Collection[str]  # targets that its deploys ever had


@dataclass(slots=True)
class Plan:
    """The changes that make containers and routes right."""

    remove: list[Container] = field(default_factory=list)
    targets: dict[str, str | None] = field(default_factory=dict)  # of routes, by domain
    withdrawn: dict[str, str] = field(default_factory=dict)  # apps; why, empty: they are back


def plan(
    states: Sequence[AppState],
    deploying: Collection[str],
    containers: Sequence[Container],
    routes: Mapping[str, str | None],
) -> Plan:
    """What makes containers and routes agree with what is live.

    Containers of apps at work are left alone, and so are routes that `states` says nothing of.
    """
    changes = Plan()
    by_id = {container.id: container for container in containers}
    live = {each.app.name: each.live for each in states}
    for container in containers:
        if container.app in deploying:
            continue
        counts = live.get(container.app)
        if counts is None or container.deploy != counts.id:
            changes.remove.append(container)
    for each in states:
        if each.live is None:
            _never_live(each, routes, changes)
            continue
        domains = [
            domain
            for domain in each.app.domains
            # One that was asked for since still is whose it was: its deploy runs, or has failed.
            if domain in each.live.domains or routes.get(domain) in each.own_targets
        ]
        found = by_id.get(each.live.container_id)
        address = found.address(each.live.port) if found and found.is_running else None
        if address is not None:
            _point_routes(each, domains, address, routes, changes)
        else:
            taken = {
                target
                for other in containers
                if other.is_running and other is not found
                for target in other.ports.values()
            }
            _withdraw(each, domains, found, taken, routes, changes)
    return changes


def _never_live(each: AppState, routes: Mapping[str, str | None], changes: Plan) -> None:
    # Others than ours are an operator's: a first deploy that failed must not take them away.
    for domain in each.app.domains:
        if routes.get(domain) in each.own_targets:
            changes.targets[domain] = None


def _point_routes(
    each: AppState,
    domains: Sequence[str],
    address: str,
    routes: Mapping[str, str | None],
    changes: Plan,
) -> None:
    for domain in domains:
        target = routes.get(domain)
        # One that is not there was removed by an operator, unless we have taken it away.
        if target != address and (target is not None or each.withdrawn):
            changes.targets[domain] = address
    if each.withdrawn:
        changes.withdrawn[each.app.name] = ""


def _withdraw(
    each: AppState,
    domains: Sequence[str],
    found: Container | None,
    taken: Collection[str],
    routes: Mapping[str, str | None],
    changes: Plan,
) -> None:
    """Take away routes to a container that does not run.

    While the engine is starting it again, only those whose address is somebody else's by now: 502
    for a moment says more to a client than a route that is not there.
    """
    restarting = found is not None and found.state == "restarting"
    reason = "container is gone" if found is None else f"container is {found.state}"
    for domain in domains:
        target = routes.get(domain)
        if target is not None and (not restarting or target in taken):
            changes.targets[domain] = None
            changes.withdrawn[each.app.name] = reason


class Reconciler:
    """Reconciles in the background.

    `is_deploying` tells the apps that a deploy is at work on: their containers are its own affair.
    Their routes are so only while it is `is_switching`: during a build of many minutes the live
    container may start again, at another address.
    `on_engine` is called when the engine answers for the first time, and again after it was away.
    """

    def __init__(
        self,
        services: DeployServices,
        store: Store,
        is_deploying: Callable[[str], bool],
        is_switching: Callable[[str], bool],
        on_engine: Callable[[], None],
    ) -> None:
        self.unready_reason: str | None = "not connected to the Docker Engine yet"
        self._services = services
        self._store = store
        self._is_deploying = is_deploying
        self._is_switching = is_switching
        self._on_engine = on_engine
        self._triggered = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start the background tasks; the first look is now."""
        self._tasks = [
            asyncio.create_task(self._watch_events()),
            asyncio.create_task(self._reconcile_loop()),
        ]

    async def stop(self) -> None:
        """Stop the background tasks."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def trigger(self) -> None:
        """Reconcile soon."""
        self._triggered.set()

    async def _watch_events(self) -> None:
        """Follow the engine's events, and know whether it answers."""
        while True:
            try:
                await self._services.engine.ping()
                if self.unready_reason is not None:
                    logger.info("connected to the Docker Engine")
                    self.unready_reason = None
                    self._on_engine()
                self.trigger()
                async for event in self._services.engine.events():
                    # While a deploy moves an app, all that it does to containers is heard here.
                    # A look follows its end.
                    if event.action in RELEVANT_ACTIONS and not self._is_switching(event.app):
                        self.trigger()
            except EngineUnavailableError as error:
                if self.unready_reason != str(error):
                    logger.error("Docker Engine unavailable", extra={"fields": {"err": str(error)}})
                self.unready_reason = str(error)
            except Exception:
                logger.exception("cannot read events of the Docker Engine")
            await self._services.pause(ENGINE_RETRY_INTERVAL)

    async def _reconcile_loop(self) -> None:
        while True:
            try:
                await asyncio.wait_for(self._triggered.wait(), RESYNC_INTERVAL)
            except TimeoutError:
                pass
            self._triggered.clear()
            if self.unready_reason is not None:
                continue
            try:
                await self.reconcile()
            except FairleadError as error:
                logger.warning("reconcile failed, retrying", extra={"fields": {"err": str(error)}})
            except Exception:
                logger.exception("internal error while reconciling")

    async def reconcile(self) -> None:
        """Read the state once, and correct what differs."""
        async with self._services.routes_lock:
            changes = await self._plan()
            # Written down before: else a crash in between makes it look like an operator's doing,
            # and the routes never come back.
            await self._record_withdrawals(
                {app: why for app, why in changes.withdrawn.items() if why}
            )
            if changes.targets:
                await self._point_routes(changes.targets)
            await self._record_withdrawals(
                {app: "" for app, why in changes.withdrawn.items() if not why}
            )
        for container in changes.remove:
            if not self._is_deploying(container.app):
                fields = {"app": container.app, "container": container.name}
                logger.warning("removing orphaned container", extra={"fields": fields})
                await self._services.engine.stop(container.id, self._services.settings.stop_timeout)
                await self._services.engine.remove(container)
        await self._remove_clones()

    async def _record_withdrawals(self, withdrawn: Mapping[str, str]) -> None:
        for app, reason in withdrawn.items():
            logger.warning(
                "routes withdrawn" if reason else "routes restored",
                extra={"fields": {"app": app, "reason": reason}},
            )
            await self._store.apps.set_withdrawn(app, reason)

    async def _point_routes(self, targets: Mapping[str, str | None]) -> None:
        for domain, target in targets.items():
            fields = {"domain": domain, "target": target or "none"}
            logger.warning("route updated", extra={"fields": fields})
        # The engine gives a port that was drained away to whoever is next.
        for target in {target for target in targets.values() if target}:
            await self._services.edge.undrain(target)
        version = await asyncio.to_thread(self._services.routes.retarget, targets)
        await self._services.edge.reload(version)

    async def _plan(self) -> Plan:
        """A deploy that is at work at any moment of the look makes what was read of its app a mix
        of before and after: such an app is left to the next look, which follows its end. A switch
        that begins after the look waits for `routes_lock`, and so has the last word.
        """
        apps = await self._store.apps.all()
        deploying = {app.name for app in apps if self._is_deploying(app.name)}
        switching = {app.name for app in apps if self._is_switching(app.name)}
        live = await self._store.deploys.live()
        states = [
            AppState(
                app,
                live.get(app.name),
                await self._store.apps.withdrawn_reason(app.name),
                await self._store.deploys.past_targets(app.name),
            )
            for app in apps
        ]
        containers = await self._services.engine.containers()
        domains = [domain for app in apps for domain in app.domains]
        routes = await asyncio.to_thread(self._services.routes.targets, domains)
        now = await self._store.deploys.live()
        for name in {*live, *now}:
            if _deploy_id(live.get(name)) != _deploy_id(now.get(name)):
                deploying.add(name)
                switching.add(name)
        for name in {*(app.name for app in apps), *(each.app for each in containers)}:
            if self._is_deploying(name):
                deploying.add(name)
            if self._is_switching(name):
                switching.add(name)
        settled = [each for each in states if each.app.name not in switching]
        return plan(settled, deploying, containers, routes)

    async def _remove_clones(self) -> None:
        """What deploys left that were killed, and were given up."""
        folder = self._services.settings.work_folder
        # Listed before the question: what is made after it is a deploy's that has just begun.
        found = await asyncio.to_thread(_list_folder, folder)
        unfinished = {str(deploy.id) for deploy in await self._store.deploys.unfinished()}
        for entry in found:
            if entry.name not in unfinished:
                await asyncio.to_thread(shutil.rmtree, entry, ignore_errors=True)


def _deploy_id(deploy: Deploy | None) -> int | None:
    return deploy.id if deploy else None


def _list_folder(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []

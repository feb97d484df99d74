"""Owns that containers and routes are what the store says, whatever happened to either.

A container that ends is started again, unless somebody stopped it on purpose; an engine that comes
back has other containers running than before, and a process that was killed leaves things half
done. So the truth is looked up anew: at the start, when the engine comes back, and when a container
starts or ends.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from edge.boot import boot_id
from edge.errors import FairleadError
from edge.routing.store_writer import InvalidRowsError, StoredRoute
from orchestrator.deploys.backoff import RestartBackoff
from orchestrator.deploys.context import DeployServices
from orchestrator.deploys.plan import AppState, Plan, live_container, own_domains, plan
from orchestrator.deploys.restarts import STARTING, Restarts
from orchestrator.deploys.steps.start import place_container
from orchestrator.deploys.stops import STOP_WORD_TIMEOUT, End, Stops
from orchestrator.engine.container import Container
from orchestrator.errors import EngineUnavailableError, OrchestratorError
from orchestrator.model import App, Deploy, Link
from orchestrator.store.store import Store

logger = logging.getLogger(__name__)

# Seconds between two looks when nothing is heard from the engine.
RESYNC_INTERVAL: Final = 30.0
# Seconds between two attempts to reach an engine that is not there.
ENGINE_RETRY_INTERVAL: Final = 1.0
ENGINE_GONE: Final = "container ended with the Docker Engine"
# What containers do that can make a route wrong, or right again.
RELEVANT_ACTIONS: Final = frozenset({"start", "die", "stop", "destroy", "pause", "unpause"})


class Reconciler:
    """Reconciles in the background.

    `is_deploying` tells the apps that a deploy is at work on: their containers are its own affair.
    Their routes are so only while it is `is_switching`: during a build of many minutes the live
    container may end, and is started again.
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
        self._stops = Stops()
        self._backoff = RestartBackoff()
        self._restarts = Restarts(services.settings.health_status, self.trigger)
        self._failed_starts: dict[str, str] = {}  # by app; why
        self._invalid_rows: Mapping[str, str] = {}  # of routes that were to be written; why
        self._unrouted: set[tuple[str, str]] = set()  # apps, and domains that have no route
        self._has_build_leftovers = True  # of builds whose engine, or we, went away
        self._next_look = RESYNC_INTERVAL  # seconds from the last one
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
        await self._restarts.stop()

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
                self._has_build_leftovers = True
                self.trigger()
                async for event in self._services.engine.events():
                    self._stops.hear(event.action, event.id, time.monotonic())
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
            await self._suspend_ended()
            self._stops.lose()
            await self._services.pause(ENGINE_RETRY_INTERVAL)

    async def _reconcile_loop(self) -> None:
        while True:
            try:
                await asyncio.wait_for(self._triggered.wait(), self._next_look)
            except TimeoutError:
                pass
            self._triggered.clear()
            self._next_look = RESYNC_INTERVAL
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
            for app, reason in changes.down.items():
                if reason:
                    fields = {"app": app, "reason": reason}
                    logger.warning("app is down, its routes answer 503", extra={"fields": fields})
                else:
                    logger.info("app runs again", extra={"fields": {"app": app}})
                    self._failed_starts.pop(app, None)
                await self._store.apps.set_down(app, reason)
            await self._write_routes(changes)
            # While no deploy can come between: its old container is the one that is noted.
            for deploy in changes.create:
                await self._revive(deploy, None)
        await asyncio.gather(*(self._revive(*each) for each in changes.start))
        for container in changes.remove:
            if not self._is_deploying(container.app):
                fields = {"app": container.app, "container": container.name}
                logger.warning("removing orphaned container", extra={"fields": fields})
                await self._services.engine.stop(container.id, self._services.settings.stop_timeout)
                await self._services.engine.remove(container)
        if self._has_build_leftovers or self._services.engine.has_build_leftovers:
            self._has_build_leftovers = not await self._services.engine.remove_build_leftovers()
        await self._services.links.reconcile()
        await self._remove_networks()

    async def _suspend_ended(self) -> None:
        """Suspend the routes to what the engine has ended before it went away itself."""
        ended = self._stops.ended()
        if not ended:
            return
        try:
            async with self._services.routes_lock:
                live = await self._store.deploys.live()
                suspended = {
                    domain: ENGINE_GONE
                    for app in await self._store.apps.all()
                    if (deploy := live.get(app.name)) and deploy.container_id in ended
                    if not self._is_switching(app.name)
                    for domain in app.domains
                    if domain in deploy.domains
                }
                await self._write_routes(Plan(suspended=suspended))
        except FairleadError as error:
            logger.warning("cannot suspend routes", extra={"fields": {"err": str(error)}})

    async def _write_routes(self, changes: Plan) -> None:
        version = None
        # One that was drained before it became another container's of the app.
        for target in set(changes.targets.values()):
            await self._services.edge.undrain(target)
        routes = self._services.routes
        if changes.targets:
            version = await self._retarget(changes.targets)
        if changes.suspended:
            version = await asyncio.to_thread(routes.suspend, changes.suspended)
        if version is not None:
            await self._services.edge.reload(version)

    async def _retarget(self, targets: Mapping[str, str]) -> int | None:
        """Point the routes of some domains; the new version, None if there is none.

        One whose row is not valid stays as it is, and is nobody else's concern: the edge answers
        503 for it.
        """
        retarget = self._services.routes.retarget
        version = None
        try:
            version = await asyncio.to_thread(retarget, targets, boot_id())
        except InvalidRowsError as error:
            targets = {each: targets[each] for each in targets if each not in error.rows}
            if targets:
                version = await asyncio.to_thread(retarget, targets, boot_id())
            for domain, why in error.rows.items():
                if self._invalid_rows.get(domain) != why:
                    fields = {"domain": domain, "err": why}
                    logger.error("the route of an app cannot be kept", extra={"fields": fields})
            self._invalid_rows = error.rows
        for domain, target in targets.items():
            fields = {"domain": domain, "target": target}
            logger.info("route confirmed", extra={"fields": fields})
        return version

    async def _revive(self, deploy: Deploy, container: Container | None) -> None:
        """Start what should run, or make it anew; not before it is due."""
        app, now = deploy.app, time.monotonic()
        if self._is_switching(app):
            return
        pause = self._backoff.due_at(app) - now
        if pause > 0:
            self._look_in(pause)
            return
        self._backoff.note_start(app, now)
        fields: dict[str, object] = {"app": app, "container": deploy.container_name}
        noted = deploy.container_id
        try:
            if container is None:
                container = await place_container(self._services, deploy)
            if container.id != noted:
                deploy.container_id, deploy.target = container.id, container.target or ""
                await self._store.deploys.set_container(deploy)
            await self._services.links.join(container.id, serves=True)
            started = await self._services.engine.start(container.id)
            await self._services.engine.enable_restarts(container.id)
        except EngineUnavailableError:
            raise
        except OrchestratorError as error:
            fields |= {"err": str(error), "next_s": self._backoff.due_at(app) - now}
            logger.error("cannot start the container of an app", extra={"fields": fields})
            self._failed_starts[app] = str(error)
            self._look_in(self._backoff.due_at(app) - now)
            return
        self._failed_starts.pop(app, None)
        logger.warning("started the container of an app again", extra={"fields": fields})
        if not started.is_running:
            self._look_in(self._backoff.due_at(app) - now)

    def _look_in(self, seconds: float) -> None:
        self._next_look = min(self._next_look, max(seconds, 0.0))

    async def _plan(self) -> Plan:
        """A deploy that is at work at any moment of the look makes what was read of its app a mix
        of before and after: such an app is left to the next look, which follows its end. A switch
        that begins after the look waits for `routes_lock`, and so has the last word.
        """
        apps = await self._store.apps.all()
        deploying = {app.name for app in apps if self._is_deploying(app.name)}
        switching = {app.name for app in apps if self._is_switching(app.name)}
        live = await self._store.deploys.live()
        past_targets = {app.name: await self._store.deploys.past_targets(app.name) for app in apps}
        containers = await self._services.engine.containers()
        domains = [domain for app in apps for domain in app.domains]
        routes = await asyncio.to_thread(self._services.routes.routes, domains)
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
        states = []
        for app in apps:
            if app.name not in switching:
                deploy = live.get(app.name)
                found = live_container(deploy, containers) if deploy else None
                end = await self._end(app, deploy, found)
                state = AppState(
                    app,
                    deploy,
                    past_targets[app.name],
                    end,
                    self._failed_starts.get(app.name, ""),
                )
                states.append(replace(state, starting=self._starting(state, found, routes)))
        self._restarts.retain([each.app.name for each in states if each.starting])
        self._note_unrouted(states, routes)
        return plan(states, deploying, containers, routes, boot_id())

    def _note_unrouted(
        self, states: Sequence[AppState], routes: Mapping[str, StoredRoute | None]
    ) -> None:
        """Say once which live app has no route: it was removed, or went with a given-up database.

        None is made in its place: its rules, and whom they kept away, nobody knows any more.
        """
        unrouted = {
            (state.app.name, domain)
            for state in states
            if state.live is not None
            for domain in state.live.domains
            if domain in state.app.domains and routes[domain] is None
        }
        for app, domain in sorted(unrouted - self._unrouted):
            fields = {"app": app, "domain": domain}
            logger.warning(
                "a live app has no route: deploy it to make one", extra={"fields": fields}
            )
        self._unrouted = unrouted

    def _starting(
        self,
        state: AppState,
        found: Container | None,
        routes: Mapping[str, StoredRoute | None],
    ) -> str:
        """Why the container of an app is not to be served yet, if it runs."""
        live = state.live
        if live is None or found is None or not found.is_running or found.target is None:
            return ""
        confirmed = StoredRoute(found.target, boot_id(), "")
        domains = own_domains(state.app, live, state.own_targets, routes)
        is_served = not domains or any(routes[domain] == confirmed for domain in domains)
        if self._restarts.is_ready(live, found, is_served=is_served):
            return ""
        return STARTING.format(path=live.health_path)

    async def _end(self, app: App, live: Deploy | None, found: Container | None) -> End:
        """Why the container of an app does not run, if it does not.

        What was stopped on purpose is written down: it stays so when the engine has forgotten it.
        """
        if found is not None and found.is_running:
            self._stops.see_running(found.id)
        if live is None or (found is not None and found.is_running):
            if app.stopped:
                await self._store.apps.set_stopped(app.name, "")
            return End.DIED
        if app.stopped and app.stopped == live.container_id:
            return End.STOPPED
        if found is None:
            return End.DIED
        end = self._stops.end(found.id, time.monotonic())
        if end is End.UNKNOWN:
            self._look_in(STOP_WORD_TIMEOUT)
        elif end is End.STOPPED:
            # By the engine itself, if it is about to end.
            await self._services.engine.connect()
            await self._store.apps.set_stopped(app.name, found.id)
        return end

    async def _remove_networks(self) -> None:
        """Those of apps that are gone, with what they had."""
        holders = await self._store.leases.holders()
        apps = {app.name for app in await self._store.apps.all()}
        used = {each.app for each in await self._services.engine.containers()}
        for app in holders - apps - used:
            if not Link.is_holder(app) and not self._is_deploying(app):
                await self._services.networks.remove(app)


def _deploy_id(deploy: Deploy | None) -> int | None:
    return deploy.id if deploy else None

"""Owns which deploy runs when: one at a time per app, a bounded number of builds, the newest wins.

The queue is the table of deploys itself; what is here is only what runs in this process.
"""

import asyncio
import dataclasses
import logging
from typing import Final

from edge.errors import FairleadError, StoreError
from orchestrator.deploys.context import DeployServices
from orchestrator.deploys.log import DeployLogs
from orchestrator.deploys.pipeline import Interrupted, Pipeline
from orchestrator.deploys.plan import own_domains
from orchestrator.deploys.pruner import Pruned, Pruner
from orchestrator.deploys.reconciler import Reconciler
from orchestrator.errors import EngineUnavailableError, RefusedError
from orchestrator.logging import deploy_id
from orchestrator.metrics import Metrics
from orchestrator.model import App, Deploy, DeployRequest, DeployState, Link
from orchestrator.security.redact import Redactor
from orchestrator.store.store import Store

logger = logging.getLogger(__name__)

# Seconds after which work that could not be written down, as on a full disk, is tried again.
RETRY_AFTER: Final = 5.0
REMOVED: Final = "app {app} was removed: deploy it again, or `fairlead route rm` the route"


class DeployQueue:
    """The queue of deploys. `start` it first; every method but `stop` may raise StoreError."""

    def __init__(
        self,
        services: DeployServices,
        store: Store,
        logs: DeployLogs,
        redactor: Redactor,
        metrics: Metrics,
    ) -> None:
        self.logs = logs
        self._services = services
        self._store = store
        self._metrics = metrics
        self._pruner = Pruner(
            services,
            store,
            logs,
            metrics,
            self._is_deploying,
            lambda: self._reconciler.unready_reason is None,
        )
        self._pipeline = Pipeline(
            services, store, logs, redactor, metrics, self._pruner, lambda: self._stopping
        )
        self._reconciler = Reconciler(
            services, store, self._is_deploying, self._is_switching, self._on_engine
        )
        self._stopping = False
        self._queued: dict[int, Deploy] = {}  # by number: in order
        self._running: dict[str, Deploy] = {}  # by app
        self._building: set[int] = set()
        self._submitting: list[str] = []  # apps, each once for each deploy that is being written
        self._removing: set[str] = set()  # apps
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Condition()

    async def start(self) -> None:
        """Resume the deploys that the last process left, and start the reconciler."""
        for deploy in await self._store.deploys.unfinished():
            self._queued[deploy.id] = deploy
        self._reconciler.start()
        self._pruner.start()
        self._schedule()

    async def stop(self) -> None:
        """Take no new work; returns when the running steps are done. The rest waits for a start."""
        self._stopping = True
        await self._reconciler.stop()
        await self._pruner.stop()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        async with self._changed:
            self._changed.notify_all()

    async def submit(self, request: DeployRequest) -> Deploy:
        """Queue a deploy. Raises RefusedError if the app or the domain is another's."""
        if self._stopping:
            raise RefusedError("the orchestrator is shutting down: try again in a moment", 503)
        if request.app in self._removing:
            raise RefusedError(f"app {request.app} is being removed: try again in a moment", 409)
        if request.domain and request.domain == self._services.settings.addr.host.lower():
            raise RefusedError(f"domain {request.domain} is the host name of the orchestrator", 409)
        # The app must not be removed between this and what follows the next turn of the loop.
        self._submitting.append(request.app)
        try:
            return await self._submit(request)
        finally:
            self._submitting.remove(request.app)

    async def _submit(self, request: DeployRequest) -> Deploy:
        app = await self._store.apps.get(request.app)
        health_path = request.health_path or (app.health_path if app else "")
        running = self._running.get(request.app)
        deploy = await self._store.deploys.add(
            request,
            health_path or self._services.settings.health_path,
            started=running.id if running else None,
        )
        for older in [each for each in self._queued.values() if each.app == deploy.app]:
            # One that was begun before a restart counts as running: it is finished first.
            if older.state is DeployState.QUEUED:
                del self._queued[older.id]
                self._metrics.deploy_finished(older.app, DeployState.SUPERSEDED.value)
        self._queued[deploy.id] = deploy
        self._schedule()
        await self._notify()
        return dataclasses.replace(deploy)

    async def branch_for(self, app: str, default_branch: str) -> str:
        """The branch that the app deploys from; empty if any will do, for its first deploy."""
        known = await self._store.apps.get(app)
        return default_branch or (known.branch if known else "")

    async def wait(self, number: int, seconds: float) -> Deploy:
        """The deploy as it is when it has ended, or when the time is over."""
        try:
            async with asyncio.timeout(seconds), self._changed:
                while (deploy := await self._deploy(number)) and not deploy.state.is_final:
                    if self._stopping:
                        break
                    await self._changed.wait()
        except TimeoutError:
            pass
        return await self._deploy(number)

    async def cancel(self, number: int) -> Deploy:
        """End a deploy that waits, or that runs and is not switched yet. Raises RefusedError."""
        deploy = await self._deploy(number)
        if deploy.state.is_final:
            raise RefusedError(
                f"deploy {number} has already finished: it is {deploy.state.value}", 409
            )
        running = self._running.get(deploy.app)
        if running is not None and running.id == number:
            if running.is_switching:
                raise RefusedError(
                    f"deploy {number} cannot be cancelled any more: its routes are switched", 409
                )
            self._pipeline.cancel(running)
            return await self.wait(number, self._services.settings.stop_timeout + 30.0)
        interrupted = self._queued.get(number)
        if interrupted is not None and interrupted.state is DeployState.RUNNING:
            # It goes on after a restart as soon as there is room, and is undone then.
            if interrupted.is_switching:
                raise RefusedError(
                    f"deploy {number} cannot be cancelled any more: its routes are switched", 409
                )
            self._pipeline.cancel(interrupted)
            return await self.wait(number, self._services.settings.stop_timeout + 30.0)
        queued = self._queued.pop(number, None)
        if queued is not None:
            queued.state = DeployState.CANCELLED
            await self._store.deploys.finish(queued)
            self._metrics.deploy_finished(queued.app, queued.state.value)
            await self._notify()
        return await self._deploy(number)

    async def link(self, link: Link) -> bool:
        """Let one app reach another; whether it does by now, as it cannot without the engine.

        Raises RefusedError, or what keeps its network from being made.
        """
        for app in link:
            if app in self._removing:
                raise RefusedError(f"app {app} is being removed", 409)
        await self._store.links.add(link)
        return await self._apply_links()

    async def unlink(self, link: Link) -> bool:
        """End that; whether it has ended by now. Raises RefusedError where it is not so."""
        if not await self._store.links.remove(link):
            raise RefusedError(f"{link.app} is not linked to {link.to}: see `fairlead apps`", 404)
        return await self._apply_links()

    async def _apply_links(self) -> bool:
        try:
            await self._services.links.reconcile()
        except EngineUnavailableError as error:
            # The reconciler does it as soon as the engine answers.
            logger.warning("links are not applied yet", extra={"fields": {"err": str(error)}})
            return False
        return True

    async def remove_app(self, app: str) -> None:
        """Withdraw the routes of an app, forget it, remove what it ran. Raises RefusedError.

        The routes keep their rules and answer 503: the app may come back, and its hosts are not for
        a wider route to take.
        """
        if app in self._removing:
            raise RefusedError(f"app {app} is being removed already", 409)
        if (
            app in self._running
            or app in self._submitting
            or any(each.app == app for each in self._queued.values())
        ):
            raise RefusedError(f"a deploy of {app} is in progress: cancel it first", 409)
        # Neither a push nor the reconciler may bring back what is being taken away.
        self._removing.add(app)
        try:
            known = await self._store.apps.get(app)
            if known is None:
                raise RefusedError(f"no such app: {app}", 404)
            await self._remove(known)
        finally:
            self._removing.discard(app)

    async def _remove(self, known: App) -> None:
        app, settings = known.name, self._services.settings
        routes = self._services.routes
        own_targets = await self._store.deploys.past_targets(app)
        async with self._services.routes_lock:
            live = (await self._store.deploys.live()).get(app)
            stored = await asyncio.to_thread(routes.routes, known.domains)
            own = own_domains(known, live, own_targets, stored)
            if own:
                reasons = dict.fromkeys(own, REMOVED.format(app=app))
                version = await asyncio.to_thread(routes.suspend, reasons)
            else:
                # Its routes may be in a database that is lost for now: a change finds that out.
                version = await asyncio.to_thread(routes.restore, {})
        await self._services.edge.reload(version)
        for target in {route.target for domain in own if (route := stored[domain])}:
            await self._services.edge.drain(
                target, settings.drain_timeout, settings.tunnel_drain_timeout
            )
        # Before the app: another one of its name inherits none.
        await self._store.links.remove_app(app)
        await self._store.apps.remove(app)
        for container in await self._services.engine.containers(app):
            await self._services.engine.stop(container.id, settings.stop_timeout)
            await self._services.engine.remove(container)
        await self._services.networks.remove(app)
        await self._services.links.reconcile()
        for image in await self._services.engine.images():
            if image.app == app:
                for name in image.tags or (image.id,):
                    await self._services.engine.remove_image(name)
        logger.info("app removed", extra={"fields": {"app": app}})

    async def prune(self, *, dry_run: bool) -> tuple[list[Pruned], bool]:
        """Remove what is too old or too much, or say what would go; whether more is left."""
        return await self._pruner.prune(dry_run=dry_run)

    def written(self) -> dict[str, int]:
        """By app, bytes that its containers have written, while the engine's disk is short."""
        return self._pruner.written

    def queued(self) -> int:
        """Number of deploys in the queue."""
        return len(self._queued)

    def running(self) -> int:
        """Number of running deploys."""
        return len(self._running)

    def unready_reason(self) -> str | None:
        """Why deploys cannot run now; None if they can."""
        return self._reconciler.unready_reason

    # The queue

    async def _deploy(self, number: int) -> Deploy:
        deploy = await self._store.deploys.get(number)
        if deploy is None:
            raise RefusedError(f"no such deploy: {number}", 404)
        return deploy

    def _is_deploying(self, app: str) -> bool:
        return app in self._removing or bool(self._in_progress(app))

    def _is_switching(self, app: str) -> bool:
        return app in self._removing or any(each.is_switching for each in self._in_progress(app))

    def _in_progress(self, app: str) -> list[Deploy]:
        """Deploys that run, or ran before a restart and are to be resumed."""
        in_progress = (
            *self._running.values(),
            *(each for each in self._queued.values() if each.state is DeployState.RUNNING),
        )
        return [each for each in in_progress if each.app == app]

    def _on_engine(self) -> None:
        self._schedule()
        self._pruner.trigger()

    def _schedule(self) -> None:
        """Start the deploys that may run now."""
        blocked: set[str] = set()  # apps
        for deploy in sorted(self._queued.values(), key=lambda each: each.id):
            if self._stopping or len(self._building) >= self._services.settings.builds:
                return
            if deploy.app in self._running or deploy.app in blocked:
                continue
            if deploy.state is DeployState.RUNNING and self._reconciler.unready_reason is not None:
                # After a reboot the engine may come later than we do. Without it, what was begun
                # could neither be finished nor undone.
                blocked.add(deploy.app)
                continue
            del self._queued[deploy.id]
            self._running[deploy.app] = deploy
            self._building.add(deploy.id)
            task = asyncio.create_task(self._run(deploy))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, deploy: Deploy) -> None:
        deploy_id.set(deploy.id)  # for every line that is logged from here

        def on_built() -> None:
            self._building.discard(deploy.id)
            self._schedule()

        retry = False
        try:
            await self._pipeline.run(deploy, on_built)
        except Interrupted:
            logger.info(
                "deploy interrupted by shutdown, it resumes at the next start",
                extra={"fields": {"app": deploy.app}},
            )
        except (StoreError, EngineUnavailableError) as error:
            logger.error(
                "deploy cannot continue, retrying",
                extra={"fields": {"app": deploy.app, "err": str(error)}},
            )
            retry = True
        except Exception:
            logger.exception(
                "internal error in a deploy, retrying", extra={"fields": {"app": deploy.app}}
            )
            retry = True
        if retry and not self._stopping:
            # Its attempts are counted, so that it does not go on for ever.
            await self._services.pause(RETRY_AFTER)
            reloaded = await self._reload(deploy)
            if not reloaded.state.is_final:
                self._queued[deploy.id] = reloaded
        self._building.discard(deploy.id)
        del self._running[deploy.app]
        self._schedule()
        self._reconciler.trigger()
        self._pruner.trigger()
        await self._notify()

    async def _reload(self, deploy: Deploy) -> Deploy:
        try:
            return await self._deploy(deploy.id)
        except FairleadError:
            # Whatever this process makes of it, that is how it is written down.
            return dataclasses.replace(deploy, state=DeployState.RUNNING)

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

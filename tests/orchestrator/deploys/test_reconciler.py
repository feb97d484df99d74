"""What the reconciler does to real containers and routes while deploys begin and end beside it."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import docker
import pytest

from edge.boot import boot_id
from edge.routing.store_writer import RouteWriter
from orchestrator.deploys.app_links import AppLinks
from orchestrator.deploys.app_networks import AppNetworks
from orchestrator.deploys.context import DeployServices
from orchestrator.deploys.reconciler import Reconciler
from orchestrator.deploys.steps.start import place_container
from orchestrator.edge_client import EdgeClient
from orchestrator.engine.container import Container
from orchestrator.engine.engine import Engine
from orchestrator.model import Deploy, DeployRequest, DeployState, Step, StepRecord
from orchestrator.security.redact import Redactor
from orchestrator.settings import load
from orchestrator.source.git import Git
from orchestrator.store.database import Database
from orchestrator.store.deploys import Deploys
from orchestrator.store.store import Store
from tests.orchestrator.docker_engine import app_subnets
from tests.orchestrator.workshop import context


class Place:
    """A store, an engine and routes; `deploys` stands for what the queue is at work on."""

    def __init__(self, store: Store, services: DeployServices) -> None:
        self.store = store
        self.services = services
        self.at_work: set[str] = set()
        is_at_work = self.at_work.__contains__
        self.reconciler = Reconciler(services, store, is_at_work, is_at_work, lambda: None)

    async def begins(self, app: str) -> tuple[Deploy, Container]:
        """A deploy whose container runs, and to which no route points yet."""
        request = DeployRequest(app, "cli", app, f"https://git.test/{app}", commit="a" * 40)
        deploy = await self.store.deploys.add(request, "/")
        self.at_work.add(app)
        deploy.state, deploy.port = DeployState.RUNNING, 8080
        deploy.image_id = deploy.image_tag = f"{self.store.instance}/app:1"
        deploy.container_name = f"{self.store.instance}-{deploy.id}"
        container = await place_container(self.services, deploy)
        deploy.target = container.target or ""
        await self.services.engine.start(container.id)
        await self.store.deploys.save(deploy)
        return deploy, container

    async def looks(self) -> None:
        """The reconciler, when all containers that it waits for are ready."""
        await asyncio.gather(*(task for _, task in self.reconciler._restarts._asking.values()))
        await self.reconciler.reconcile()

    async def ends(self, deploy: Deploy) -> None:
        """It is live."""
        record = StepRecord(deploy.id, Step.SWITCH, "done", 1.0, 2.0)
        await self.store.deploys.set_live(deploy, record)
        deploy.state = DeployState.LIVE
        await self.store.deploys.finish(deploy)
        self.at_work.discard(deploy.app)


@asynccontextmanager
async def place(
    folder: Path, engine_host: str, kind: type[Store] = Store, **flags: str
) -> AsyncIterator[Place]:
    """Everything of it goes at the end."""
    given = {
        "db": str(folder / "fairlead.db"),
        "network": "fairlead-test",
        "app_subnets": app_subnets(engine_host),
        **flags,
    }
    settings = load(given, {})
    store = await kind.open(settings.state_path, settings.db)
    engine = Engine(store.instance, Redactor(), engine_host)
    networks = AppNetworks(settings, engine, store.leases)
    services = DeployServices(
        settings=settings,
        instance=store.instance,
        engine=engine,
        apps=store.apps,
        networks=networks,
        links=AppLinks(engine, networks, store),
        git=Git(timeout=10, max_bytes=2**20, submodules=False, redactor=Redactor()),
        edge=EdgeClient(settings.control_path),
        routes=RouteWriter(settings.db),
        routes_lock=asyncio.Lock(),
    )
    tag = f"{store.instance}/app:1"
    try:
        await engine.build(
            context(
                "FROM busybox:latest\nRUN mkdir /www && echo ok > /www/index.html\n"
                'CMD ["httpd", "-f", "-p", "8080", "-h", "/www"]\n'
            ),
            tag=tag,
            dockerfile="Dockerfile",
            labels={},
            memory=64 * 1024 * 1024,
            cpus=1.0,
            timeout=60.0,
            on_line=lambda line: None,
        )
        yield Place(store, services)
    finally:
        for container in await engine.containers():
            await engine.remove(container)
        for app in await store.leases.holders():
            await services.networks.remove(app)
        await engine.remove_image(tag)
        await engine.close()
        await store.close()


class SlowDeploys(Deploys):
    """Deploys of which something happens while one question waits for its answer."""

    meanwhile: Callable[[], Coroutine[Any, Any, None]] | None = None

    async def past_targets(self, app: str) -> set[str]:
        if self.meanwhile is not None:
            happens, self.meanwhile = self.meanwhile, None
            await happens()
        return await super().past_targets(app)


class SlowStore(Store):
    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.deploys: SlowDeploys = SlowDeploys(database, self.credentials)


def test_a_deploy_that_ends_during_a_look_keeps_its_container(
    tmp_path: Path, engine_host: str
) -> None:
    async def scene() -> None:
        async with place(tmp_path, engine_host, SlowStore) as here:
            assert isinstance(here.store, SlowStore)
            other, _ = await here.begins("a-first-in-order")
            await here.ends(other)
            deploy, container = await here.begins("app")
            here.store.deploys.meanwhile = lambda: here.ends(deploy)
            await here.reconciler.reconcile()
            assert await here.services.engine.inspect(container.id) is not None

    asyncio.run(scene())


def test_a_deploy_that_begins_and_ends_during_a_look_keeps_its_container(
    tmp_path: Path, engine_host: str
) -> None:
    async def scene() -> None:
        async with place(tmp_path, engine_host, SlowStore) as here:
            assert isinstance(here.store, SlowStore)
            first, old = await here.begins("app")
            await here.ends(first)
            made: list[Container] = []

            async def meanwhile() -> None:
                second, container = await here.begins("app")
                made.append(container)
                await here.ends(second)

            here.store.deploys.meanwhile = meanwhile
            await here.reconciler.reconcile()
            assert await here.services.engine.inspect(made[0].id) is not None
            await here.reconciler.reconcile()
            assert await here.services.engine.inspect(old.id) is None

    asyncio.run(scene())


def test_a_row_that_is_not_valid_is_no_concern_of_other_apps(
    tmp_path: Path, engine_host: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As a newer version wrote it, say: no route of any app was given back after a restart."""

    async def scene() -> None:
        async with place(tmp_path, engine_host) as here:
            routes = here.services.routes
            for app in ("newer", "other"):
                deploy, _ = await here.begins(app)
                await here.ends(deploy)
                routes.retarget({f"{app}.local": deploy.target}, boot="earlier")
            with closing(sqlite3.connect(here.services.settings.db)) as connection, connection:
                connection.execute(
                    """UPDATE proxy_routes SET options = '{"later": 1}'"""
                    " WHERE domain = 'newer.local'"
                )
            for _ in range(3):
                await here.looks()
            found = routes.routes(["newer.local", "other.local"])
            assert {domain: route and route.boot for domain, route in found.items()} == {
                "newer.local": "",
                "other.local": boot_id(),
            }

    asyncio.run(scene())
    said = [each for each in caplog.records if "cannot be kept" in each.getMessage()]
    assert len(said) == 1
    assert "'later' is unknown" in str(vars(said[0])["fields"])


def test_a_live_app_without_a_route_is_said_once_and_gets_none(
    tmp_path: Path, engine_host: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its rules went with it, and whom they kept away would come in."""

    async def scene() -> None:
        async with place(tmp_path, engine_host) as here:
            routes = here.services.routes
            for app in ("lost", "kept"):
                deploy, _ = await here.begins(app)
                await here.ends(deploy)
                routes.retarget({f"{app}.local": deploy.target}, boot=boot_id())
            routes.remove("lost.local")
            for _ in range(3):
                await here.looks()
            found = routes.routes(["lost.local", "kept.local"])
            assert [found["lost.local"] is None, found["kept.local"] is None] == [True, False]

    asyncio.run(scene())
    said = [each for each in caplog.records if "no route" in each.getMessage()]
    assert [vars(each)["fields"] for each in said] == [{"app": "lost", "domain": "lost.local"}]


def test_a_container_that_starts_again_is_served_when_its_health_path_answers(
    tmp_path: Path, engine_host: str
) -> None:
    """It listens at once, and is not ready: its host got whatever it said."""

    async def scene() -> None:
        async with place(tmp_path, engine_host) as here:
            engine, routes = here.services.engine, here.services.routes

            def why() -> str:
                route = routes.routes(["app.local"])["app.local"]
                assert route is not None
                return route.unavailable

            deploy, container = await here.begins("app")
            await here.ends(deploy)
            routes.retarget({"app.local": deploy.target}, boot_id())
            await here.reconciler.reconcile()
            assert why() == ""
            with closing(docker.DockerClient(engine_host)) as client:
                found = client.containers.get(container.id)
                found.exec_run(["mv", "/www/index.html", "/www/later.html"])
                await engine.stop(container.id, 0)
                await engine.start(container.id)
                for _ in range(2):
                    await here.reconciler.reconcile()
                    assert why() == "starting: GET / has given no good answer yet"
                found.exec_run(["mv", "/www/later.html", "/www/index.html"])
            await here.looks()
            assert why() == ""
            await here.reconciler.stop()

    asyncio.run(scene())

"""What the pruner says and removes, on a real engine and store, alone and beside deploys."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from orchestrator.deploys.log import DeployLogs
from orchestrator.deploys.pruner import Pruned, Pruner
from orchestrator.engine.container import LABEL_APP
from orchestrator.metrics import Metrics
from orchestrator.model import Deploy, DeployState, Step, StepRecord
from orchestrator.security.redact import Redactor
from orchestrator.store.store import Store
from tests.orchestrator.deploys.test_reconciler import Place, place
from tests.orchestrator.store.opened import request
from tests.orchestrator.workshop import context

KIB = 1024
_DOCKERFILE = """FROM busybox:latest AS made
RUN head -c {half} /dev/urandom > /made && echo {number}
FROM busybox:latest
RUN head -c {size} /dev/urandom > /own && echo {number}
COPY --from=made /bin/true /bin/checked
"""


class Workplace:
    """Deploys of an app that have ended, with their images, and a pruner that is asked only."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.deploying: set[str] = set()
        services = place.services
        self.logs = DeployLogs(services.settings.logs_folder, Redactor())
        self.metrics = Metrics()
        self.pruner = Pruner(
            *(services, place.store, self.logs, self.metrics),
            self.deploying.__contains__,
            lambda: True,
        )

    async def deploys(self, state: DeployState = DeployState.LIVE) -> str:
        """One with an image of 256 KiB and a stage of 128 KiB; the image's id."""
        store, engine = self.place.store, self.place.services.engine
        deploy = await store.deploys.add(request(), "/")
        deploy.state, deploy.image_tag = DeployState.RUNNING, f"{store.instance}/app:{deploy.id}"
        built = await engine.build(
            context(_DOCKERFILE.format(half=128 * KIB, size=256 * KIB, number=deploy.id)),
            tag=deploy.image_tag,
            dockerfile="Dockerfile",
            labels={LABEL_APP: "app"},
            memory=64 * KIB**2,
            cpus=1.0,
            timeout=60.0,
            on_line=lambda line: None,
        )
        deploy.image_id = built.id
        assert len(built.stages) == 1
        detail = {"stages": [*built.stages]}
        record = StepRecord(deploy.id, Step.BUILD, "done", 1.0, 2.0, "", detail)
        await store.deploys.save(deploy, record)
        if state is DeployState.LIVE:
            await store.deploys.set_live(deploy, record)
        deploy.state = state
        await store.deploys.finish(deploy)
        log = self.logs.open(deploy.id)
        log.write("build", "a line")
        log.close()
        return built.id

    async def images(self) -> set[str]:
        return {image.id for image in await self.place.services.engine.images()}

    async def says(self) -> dict[str, Pruned]:
        """What would go."""
        pruned, more = await self.pruner.prune(dry_run=True)
        assert not more
        return {each.kind: each for each in pruned}

    async def prunes(self) -> dict[str, Pruned]:
        """What went."""
        pruned, more = await self.pruner.prune()
        assert not more
        return {each.kind: each for each in pruned}


@asynccontextmanager
async def workplace(folder: Path, engine_host: str, **flags: str) -> AsyncIterator[Workplace]:
    async with place(folder, engine_host, Store, **flags) as found:
        work = Workplace(found)
        for image in await found.services.engine.images():  # what `place` makes is no deploy's
            await found.services.engine.remove_image(image.id)
        try:
            yield work
        finally:
            for image in await found.services.engine.images():
                for tag in image.tags:
                    await found.services.engine.remove_image(tag)


def test_a_dry_run_says_what_goes_and_removes_nothing(tmp_path: Path, engine_host: str) -> None:
    async def scenario() -> None:
        async with workplace(tmp_path, engine_host, keep_releases="1") as work:
            images = [await work.deploys() for _ in range(2)]
            clone = work.place.services.settings.work_folder / "77"
            await asyncio.to_thread(clone.mkdir, parents=True)
            await asyncio.to_thread((clone / "file").write_bytes, bytes(1000))
            work.deploying.add("app")
            assert "images" not in await work.says()
            work.deploying.clear()
            said = await work.says()
            assert {*images} <= await work.images()
            assert said.keys() == {"images", "cache", "clones"}
            assert said["clones"].sizes == {"77": 1000}
            (size,) = said["images"].sizes.values()
            assert size > 256 * KIB  # with the file that it copies
            (size,) = said["cache"].sizes.values()
            assert 128 * KIB <= size <= 140 * KIB
            went = await work.prunes()
            assert {kind: each.sizes for kind, each in went.items()} == {
                kind: each.sizes for kind, each in said.items()
            }
            found = await work.images()
            assert images[1] in found
            assert images[0] not in found
            assert not await asyncio.to_thread(clone.exists)
            assert await work.says() == {}
            assert b'fairlead_pruned_items_total{kind="images"} 1.0' in work.metrics.render()
            assert b'fairlead_pruned_bytes_total{kind="clones"} 1000.0' in work.metrics.render()

    asyncio.run(scenario())


def test_what_is_old_goes_but_for_what_is_live_or_gone_back_to(
    tmp_path: Path, engine_host: str
) -> None:
    async def scenario() -> None:
        flags = {"keep_releases": "1", "history_age": "0.001"}
        async with workplace(tmp_path, engine_host, **flags) as work:
            for state in (DeployState.LIVE, DeployState.FAILED, DeployState.LIVE):
                await work.deploys(state)
            store = work.place.store
            delivery, _ = await store.deliveries.add("github", "1", "push", {}, bytes(1000))
            await store.deliveries.set_decision(delivery.id, "ignored", "", 200)
            await work.prunes()
            assert await store.history.numbers() == {3}
            assert [log.deploy for log in work.logs.all()] == [3]
            assert await store.deliveries.page() == []
            # The stage of the newest build is too old as well; its image is live.
            assert await work.says() == {}
            assert len(await work.images()) == 1

    asyncio.run(scenario())


def test_the_clone_of_a_deploy_that_begins_meanwhile_stays(
    tmp_path: Path, engine_host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scene() -> None:
        async with workplace(tmp_path, engine_host) as work:
            store, folder = work.place.store, work.place.services.settings.work_folder
            (folder / "999").mkdir(parents=True)
            unfinished = store.deploys.unfinished

            async def slowly() -> list[Deploy]:
                monkeypatch.setattr(store.deploys, "unfinished", unfinished)
                found = await unfinished()
                deploy = await store.deploys.add(request(), "/")
                (folder / str(deploy.id)).mkdir()
                return found

            monkeypatch.setattr(store.deploys, "unfinished", slowly)
            assert [*(await work.prunes())["clones"].sizes] == ["999"]
            assert [entry.name for entry in folder.iterdir()] == ["1"]

    asyncio.run(scene())

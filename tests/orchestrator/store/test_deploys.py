"""The queue of deploys, which of them is live, and what survives a restart."""

from pathlib import Path

from orchestrator.model import DeployState, Step, StepRecord
from orchestrator.store.store import Store
from tests.orchestrator.store.opened import in_store, request


class TestDeploys:
    def test_a_newer_push_replaces_those_that_wait_and_says_so(self, db: Path) -> None:
        async def use(store: Store) -> None:
            running = await store.deploys.add(request(credentials="u:p"), "/")
            running.state = DeployState.RUNNING
            await store.deploys.save(running)
            waiting = await store.deploys.add(request(credentials="u:p"), "/")
            other = await store.deploys.add(request("other"), "/")
            newest = await store.deploys.add(request(), "/")
            found = {each.id: each for each in await store.deploys.page()}
            assert found[running.id].state is DeployState.RUNNING
            assert found[waiting.id].state is DeployState.SUPERSEDED
            assert found[waiting.id].superseded_by == newest.id
            assert found[waiting.id].credentials == ""
            assert found[other.id].state is DeployState.QUEUED
            assert [each.id for each in await store.deploys.unfinished()] == [
                running.id,
                other.id,
                newest.id,
            ]

        in_store(db, use)

    def test_what_is_saved_is_there_after_a_restart(self, db: Path) -> None:
        async def write(store: Store) -> None:
            deploy = await store.deploys.add(request(allow_file=True), "/up")
            deploy.step, deploy.target = Step.START, "127.0.0.1:1"
            deploy.cutover = {"workers": 2}
            record = StepRecord(deploy.id, Step.START, "running", 5.0, detail={"a": [1]})
            await store.deploys.save(deploy, record)

        async def read(store: Store) -> None:
            deploy = await store.deploys.get(1)
            assert deploy is not None
            assert (deploy.step, deploy.target, deploy.cutover, deploy.allow_file) == (
                Step.START,
                "127.0.0.1:1",
                {"workers": 2},
                True,
            )
            assert await store.deploys.steps(1) == [
                StepRecord(1, Step.START, "running", 5.0, detail={"a": [1]})
            ]

        in_store(db, write)
        in_store(db, read)

    def test_a_live_deploy_retires_the_one_before_and_one_that_fails_gives_it_back(
        self, db: Path
    ) -> None:
        async def use(store: Store) -> None:
            for _ in range(2):
                deploy = await store.deploys.add(request(credentials="u:p"), "/")
                deploy.state = DeployState.RUNNING
                record = StepRecord(deploy.id, Step.SWITCH, "running", 1.0)
                await store.deploys.save(deploy, record)
                await store.deploys.set_live(deploy, record)
                deploy.state = DeployState.LIVE
                await store.deploys.finish(deploy)
            assert [each.state for each in await store.deploys.page()] == [
                DeployState.LIVE,
                DeployState.RETIRED,
            ]
            assert (await store.deploys.live())["app"].id == 2
            third = await store.deploys.add(request(), "/")
            record = StepRecord(third.id, Step.SWITCH, "running", 1.0)
            await store.deploys.set_live(third, record)
            assert (await store.deploys.live())["app"].id == 3
            await store.deploys.revert_live(third)
            assert (await store.deploys.live())["app"].id == 2
            assert all(each.credentials == "" for each in await store.deploys.page())

        in_store(db, use)

    def test_credentials_are_in_no_answer(self, db: Path) -> None:
        async def use(store: Store) -> None:
            deploy = await store.deploys.add(request(credentials="user:s3cret"), "/")
            assert "s3cret" not in str(deploy.as_json()) + str(deploy.result_json())

        in_store(db, use)

    def test_one_that_was_just_taken_out_of_the_queue_is_not_superseded(self, db: Path) -> None:
        async def use(store: Store) -> None:
            started = await store.deploys.add(request(), "/")
            await store.deploys.add(request(), "/", started=started.id)
            found = await store.deploys.get(started.id)
            assert found is not None
            assert found.state is DeployState.QUEUED

        in_store(db, use)

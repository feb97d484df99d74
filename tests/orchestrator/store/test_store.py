"""What the orchestrator remembers: who owns what, which delivery was first, and what survives."""

import asyncio
import sqlite3
import stat
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from edge.errors import StoreError
from edge.routing.store_reader import RouteReader
from edge.routing.store_writer import RouteWriter
from orchestrator.errors import RefusedError
from orchestrator.model import DeployRequest, DeployState, Step, StepRecord
from orchestrator.store.store import Store


def request(app: str = "app", **fields: Any) -> DeployRequest:
    """A push to the repository of `app`."""
    given: dict[str, Any] = {
        "app": app,
        "provider": "github",
        "repository": f"team/{app}",
        "clone_url": f"https://git.test/team/{app}.git",
        "branch": "main",
        "commit": "a" * 40,
    }
    return DeployRequest(**{**given, **fields})


def in_store(path: Path, use: Callable[[Store], Awaitable[None]]) -> None:
    """Open the store, use it, close it."""

    async def opened() -> None:
        store = await Store.open(path)
        try:
            await use(store)
        finally:
            await store.close()

    asyncio.run(opened())


def begin_and_end_a_transaction(path: Path) -> None:
    """As another process that writes. Raises OperationalError where it never gets its turn."""
    with closing(sqlite3.connect(path, timeout=20)) as other, other:
        other.execute("BEGIN IMMEDIATE")


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "fairlead.db"


class TestFile:
    def test_a_new_database_is_its_owners_alone(self, db: Path) -> None:
        async def use(_: Store) -> None:
            pass

        in_store(db, use)
        assert stat.S_IMODE(db.stat().st_mode) == 0o600

    def test_the_instance_stays_the_same_and_is_no_other_databases(
        self, db: Path, tmp_path: Path
    ) -> None:
        seen: list[str] = []

        async def use(store: Store) -> None:
            seen.append(store.instance)

        in_store(db, use)
        in_store(db, use)
        in_store(tmp_path / "other.db", use)
        assert seen[0] == seen[1] != seen[2]

    def test_a_damaged_database_is_refused_at_the_start_with_what_to_do(self, db: Path) -> None:
        async def fill(store: Store) -> None:
            for number in range(200):
                await store.add_delivery("github", str(number), "push", {}, b"x" * 500)

        in_store(db, fill)
        data = bytearray(db.read_bytes())
        data[8192:40960] = b"\xff" * (40960 - 8192)
        db.write_bytes(data)

        async def use(_: Store) -> None:
            raise AssertionError("it was opened")

        with pytest.raises(StoreError, match="backup"):
            in_store(db, use)

    def test_a_missing_folder_is_named(self, tmp_path: Path) -> None:
        async def use(_: Store) -> None:
            raise AssertionError("it was opened")

        with pytest.raises(StoreError, match="does not exist: create it first"):
            in_store(tmp_path / "none" / "fairlead.db", use)

    def test_the_routes_of_the_edge_stay_as_they_are_beside_it(self, db: Path) -> None:
        RouteWriter(db).set("a.test", "127.0.0.1:9")

        async def use(store: Store) -> None:
            await store.add_deploy(request(), "/")

        in_store(db, use)
        loaded = RouteReader(db).poll()
        assert loaded is not None
        assert [route.key for route in loaded.table] == ["a.test"]

    def test_a_write_that_finds_the_disk_full_changes_nothing(self, db: Path) -> None:
        async def use(store: Store) -> None:
            await store.add_delivery("github", "1", "push", {}, b"x")
            # The size that the file has is the most that it may have.
            pages = await store._connection.execute_fetchall("PRAGMA page_count")
            await store._connection.execute(f"PRAGMA max_page_count = {next(iter(pages))[0]}")
            with pytest.raises(StoreError, match="full"):
                await store.add_delivery("github", "2", "push", {}, b"x" * 1_000_000)
            await store._connection.execute("PRAGMA max_page_count = 100000")
            assert len(await store.deliveries()) == 1
            assert (await store.add_delivery("github", "2", "push", {}, b"x"))[1]

        in_store(db, use)

    def test_a_change_whose_caller_is_cancelled_is_whole(self, db: Path) -> None:
        async def use(store: Store) -> None:
            for number in range(20):
                task = asyncio.ensure_future(
                    store.add_delivery("github", str(number), "push", {}, b"x")
                )
                for _ in range(number):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            # It would wait behind a transaction that nobody ends.
            await asyncio.to_thread(begin_and_end_a_transaction, db)

        in_store(db, use)


class TestDeliveries:
    def test_the_same_id_again_is_the_first_delivery(self, db: Path) -> None:
        async def use(store: Store) -> None:
            first, is_new = await store.add_delivery("github", "d1", "push", {"host": "h"}, b"{}")
            assert is_new
            await store.set_decision(first.id, "ignored", "another branch", 202)
            again, is_new = await store.add_delivery("github", "d1", "push", {}, b"other")
            assert not is_new
            assert (again.id, again.body, again.reason) == (first.id, b"{}", "another branch")
            _, is_new = await store.add_delivery("gitlab", "d1", "push", {}, b"{}")
            assert is_new

        in_store(db, use)

    def test_the_newest_come_first_a_page_at_a_time(self, db: Path) -> None:
        async def use(store: Store) -> None:
            for number in range(5):
                await store.add_delivery("github", str(number), "push", {}, b"")
            newest = await store.deliveries(limit=2)
            assert [each.delivery_id for each in newest] == ["4", "3"]
            older = await store.deliveries(limit=2, before=newest[-1].id)
            assert [each.delivery_id for each in older] == ["2", "1"]

        in_store(db, use)

    def test_a_deploy_is_noted_with_its_delivery_in_one_transaction(self, db: Path) -> None:
        async def use(store: Store) -> None:
            delivery, _ = await store.add_delivery("github", "d1", "push", {}, b"{}")
            deploy = await store.add_deploy(request(delivery=delivery.id), "/")
            found = await store.delivery(delivery.id)
            assert found is not None
            assert found.deploy == deploy.id

        in_store(db, use)


class TestOwnership:
    """security.md 5: one owner for each domain."""

    def test_a_first_deploy_without_a_domain_takes_the_local_one(self, db: Path) -> None:
        async def use(store: Store) -> None:
            assert (await store.add_deploy(request(), "/")).domains == ["app.local"]
            # And the ones that it has from then on.
            assert (await store.add_deploy(request(), "/")).domains == ["app.local"]

        in_store(db, use)

    def test_an_app_may_have_several_domains(self, db: Path) -> None:
        async def use(store: Store) -> None:
            await store.add_deploy(request(domain="b.test"), "/")
            assert (await store.add_deploy(request(domain="a.test"), "/")).domains == [
                "a.test",
                "b.test",
            ]

        in_store(db, use)

    def test_the_domain_of_another_app_is_refused_also_to_an_operator(self, db: Path) -> None:
        async def use(store: Store) -> None:
            await store.add_deploy(request(domain="a.test"), "/")
            for operator in (False, True):
                with pytest.raises(RefusedError, match=r"a\.test belongs to app app") as caught:
                    await store.add_deploy(
                        request("thief", domain="a.test", operator=operator), "/"
                    )
                assert caught.value.status == 409
            assert await store.app("thief") is None

        in_store(db, use)

    def test_a_released_domain_is_taken_only_on_purpose(self, db: Path) -> None:
        async def use(store: Store) -> None:
            await store.add_deploy(request(domain="a.test"), "/")
            await store.remove_app("app")
            with pytest.raises(RefusedError, match="claim it with"):
                await store.add_deploy(request("next", domain="a.test"), "/")
            taken = await store.add_deploy(request("next", domain="a.test", operator=True), "/")
            assert taken.domains == ["a.test"]
            owner = await store.app("next")
            assert owner is not None
            assert owner.domains == ["a.test"]

        in_store(db, use)

    def test_a_route_that_an_operator_made_is_taken_only_on_purpose(self, db: Path) -> None:
        RouteWriter(db).set("hand.test", "127.0.0.1:9")

        async def use(store: Store) -> None:
            with pytest.raises(RefusedError, match="no app created"):
                await store.add_deploy(request(domain="hand.test"), "/")
            taken = await store.add_deploy(request(domain="hand.test", operator=True), "/")
            assert taken.domains == ["hand.test"]

        in_store(db, use)

    def test_another_repository_of_the_same_name_is_refused(self, db: Path) -> None:
        async def use(store: Store) -> None:
            await store.add_deploy(request(), "/")
            other = request(repository="evil/app", clone_url="https://git.test/evil/app.git")
            with pytest.raises(RefusedError, match="deployed from team/app") as caught:
                await store.add_deploy(other, "/")
            assert caught.value.status == 409

        in_store(db, use)

    def test_an_operators_deploy_and_the_webhook_mean_the_same_repository(self, db: Path) -> None:
        async def use(store: Store) -> None:
            url = "https://git.test/team/app"
            await store.add_deploy(
                request(provider="cli", repository=url, clone_url=url, operator=True), "/"
            )
            await store.add_deploy(request(), "/")  # ... /app.git
            await store.add_deploy(
                request(provider="cli", repository=url, clone_url=url, operator=True), "/"
            )
            app = await store.app("app")
            assert app is not None
            assert app.repository == "team/app"

        in_store(db, use)


class TestDeploys:
    def test_a_newer_push_replaces_those_that_wait_and_says_so(self, db: Path) -> None:
        async def use(store: Store) -> None:
            running = await store.add_deploy(request(credentials="u:p"), "/")
            running.state = DeployState.RUNNING
            await store.save(running)
            waiting = await store.add_deploy(request(credentials="u:p"), "/")
            other = await store.add_deploy(request("other"), "/")
            newest = await store.add_deploy(request(), "/")
            found = {each.id: each for each in await store.deploys()}
            assert found[running.id].state is DeployState.RUNNING
            assert found[waiting.id].state is DeployState.SUPERSEDED
            assert found[waiting.id].superseded_by == newest.id
            assert found[waiting.id].credentials == ""
            assert found[other.id].state is DeployState.QUEUED
            assert [each.id for each in await store.unfinished_deploys()] == [
                running.id,
                other.id,
                newest.id,
            ]

        in_store(db, use)

    def test_what_is_saved_is_there_after_a_restart(self, db: Path) -> None:
        async def write(store: Store) -> None:
            deploy = await store.add_deploy(request(allow_file=True), "/up")
            deploy.step, deploy.target = Step.START, "127.0.0.1:1"
            deploy.cutover = {"workers": 2}
            record = StepRecord(deploy.id, Step.START, "running", 5.0, detail={"a": [1]})
            await store.save(deploy, record)

        async def read(store: Store) -> None:
            deploy = await store.deploy(1)
            assert deploy is not None
            assert (deploy.step, deploy.target, deploy.cutover, deploy.allow_file) == (
                Step.START,
                "127.0.0.1:1",
                {"workers": 2},
                True,
            )
            assert await store.steps(1) == [
                StepRecord(1, Step.START, "running", 5.0, detail={"a": [1]})
            ]

        in_store(db, write)
        in_store(db, read)

    def test_a_live_deploy_retires_the_one_before_and_one_that_fails_gives_it_back(
        self, db: Path
    ) -> None:
        async def use(store: Store) -> None:
            for _ in range(2):
                deploy = await store.add_deploy(request(credentials="u:p"), "/")
                deploy.state = DeployState.RUNNING
                record = StepRecord(deploy.id, Step.SWITCH, "running", 1.0)
                await store.save(deploy, record)
                await store.set_live(deploy, record)
                deploy.state = DeployState.LIVE
                await store.finish(deploy)
            assert [each.state for each in await store.deploys()] == [
                DeployState.LIVE,
                DeployState.RETIRED,
            ]
            assert (await store.live_deploys())["app"].id == 2
            third = await store.add_deploy(request(), "/")
            record = StepRecord(third.id, Step.SWITCH, "running", 1.0)
            await store.set_live(third, record)
            assert (await store.live_deploys())["app"].id == 3
            await store.revert_live(third)
            assert (await store.live_deploys())["app"].id == 2
            assert all(each.credentials == "" for each in await store.deploys())

        in_store(db, use)

    def test_credentials_are_in_no_answer(self, db: Path) -> None:
        async def use(store: Store) -> None:
            deploy = await store.add_deploy(request(credentials="user:s3cret"), "/")
            assert "s3cret" not in str(deploy.as_json()) + str(deploy.result_json())

        in_store(db, use)

    def test_one_that_was_just_taken_out_of_the_queue_is_not_superseded(self, db: Path) -> None:
        async def use(store: Store) -> None:
            started = await store.add_deploy(request(), "/")
            await store.add_deploy(request(), "/", started=started.id)
            found = await store.deploy(started.id)
            assert found is not None
            assert found.state is DeployState.QUEUED

        in_store(db, use)

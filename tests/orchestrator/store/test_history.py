"""Which rows of the past go, which never do, and that the file grows smaller with them."""

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from orchestrator.model import DeployState, Step, StepRecord
from orchestrator.store import vacuum
from orchestrator.store.store import Store
from tests.orchestrator.store.opened import in_store, request, state_of

MIB = 2**20
FUTURE = time.time() + 10**6


async def ends(store: Store, state: DeployState, app: str = "app", error: str = "") -> int:
    """A deploy that has ended so; its number."""
    deploy = await store.deploys.add(request(app), "/")
    deploy.state, deploy.error = DeployState.RUNNING, error
    build = StepRecord(
        deploy.id, Step.BUILD, "done", 1.0, 2.0, detail={"stages": [f"s{deploy.id}"]}
    )
    await store.deploys.save(deploy, build)
    if state is DeployState.LIVE:
        await store.deploys.set_live(deploy, build)
    deploy.state = state
    await store.deploys.finish(deploy)
    return deploy.id


async def delivery(store: Store, name: str, size: int, decision: str = "ignored") -> int:
    """One of so many bytes; its number."""
    found, _ = await store.deliveries.add("github", name, "push", {}, os.urandom(size))
    if decision:
        await store.deliveries.set_decision(found.id, decision, "", 200)
    return found.id


class TestDeploys:
    def test_what_is_live_under_way_or_to_go_back_to_stays_however_old(self, db: Path) -> None:
        async def use(store: Store) -> None:
            for _ in range(4):
                await ends(store, DeployState.LIVE)
            failed = await ends(store, DeployState.FAILED)
            under_way = await store.deploys.add(request(), "/")
            old = await store.history.old_deploys(FUTURE, MIB, 2, 100)
            assert [*old] == [1, 2, failed]
            assert await store.history.kept_deploys(2) == {3, 4, under_way.id}
            assert [*await store.history.old_deploys(FUTURE, MIB, 2, 1)] == [1]
            assert await store.history.old_deploys(0, MIB, 2, 100) == {}
            await store.history.remove_deploys(old)
            assert await store.history.numbers() == {3, 4, under_way.id}
            assert await store.deploys.steps(1) == []
            assert len(await store.deploys.steps(3)) == 1

        in_store(db, use)

    def test_of_an_app_that_is_removed_nothing_stays(self, db: Path) -> None:
        async def use(store: Store) -> None:
            await ends(store, DeployState.LIVE)
            other = await ends(store, DeployState.LIVE, "other")
            await store.apps.remove("app")
            assert [*await store.history.old_deploys(FUTURE, MIB, 5, 100)] == [1]
            assert await store.history.kept_deploys(5) == {other}

        in_store(db, use)

    def test_the_oldest_go_where_all_are_too_large(self, db: Path) -> None:
        async def use(store: Store) -> None:
            for _ in range(5):
                await ends(store, DeployState.FAILED, error="x" * 100_000)
            old = await store.history.old_deploys(0, 250_000, 5, 100)
            assert [*old] == [1, 2, 3]
            assert all(100_000 < size < 110_000 for size in old.values())

        in_store(db, use)

    def test_stages_of_builds_are_known_with_their_app(self, db: Path) -> None:
        async def use(store: Store) -> None:
            await ends(store, DeployState.LIVE)
            await ends(store, DeployState.FAILED, "other")
            found = await store.history.stages()
            assert [each[:3] for each in found] == [("s1", "app", 1), ("s2", "other", 2)]

        in_store(db, use)

    def test_images_of_failures_are_kept_up_to_a_number(self, db: Path) -> None:
        async def use(store: Store) -> None:
            for number in range(1, 7):
                state = DeployState.LIVE if number == 2 else DeployState.FAILED
                await ends(store, state)
                deploy = await store.deploys.get(number)
                assert deploy is not None
                deploy.image_id = f"image-{number}"
                await store.deploys.save(deploy)
            kept = store.deploys.kept_images
            assert await kept("app", 1, 2) == {"image-2", "image-5", "image-6"}
            assert await kept("app", 1, 0) == {"image-2"}

        in_store(db, use)


class TestDeliveries:
    def test_old_ones_go_but_not_what_is_undecided_or_under_way(self, db: Path) -> None:
        async def use(store: Store) -> None:
            decided = await delivery(store, "decided", 100)
            await delivery(store, "undecided", 100, decision="")
            deploying = await delivery(store, "deploying", 100, decision="deploy")
            await store.deploys.add(request(delivery=deploying), "/")
            old = await store.history.old_deliveries(FUTURE, MIB, 100)
            assert [*old] == [decided]
            await store.deliveries.remove(old)
            assert await store.deliveries.get(decided) is None
            assert await store.deliveries.get(deploying) is not None

        in_store(db, use)

    def test_the_oldest_go_where_all_are_too_large(self, db: Path) -> None:
        async def use(store: Store) -> None:
            for number in range(5):
                await delivery(store, str(number), 100_000)
            assert [*await store.history.old_deliveries(0, 250_000, 100)] == [1, 2, 3]
            assert [*await store.history.old_deliveries(0, 250_000, 2)] == [1, 2]

        in_store(db, use)


def is_of_before(db: Path) -> None:
    """A state whose file cannot shrink, as it was made by an older version."""

    async def nothing(_store: Store) -> None:
        pass

    in_store(db, nothing)
    with closing(sqlite3.connect(state_of(db))) as connection:
        connection.execute("CREATE TABLE of_before (value TEXT)")
        connection.execute("INSERT INTO of_before VALUES ('kept')")
        connection.commit()
        connection.execute("PRAGMA auto_vacuum = NONE")
        connection.execute("VACUUM")


class TestFile:
    def test_it_grows_smaller_a_piece_at_a_time(self, db: Path) -> None:
        state = state_of(db)
        wal = state.with_name(f"{state.name}-wal")

        def size(file: Path) -> int:
            return file.stat().st_size

        async def use(store: Store) -> None:
            for number in range(6):
                await delivery(store, str(number), MIB)
            full = size(state)
            await store.deliveries.remove(range(1, 6))
            steps = 1
            while await store.history.shrink():
                steps += 1
            assert 4 <= steps <= 8
            assert size(state) < full - 4 * MIB
            assert size(wal) <= vacuum.WAL_KEPT + MIB

        in_store(db, use)

    def test_one_of_before_is_written_anew_and_keeps_what_it_has(self, db: Path) -> None:
        is_of_before(db)

        async def use(store: Store) -> None:
            await delivery(store, "one", 100)

        in_store(db, use)
        with closing(sqlite3.connect(state_of(db))) as connection:
            assert connection.execute("PRAGMA auto_vacuum").fetchone() == (vacuum.INCREMENTAL,)
            assert connection.execute("SELECT * FROM of_before").fetchall() == [("kept",)]

    @pytest.mark.parametrize("cause", ["locked", "no room"])
    def test_one_that_cannot_be_written_anew_is_used_as_it_is(
        self,
        db: Path,
        cause: str,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        is_of_before(db)
        if cause == "no room":
            monkeypatch.setattr(vacuum, "COPIES", 10**12)
        else:
            monkeypatch.setattr("orchestrator.store.database.WRITE_TIMEOUT", 0.0)

        async def use(store: Store) -> None:
            await delivery(store, "one", 100)
            assert not await store.history.shrink()

        with closing(sqlite3.connect(state_of(db))) as reader:
            if cause == "locked":
                # Only for as long as the file is written anew: a lock that nobody waits for.
                reader.execute("BEGIN IMMEDIATE")
                monkeypatch.setattr(vacuum.logger, "warning", lambda *_: reader.rollback())
            in_store(db, use)
        with closing(sqlite3.connect(state_of(db))) as connection:
            assert connection.execute("PRAGMA auto_vacuum").fetchone() == (0,)

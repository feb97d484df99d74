"""The file of the database: whose it is, what survives, and what is refused at the start."""

import asyncio
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from edge.errors import StoreError
from edge.routing.store_reader import RouteReader
from edge.routing.store_writer import RouteWriter
from orchestrator.store.store import Store
from tests.orchestrator.store.opened import in_store, request, state_of


def begin_and_end_a_transaction(path: Path) -> None:
    """As another process that writes. Raises OperationalError where it never gets its turn."""
    with closing(sqlite3.connect(path, timeout=20)) as other, other:
        other.execute("BEGIN IMMEDIATE")


class TestFile:
    def test_a_new_database_is_its_owners_alone(self, db: Path) -> None:
        async def use(_: Store) -> None:
            pass

        in_store(db, use)
        assert stat.S_IMODE(state_of(db).stat().st_mode) == 0o600
        assert not db.exists()

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
                await store.deliveries.add("github", str(number), "push", {}, b"x" * 500)

        in_store(db, fill)
        data = bytearray(state_of(db).read_bytes())
        data[8192:40960] = b"\xff" * (40960 - 8192)
        state_of(db).write_bytes(data)

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
        before = db.read_bytes()

        async def use(store: Store) -> None:
            await store.deploys.add(request(), "/")

        in_store(db, use)
        assert db.read_bytes() == before
        loaded = RouteReader(db).poll()
        assert loaded is not None
        assert [route.key for route in loaded.table] == ["a.test"]

    def test_a_write_that_finds_the_disk_full_changes_nothing(self, db: Path) -> None:
        async def use(store: Store) -> None:
            await store.deliveries.add("github", "1", "push", {}, b"x")
            # The size that the file has is the most that it may have.
            pages = await store._database._connection.execute_fetchall("PRAGMA page_count")
            await store._database._connection.execute(
                f"PRAGMA max_page_count = {next(iter(pages))[0]}"
            )
            with pytest.raises(StoreError, match="full"):
                await store.deliveries.add("github", "2", "push", {}, b"x" * 1_000_000)
            await store._database._connection.execute("PRAGMA max_page_count = 100000")
            assert len(await store.deliveries.page()) == 1
            assert (await store.deliveries.add("github", "2", "push", {}, b"x"))[1]

        in_store(db, use)

    def test_a_change_whose_caller_is_cancelled_is_whole(self, db: Path) -> None:
        async def use(store: Store) -> None:
            for number in range(20):
                task = asyncio.ensure_future(
                    store.deliveries.add("github", str(number), "push", {}, b"x")
                )
                for _ in range(number):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            # It would wait behind a transaction that nobody ends.
            await asyncio.to_thread(begin_and_end_a_transaction, state_of(db))

        in_store(db, use)

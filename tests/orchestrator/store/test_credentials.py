"""Where credentials are while they are needed, and that nothing else has them."""

import asyncio
import stat
from pathlib import Path

import pytest

from edge.errors import StoreError
from orchestrator.errors import RefusedError
from orchestrator.model import DeployState
from orchestrator.store.backup import back_up
from orchestrator.store.credentials import Credentials
from orchestrator.store.store import Store
from tests.orchestrator.store.opened import in_store, request, state_of

SECRET = "user:s3cret-of-git"


def kept(db: Path) -> list[str]:
    """What is in the files."""
    return [path.read_text() for path in state_of(db).with_suffix(".credentials").glob("*")]


class TestCredentials:
    def test_they_are_for_nobody_else_and_in_no_database_and_no_backup(self, db: Path) -> None:
        async def use(store: Store) -> None:
            deploy = await store.deploys.add(request(credentials=SECRET), "/")
            await store.deliveries.add("github", "d1", "push", {}, b"{}", credentials=SECRET)
            assert deploy.credentials == SECRET
            found = await store.deploys.get(deploy.id)
            assert found is not None
            assert found.credentials == SECRET
            copy = db.with_name("copy.db")
            back_up(state_of(db), copy)
            assert list(db.parent.glob("fairlead.state.db*"))
            for path in (copy, *db.parent.glob("fairlead.state.db*")):
                assert b"s3cret" not in path.read_bytes(), path

        in_store(db, use)
        folder = state_of(db).with_suffix(".credentials")
        assert kept(db) == [SECRET] * 2
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}

    def test_they_survive_a_restart_and_a_deploy_that_is_saved(self, db: Path) -> None:
        async def first(store: Store) -> None:
            deploy = await store.deploys.add(request(credentials=SECRET), "/")
            deploy.state = DeployState.RUNNING
            await store.deploys.save(deploy)

        async def second(store: Store) -> None:
            (deploy,) = await store.deploys.unfinished()
            assert deploy.credentials == SECRET

        in_store(db, first)
        in_store(db, second)

    def test_they_go_with_the_deploy_that_needed_them(self, db: Path) -> None:
        async def use(store: Store) -> None:
            for state in (DeployState.LIVE, DeployState.FAILED, DeployState.CANCELLED):
                deploy = await store.deploys.add(request(credentials=SECRET), "/")
                assert kept(db) == [SECRET]
                deploy.state = state
                await store.deploys.finish(deploy)
                assert kept(db) == []
            await store.deploys.add(request(credentials=SECRET), "/")
            await store.deploys.add(request(), "/")  # the one before it is superseded
            assert kept(db) == []

        in_store(db, use)

    def test_what_is_refused_or_came_before_leaves_none(self, db: Path) -> None:
        async def use(store: Store) -> None:
            await store.deploys.add(request("other", domain="taken.test"), "/")
            with pytest.raises(RefusedError):
                await store.deploys.add(request(domain="taken.test", credentials=SECRET), "/")
            assert kept(db) == []
            for _ in range(2):
                await store.deliveries.add("github", "d1", "push", {}, b"{}", credentials=SECRET)
            assert kept(db) == [SECRET]

        in_store(db, use)

    def test_what_nothing_refers_to_goes_at_the_start(self, db: Path) -> None:
        async def first(store: Store) -> None:
            await store.credentials.keep("left:behind")
            await store.deploys.add(request(credentials=SECRET), "/")
            delivery, _ = await store.deliveries.add(
                "github", "d1", "push", {}, b"{}", credentials="of:delivery"
            )
            assert await store.deliveries.credentials(delivery) == "of:delivery"

        async def second(store: Store) -> None:
            assert sorted(kept(db)) == ["of:delivery", SECRET]

        in_store(db, first)
        in_store(db, second)

    def test_they_go_with_a_delivery_that_is_removed(self, db: Path) -> None:
        async def use(store: Store) -> None:
            deliveries = store.deliveries
            old, _ = await deliveries.add("github", "d1", "push", {}, b"{}", credentials="old:one")
            await deliveries.add("github", "d2", "push", {}, b"{}", credentials="new:one")
            bare, _ = await deliveries.add("github", "d3", "ping", {}, b"{}")
            await deliveries.remove([old.id, bare.id])
            assert kept(db) == ["new:one"]
            assert [each.delivery_id for each in await deliveries.page()] == ["d2"]

        in_store(db, use)

    def test_a_reference_is_no_path(self, tmp_path: Path) -> None:
        (tmp_path / "other").write_text("not credentials")
        credentials = Credentials(tmp_path / "folder")
        for reference in ("../other", str(tmp_path / "other"), "0" * 31, "0" * 32, ""):
            assert asyncio.run(credentials.get(reference)) == ""
        asyncio.run(credentials.forget(["../other"]))
        assert (tmp_path / "other").exists()

    def test_a_folder_that_cannot_be_made_is_an_error_of_the_store(self, tmp_path: Path) -> None:
        (tmp_path / "folder").write_text("a file")
        with pytest.raises(StoreError, match="cannot write credentials"):
            asyncio.run(Credentials(tmp_path / "folder").keep(SECRET))

"""How a state database begins: out of one that held everything, empty, or not at all."""

import logging
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge.errors import StoreError
from edge.routing.store_reader import RouteReader
from edge.routing.store_writer import RouteWriter
from fairlead.__main__ import main
from orchestrator.store.split import begin_anew, prepare
from orchestrator.store.store import Store
from tests.edge.routing.stores import GODEPLOY, dump, sql
from tests.orchestrator.store.opened import in_store, request, state_of

SECRET = b"a-secret-of-a-row-that-is-kept"
LOGIN = "user:password"
DELETED = b"a-secret-of-a-row-that-was-deleted"


@pytest.fixture
def both(db: Path, tmp_path: Path) -> Path:
    """A database as it was when routes and state were in one; what it knows is in `was.db`."""
    apart = tmp_path / "was" / "fairlead.db"
    apart.parent.mkdir()

    async def fill(store: Store) -> None:
        for app in ("one", "two"):
            await store.deploys.add(request(app, credentials=LOGIN), "/")
        await store.deliveries.add("github", "kept", "push", {}, SECRET)
        for number in range(50):
            await store.deliveries.add("github", str(number), "push", {}, DELETED * 100)
        await store.leases.take("one", ["20000"], lambda _: True)

    in_store(apart, fill)
    state_of(apart).replace(db)
    state_of(apart).with_suffix(".credentials").replace(db.with_suffix(".credentials"))
    with closing(sqlite3.connect(db)) as connection, connection:
        connection.execute("PRAGMA secure_delete = OFF")
        connection.execute("DELETE FROM deliveries WHERE body != ?", (SECRET,))
        # Leave no log: the file is copied.
        connection.commit()
        connection.execute("PRAGMA journal_mode = DELETE")
    shutil.copy(db, apart.with_name("was.db"))
    writer = RouteWriter(db)
    writer.set("hand.test", "127.0.0.1:9")
    writer.retarget({"one.local": "127.0.0.1:10"}, boot="boot")
    return db


def routes_of(db: Path) -> dict[str, str]:
    loaded = RouteReader(db).poll()
    assert loaded is not None
    return {route.key: ",".join(route.targets) for route in loaded.table}


def assert_split(db: Path, was: Path) -> None:
    """All state is in the one, all routes are in the other, and no secret is left."""
    state = state_of(db)
    assert dump(state) == dump(was)
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    assert routes_of(db) == {"hand.test": "127.0.0.1:9", "one.local": "127.0.0.1:10"}
    assert not any("deploys" in line or "apps" in line for line in dump(db))
    for path in db.parent.glob("fairlead.db*"):
        content = path.read_bytes()
        assert SECRET not in content
        assert DELETED not in content


class TestSplit:
    def test_moves_all_state_and_leaves_no_secret_behind(
        self, both: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert SECRET in both.read_bytes()
        assert DELETED in both.read_bytes()
        with caplog.at_level(logging.INFO):
            prepare(state_of(both), both)
        assert_split(both, tmp_path / "was" / "was.db")
        assert [record.message for record in caplog.records] == [
            "the state was moved out of the routes' database"
        ]
        assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
            "fairlead.db",
            "fairlead.state.db",
        ]
        assert not both.with_suffix(".credentials").exists()
        caplog.clear()
        prepare(state_of(both), both)
        assert not caplog.records

    def test_the_instance_the_credentials_and_the_numbers_of_deploys_go_on(
        self, both: Path
    ) -> None:
        with closing(sqlite3.connect(both)) as connection:
            query = "SELECT value FROM orchestrator_meta WHERE key = 'instance'"
            (before,) = connection.execute(query).fetchone()

        async def use(store: Store) -> None:
            assert store.instance == before
            assert {each.credentials for each in await store.deploys.unfinished()} == {LOGIN}
            assert (await store.deploys.add(request("three"), "/")).id == 3
            added, _ = await store.deliveries.add("github", "new", "push", {}, b"")
            assert added.id == 52  # not 2, which another one has had

        in_store(both, use)

    def test_killed_anywhere_loses_nothing_and_goes_on(self, both: Path, tmp_path: Path) -> None:
        folder = tmp_path / "killed"
        folder.mkdir()
        arguments = [str(both), str(state_of(both)), str(folder)]
        done = subprocess.run(
            [sys.executable, "-m", "tests.orchestrator.store.killed_split", *arguments],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        lines = int(done.stdout)
        assert lines > 40
        for line in range(1, lines + 1):
            assert_split(folder / str(line) / both.name, tmp_path / "was" / "was.db")

    def test_an_edge_that_reads_meanwhile_misses_no_route(self, both: Path) -> None:
        reader = RouteReader(both)
        reader.poll()
        prepare(state_of(both), both)
        again = reader.poll(force=True)
        assert again is not None
        assert {route.key for route in again.table} == {"hand.test", "one.local"}
        RouteWriter(both).set("new.test", "127.0.0.1:11")
        again = reader.poll()
        assert again is not None
        assert {route.key for route in again.table} == {"hand.test", "one.local", "new.test"}

    def test_what_others_could_have_written_is_not_taken(self, both: Path) -> None:
        """A token in it would be an operator's."""
        before = dump(both)
        both.chmod(0o660)
        with pytest.raises(StoreError, match="chown"):
            prepare(state_of(both), both)
        assert not state_of(both).exists()
        assert dump(both) == before
        both.chmod(0o600)
        if os.geteuid() == 0:
            os.chown(both, 65534, -1)
            with pytest.raises(StoreError, match="chown"):
                prepare(state_of(both), both)

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
    @pytest.mark.parametrize("what", ["folder", "-wal", "-shm", "-journal", "credentials"])
    def test_nor_where_others_could_have_put_something_beside_it(
        self, both: Path, what: str
    ) -> None:
        """SQLite takes whole pages from a log or a journal that lies there."""
        before = both.read_bytes()
        if what == "folder":
            both.parent.chmod(0o2770)
        else:
            planted = both.with_name(both.name + what)
            if what == "credentials":
                shutil.rmtree(both.with_suffix(".credentials"))
                planted = both.with_suffix(".credentials")
            planted.write_bytes(b"")
            os.chown(planted, 65534, -1)
        with pytest.raises(StoreError, match="other users could have written"):
            prepare(state_of(both), both)
        assert not state_of(both).exists()
        assert both.read_bytes() == before

    def test_once_there_is_a_state_no_other_is_taken_in(self, both: Path, tmp_path: Path) -> None:
        apart = tmp_path / "other.db"

        async def use(_: Store) -> None:
            pass

        in_store(apart, use)
        before = dump(state_of(apart))
        prepare(state_of(apart), both)
        assert dump(state_of(apart)) == before

    def test_triggers_and_views_do_not_come_along(self, both: Path) -> None:
        sql(
            both,
            "CREATE VIEW v AS SELECT * FROM proxy_routes;"
            "CREATE TRIGGER t AFTER INSERT ON tokens BEGIN DELETE FROM proxy_routes; END;",
        )
        prepare(state_of(both), both)
        with closing(sqlite3.connect(state_of(both))) as connection:
            query = "SELECT count(*) FROM sqlite_master WHERE type IN ('view', 'trigger')"
            assert connection.execute(query).fetchone() == (0,)


class TestBeginning:
    def test_the_database_of_godeploy_platform_stays_as_it_is(self, db: Path) -> None:
        sql(db, GODEPLOY)
        before = db.read_bytes()

        async def use(store: Store) -> None:
            assert await store.apps.all() == []

        in_store(db, use)
        assert db.read_bytes() == before

    @pytest.mark.parametrize("left", ["missing", "empty"])
    def test_a_state_that_is_lost_is_not_made_anew_unasked(self, db: Path, left: str) -> None:
        async def use(store: Store) -> None:
            await store.deploys.add(request(), "/")

        in_store(db, use)
        RouteWriter(db).set("hand.test", "127.0.0.1:9")
        RouteWriter(db).retarget({"app.local": "10.213.0.2:8080"}, boot="boot")
        state_of(db).unlink()
        if left == "empty":
            state_of(db).touch()
        with pytest.raises(StoreError, match=r"such as 'app\.local'.*fairlead apps forget"):
            in_store(db, use)
        assert left == "empty" or not state_of(db).exists()

    def test_an_operator_can_forget_the_apps(self, db: Path) -> None:
        RouteWriter(db).retarget({"app.local": "10.213.0.2:8080"}, boot="boot")
        done = CliRunner().invoke(main, ["apps", "forget", "--db", str(db)])
        assert (done.exit_code, "remove the containers" in done.output) == (0, True), done.output
        seen = []

        async def use(store: Store) -> None:
            assert await store.apps.all() == []
            seen.append(store.instance)

        in_store(db, use)
        assert stat.S_IMODE(state_of(db).stat().st_mode) == 0o600
        again = CliRunner().invoke(main, ["apps", "forget", "--db", str(db)])
        assert (again.exit_code, "exists: nothing was changed" in again.stderr) == (1, True)
        in_store(db, use)
        assert seen[0] == seen[1]

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
    def test_what_root_makes_is_the_owners_of_the_folder(self, tmp_path: Path) -> None:
        folder = tmp_path / "state"
        folder.mkdir()
        os.chown(folder, 65534, 65534)
        begin_anew(folder / "state.db")
        assert (folder / "state.db").stat().st_uid == 65534

    def test_where_routes_were_served_from_a_database_that_is_lost_none_is_made(
        self, db: Path
    ) -> None:
        db.with_suffix(".last-good").write_bytes(b"what an edge has served")
        with pytest.raises(StoreError, match="but routes were served from it"):
            prepare(state_of(db), db)
        assert not state_of(db).exists()

    def test_one_file_is_not_both(self, db: Path) -> None:
        RouteWriter(db).set("hand.test", "127.0.0.1:9")
        state_of(db).symlink_to(db)
        with pytest.raises(StoreError, match="FAIRLEAD_STATE_DB"):
            prepare(state_of(db), db)

    def test_a_database_of_something_else_is_not_used(self, db: Path) -> None:
        sql(state_of(db), "CREATE TABLE letters (body)")
        with pytest.raises(StoreError, match="has no state in it"):
            prepare(state_of(db), db)

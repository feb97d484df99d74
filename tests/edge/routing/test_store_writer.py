"""Changing the routes on disk."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from edge.errors import RouteError, StoreError
from edge.routing import opening, store_writer
from edge.routing.snapshot import Snapshot
from edge.routing.snapshot_file import SnapshotFile
from edge.routing.store_reader import RouteReader
from edge.routing.store_writer import InvalidRowsError, RouteWriter, StoredRoute
from tests.edge.routing.stores import columns, count_up, dump, kept, read, reason, sql


class TestWriting:
    def test_the_first_route_makes_the_database(self, db: Path) -> None:
        assert RouteWriter(db).set("App.test.", "A:1") == 1
        assert read(db) == {"app.test": "a:1"}
        assert columns(db) == ["domain", "target", "updated_at_unix"]

    def test_every_change_counts_the_version_up_by_one(self, db: Path) -> None:
        writer = RouteWriter(db)
        assert writer.set("a.test", "a:1") == 1
        assert writer.set("b.test", "a:1,b:2") == 2
        assert writer.set("a.test", "c:3") == 3
        assert writer.remove("b.test") == 4
        assert read(db) == {"a.test": "c:3"}

    def test_the_time_of_the_change_is_kept(self, db: Path) -> None:
        RouteWriter(db).set("a.test", "a:1")
        with closing(sqlite3.connect(db)) as connection:
            ((age,),) = connection.execute(
                "SELECT strftime('%s', 'now') - updated_at_unix FROM proxy_routes"
            )
        assert 0 <= age <= 5

    def test_a_database_of_godeploy_platform_gets_the_column_with_the_first_option(
        self, godeploy: Path
    ) -> None:
        writer = RouteWriter(godeploy)
        assert writer.set("plain.test", "a:1") == 42
        assert columns(godeploy) == ["domain", "target", "updated_at_unix"]
        assert writer.set("o.test/x", "a:1", {"strip": True}) == 43
        assert columns(godeploy) == ["domain", "target", "updated_at_unix", "options"]
        loaded = RouteReader(godeploy).poll()
        assert loaded is not None
        assert {route.key: route.options.strip for route in loaded.table} == {
            "sim.local": False,
            "app.local": False,
            "plain.test": False,
            "o.test/x": True,
        }

    def test_godeploy_platform_can_go_on_to_write_by_the_names_of_its_columns(
        self, godeploy: Path
    ) -> None:
        RouteWriter(godeploy).set("o.test", "a:1", {"max_body": 1})
        count_up(
            godeploy,
            "INSERT INTO proxy_routes (domain, target, updated_at_unix)"
            " VALUES ('o.test', 'b:2', 1) ON CONFLICT (domain) DO UPDATE SET target = 'b:2'",
        )
        assert read(godeploy)["o.test"] == "b:2"

    def test_a_route_that_is_set_again_loses_its_options(self, db: Path) -> None:
        writer = RouteWriter(db)
        writer.set("app.test", "a:1,b:2", {"max_body": 1, "weights": {"b:2": 2}})
        writer.set("app.test", "a:1")
        loaded = RouteReader(db).poll()
        assert loaded is not None
        assert [route.options.non_default() for route in loaded.table] == [{}]

    @pytest.mark.parametrize(
        ("domain", "target", "options"),
        [
            ("app.test/", "a:1", None),
            ("app.test", "a", None),
            ("app.test", "a:1", {"strip": True}),
            ("app.test", "a:1", {"nonsense": 1}),
        ],
    )
    def test_a_refused_route_changes_nothing(
        self, db: Path, domain: str, target: str, options: dict[str, object] | None
    ) -> None:
        with pytest.raises(RouteError):
            RouteWriter(db).set(domain, target, options)
        assert not db.exists()

    def test_some_options_are_changed_and_the_rest_stays(self, db: Path) -> None:
        writer = RouteWriter(db)
        writer.set("app.test", "a:1,b:2", {"max_body": 1, "weights": {"b:2": 2}})
        assert writer.change("App.test.", {"pause": 30, "max_body": 2}) == 2
        assert kept(db) == {"app.test": {"max_body": 2, "weights": {"b:2": 2}, "pause": 30}}
        assert writer.change("app.test", {"pause": None, "max_body": None, "strip": None}) == 3
        assert kept(db) == {"app.test": {"weights": {"b:2": 2}}}
        assert writer.change("app.test", {"weights": None}) == 4
        assert kept(db) == {"app.test": {}}
        assert read(db) == {"app.test": "a:1,b:2"}

    def test_a_change_gives_a_database_of_godeploy_platform_the_column(
        self, godeploy: Path
    ) -> None:
        assert RouteWriter(godeploy).change("app.local", {"pause": 30}) == 42
        assert kept(godeploy) == {"sim.local": {}, "app.local": {"pause": 30}}

    def test_of_several_spellings_the_one_that_is_served_is_changed(self, godeploy: Path) -> None:
        RouteWriter(godeploy).set("app.local", "a:1", {"max_body": 1})
        RouteWriter(godeploy).change("APP.local", {"pause": 30})
        assert kept(godeploy)["app.local"] == {"max_body": 1, "pause": 30}

    @pytest.mark.parametrize(
        ("domain", "options", "reason"),
        [
            ("other.test", {"pause": 30}, "there is no route 'other.test'"),
            ("app.test/", {"pause": 30}, "there is no route 'app.test/'"),
            ("app.test", {"pause": -1}, "option 'pause' is not a number from"),
            ("app.test", {"nonsense": 1}, "option 'nonsense' is unknown"),
            ("app.test", {"burst": 1}, "option 'burst' needs a rate"),
            ("bad.test", {"pause": 30}, "has no port"),
            ("blob.test", {"pause": 30}, "has no port"),
            ("json.test", {"pause": 30}, "the options are not JSON"),
        ],
    )
    def test_a_refused_change_changes_nothing(
        self, db: Path, domain: str, options: dict[str, object], reason: str
    ) -> None:
        RouteWriter(db).set("app.test", "a:1", {"max_body": 1})
        sql(
            db,
            """
            INSERT INTO proxy_routes VALUES ('bad.test', 'a', 0, NULL);
            INSERT INTO proxy_routes VALUES ('blob.test', x'61', 0, NULL);
            INSERT INTO proxy_routes VALUES ('json.test', 'a:1', 0, '{');
            """,
        )
        before = dump(db)
        with pytest.raises(RouteError, match=reason):
            RouteWriter(db).change(domain, options)
        assert dump(db) == before

    def test_there_is_nothing_to_change_without_a_database(self, db: Path) -> None:
        with pytest.raises(StoreError, match="does not exist"):
            RouteWriter(db).change("app.test", {"pause": 30})
        assert not db.exists()

    def test_a_route_is_removed_in_every_spelling(self, godeploy: Path) -> None:
        sql(
            godeploy,
            """
            INSERT INTO proxy_routes VALUES ('x.test', 'a:1', 0), ('X.Test.', 'a:1', 0);
            INSERT INTO proxy_routes VALUES ('X.test./a', 'a:1', 0), ('x.test/A', 'a:1', 0);
            INSERT INTO proxy_routes VALUES ('[::1]', 'a:1', 0), ('[0::1]', 'a:1', 0);
            INSERT INTO proxy_routes VALUES ('[::2]', 'a:1', 0), ('[bad', 'a:1', 0);
            INSERT INTO proxy_routes VALUES (CAST(x'5bff' AS TEXT), 'a:1', 0);
            INSERT INTO proxy_routes VALUES (x'782e74657374', 'a:1', 0);
            """,
        )
        writer = RouteWriter(godeploy)
        assert writer.remove("x.TEST") == 42
        assert set(read(godeploy)) & {"x.test", "x.test/a", "x.test/A"} == {"x.test/a", "x.test/A"}
        writer.remove("x.test/a")
        assert "x.test/A" in read(godeploy)
        assert writer.remove("[0:0::1]") == 44
        assert set(read(godeploy)) == {"sim.local", "app.local", "x.test/A", "[::2]"}

    def test_a_row_that_is_no_route_is_removed_by_its_text(self, godeploy: Path) -> None:
        sql(godeploy, "INSERT INTO proxy_routes VALUES ('a b', 'a:1', 0)")
        assert RouteWriter(godeploy).remove("a b") == 42
        loaded = RouteReader(godeploy).poll()
        assert loaded is not None
        assert loaded.problems == ()

    @pytest.mark.parametrize("domain", ["none.test", "sim.local/x", "a b", "\udcff", ""])
    def test_a_route_that_is_not_there_cannot_be_removed(self, godeploy: Path, domain: str) -> None:
        with pytest.raises(RouteError, match="there is no route"):
            RouteWriter(godeploy).remove(domain)
        loaded = RouteReader(godeploy).poll()
        assert loaded is not None
        assert loaded.table.version == 41

    def test_nothing_is_removed_from_a_database_that_is_missing(self, db: Path) -> None:
        assert "does not exist" in reason(lambda: RouteWriter(db).remove("app.test"))
        assert not db.exists()

    def test_after_a_change_everything_is_in_the_one_file(self, db: Path) -> None:
        with closing(sqlite3.connect(db)) as other:  # keeps the log from being deleted
            RouteWriter(db).set("a.test", "a:1")
            other.execute("SELECT count(*) FROM proxy_routes").fetchone()
            RouteWriter(db).set("b.test", "b:2")
            copy = db.with_name("copy.db")
            shutil.copyfile(db, copy)
            assert read(copy) == {"a.test": "a:1", "b.test": "b:2"}
            assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)

    def test_a_change_stands_although_a_reader_keeps_the_log_busy(
        self, db: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(opening, "CHECKPOINT_TIMEOUT", 0.01)
        RouteWriter(db).set("a.test", "a:1")
        with closing(sqlite3.connect(db, isolation_level=None)) as other:
            other.execute("BEGIN")
            other.execute("SELECT * FROM proxy_routes").fetchall()
            assert RouteWriter(db).set("b.test", "b:2") == 2
        assert read(db) == {"a.test": "a:1", "b.test": "b:2"}

    def test_a_change_stands_although_another_program_prevents_wal_mode(
        self, godeploy: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(opening, "CHECKPOINT_TIMEOUT", 0.01)
        real = opening.checkpoint
        with closing(sqlite3.connect(godeploy, isolation_level=None)) as other:

            def settle(connection: sqlite3.Connection) -> None:
                other.execute("BEGIN EXCLUSIVE")
                real(connection)
                other.execute("ROLLBACK")

            monkeypatch.setattr(store_writer, "checkpoint", settle)
            assert RouteWriter(godeploy).set("b.test", "b:2") == 42
            assert other.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert read(godeploy)["b.test"] == "b:2"

    def test_a_read_only_database(self, db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        RouteWriter(db).set("a.test", "a:1")
        monkeypatch.setattr(opening, "_WRITING", "mode=ro")
        assert "is read-only" in reason(lambda: RouteWriter(db).set("b.test", "b:2"))


class TestRetarget:
    """A cutover: several routes move in one change, and keep what an operator has set."""

    def test_all_routes_move_in_one_version_and_keep_their_options(self, tmp_path: Path) -> None:
        writer = RouteWriter(tmp_path / "fairlead.db")
        writer.set(
            "a.test", "127.0.0.1:1,127.0.0.1:2", {"weights": {"127.0.0.1:1": 3}, "retries": 2}
        )
        writer.set("b.test", "127.0.0.1:1")
        version = writer.retarget(
            {"a.test": "127.0.0.1:9", "b.test": "127.0.0.1:9", "c.test": "127.0.0.1:9"}
        )
        loaded = RouteReader(tmp_path / "fairlead.db").poll()
        assert loaded is not None
        assert version == loaded.table.version == 3
        routes = {route.key: route for route in loaded.table}
        assert {domain: route.targets for domain, route in routes.items()} == {
            "a.test": ("127.0.0.1:9",),
            "b.test": ("127.0.0.1:9",),
            "c.test": ("127.0.0.1:9",),
        }
        assert routes["a.test"].options.non_default() == {"retries": 2}

    def test_every_spelling_of_a_route_moves(self, tmp_path: Path) -> None:
        path = tmp_path / "fairlead.db"
        writer = RouteWriter(path)
        writer.set("a.test", "127.0.0.1:1")
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(
                "INSERT INTO proxy_routes (domain, target, updated_at_unix)"
                " VALUES ('A.Test', '127.0.0.1:2', 0)"
            )
        writer.retarget({"a.test": "127.0.0.1:9"})
        assert writer.targets(["a.test", "A.TEST"]) == {
            "a.test": "127.0.0.1:9",
            "A.TEST": "127.0.0.1:9",
        }
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT domain FROM proxy_routes").fetchall() == [("a.test",)]

    def test_routes_are_restored_as_available_as_they_were(self, db: Path) -> None:
        writer = RouteWriter(db)
        writer.set("a.test", "a:1", {"retries": 2, "boot": "first", "unavailable": "gone"})
        writer.set("b.test", "b:1")
        before = writer.routes(["a.test", "b.test"])
        writer.retarget({"a.test": "a:2", "b.test": "a:2"}, boot="second")
        writer.restore({domain: route for domain, route in before.items() if route is not None})
        assert writer.routes(["a.test", "b.test"]) == before
        assert kept(db)["a.test"]["retries"] == 2

    def test_one_bad_target_changes_nothing(self, tmp_path: Path) -> None:
        writer = RouteWriter(tmp_path / "fairlead.db")
        writer.set("a.test", "127.0.0.1:1")
        with pytest.raises(RouteError):
            writer.retarget({"a.test": "127.0.0.1:9", "b.test": "nowhere"})
        assert writer.targets(["a.test", "b.test"]) == {"a.test": "127.0.0.1:1", "b.test": None}

    def test_without_a_database_there_are_no_targets(self, tmp_path: Path) -> None:
        assert RouteWriter(tmp_path / "none.db").targets(["a.test"]) == {"a.test": None}
        (tmp_path / "empty.db").touch()
        assert RouteWriter(tmp_path / "empty.db").targets(["a.test"]) == {"a.test": None}

    def test_the_boot_is_written_and_what_was_said_of_the_old_target_goes(self, db: Path) -> None:
        writer = RouteWriter(db)
        writer.set("a.test", "a:1", {"retries": 2, "boot": "first", "unavailable": "gone"})
        writer.retarget({"a.test": "a:2", "b.test": "b:1"}, boot="second")
        assert kept(db) == {
            "a.test": {"retries": 2, "boot": "second"},
            "b.test": {"boot": "second"},
        }
        writer.retarget({"a.test": "a:3", "b.test": "b:2"})
        assert kept(db) == {"a.test": {"retries": 2}, "b.test": {}}

    @pytest.mark.parametrize("options", ["{", "[]"])
    def test_options_that_are_none_are_not_lost(self, db: Path, options: str) -> None:
        writer = RouteWriter(db)
        writer.set("a.test", "a:1", {"retries": 2})
        sql(db, f"UPDATE proxy_routes SET options = '{options}'")
        before = dump(db)
        with pytest.raises(RouteError, match=r"the options of 'a\.test' are not "):
            writer.retarget({"a.test": "a:2"})
        assert dump(db) == before
        assert writer.routes(["a.test"]) == {"a.test": StoredRoute("a:1", "", "")}

    def test_a_row_that_is_not_valid_is_named_and_those_of_others_are_not_looked_at(
        self, db: Path
    ) -> None:
        writer = RouteWriter(db)
        for name in ("a", "newer", "other"):
            writer.set(f"{name}.test", "a:1", {"retries": 2})
        sql(db, "UPDATE proxy_routes SET options = '{\"later\": 1}' WHERE domain != 'a.test'")
        before = dump(db)
        with pytest.raises(
            InvalidRowsError, match=r"'newer\.test' is not valid: .*'later'"
        ) as error:
            writer.retarget({"a.test": "a:2", "newer.test": "a:2"})
        assert list(error.value.rows) == ["newer.test"]
        assert dump(db) == before
        writer.retarget({"a.test": "a:2"})
        assert writer.targets(["a.test", "other.test"]) == {"a.test": "a:2", "other.test": "a:1"}

    def test_of_many_routes_each_costs_the_same(
        self, db: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """In steps of SQLite's machine: a look through the table for each was the square."""
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        def distrust(connection: sqlite3.Connection) -> None:
            limited(connection)
            connection.set_progress_handler(count, 100)

        limited = opening.distrust
        monkeypatch.setattr(opening, "distrust", distrust)
        writer = RouteWriter(db)
        cost = []
        for number in (300, 3000):
            targets = {f"{each}.test": "a:1" for each in range(number)}
            writer.retarget(targets)
            steps = 0
            writer.retarget(dict.fromkeys(targets, "a:2"), boot="now")
            writer.suspend(dict.fromkeys(targets, "gone"))
            writer.routes(targets)
            cost.append(steps)
        few, many = cost
        assert many < 15 * few


class TestSuspend:
    """Targets are gone for now: their routes stay, and say why."""

    def test_targets_and_options_are_kept_in_one_version(self, db: Path) -> None:
        writer = RouteWriter(db)
        writer.set("a.test", "a:1,a:2", {"weights": {"a:1": 3}, "retries": 2})
        writer.retarget({"b.test": "b:1"}, boot="now")
        assert writer.suspend({"a.test": "container is exited", "B.Test": "no container"}) == 3
        assert read(db) == {"a.test": "a:1,a:2", "b.test": "b:1"}
        assert kept(db) == {
            "a.test": {"weights": {"a:1": 3}, "retries": 2, "unavailable": "container is exited"},
            "b.test": {"boot": "now", "unavailable": "no container"},
        }

    def test_both_are_read_back(self, db: Path) -> None:
        writer = RouteWriter(db)
        assert writer.routes(["a.test"]) == {"a.test": None}
        writer.retarget({"a.test": "a:1", "b.test": "b:1"}, boot="now")
        writer.suspend({"a.test": "container is exited"})
        assert writer.routes(["a.test", "b.test", "c.test"]) == {
            "a.test": StoredRoute("a:1", "now", "container is exited"),
            "b.test": StoredRoute("b:1", "now", ""),
            "c.test": None,
        }

    def test_a_domain_without_a_route_is_left_alone(self, db: Path) -> None:
        writer = RouteWriter(db)
        writer.set("a.test", "a:1")
        assert writer.suspend({"never.test": "gone"}) == 2
        assert kept(db) == {"a.test": {}}

    def test_an_operator_who_sets_the_route_ends_it_and_who_changes_it_does_not(
        self, db: Path
    ) -> None:
        writer = RouteWriter(db)
        writer.retarget({"a.test": "a:1"}, boot="now")
        writer.suspend({"a.test": "gone"})
        writer.change("a.test", {"retries": 1})
        assert kept(db) == {"a.test": {"boot": "now", "unavailable": "gone", "retries": 1}}
        writer.set("a.test", "a:1")
        assert kept(db) == {"a.test": {}}

    def test_options_that_only_another_version_knows_are_kept(self, db: Path) -> None:
        writer = RouteWriter(db)
        writer.set("a.test", "a:1", {"retries": 2})
        writer.set("b.test", "b:1")
        sql(
            db,
            """
            UPDATE proxy_routes SET options = '{"later":1,"unavailable":"old"}'
            WHERE domain = 'a.test';
            UPDATE proxy_routes SET options = '{' WHERE domain = 'b.test'
            """,
        )
        writer.suspend({"a.test": "gone", "b.test": "gone"})
        with closing(sqlite3.connect(db)) as connection:
            found = connection.execute("SELECT options FROM proxy_routes ORDER BY domain")
            assert [each for (each,) in found] == ['{"later":1,"unavailable":"gone"}', "{"]

    def test_a_reason_is_needed(self, db: Path) -> None:
        writer = RouteWriter(db)
        writer.set("a.test", "a:1")
        before = dump(db)
        with pytest.raises(RouteError, match="option 'unavailable' is not a text"):
            writer.suspend({"a.test": ""})
        assert dump(db) == before

    def test_no_database_is_made(self, db: Path) -> None:
        with pytest.raises(StoreError, match="does not exist"):
            RouteWriter(db).suspend({"a.test": "gone"})
        assert not db.exists()


class TestIdentity:
    """A database has an id, which its backups share. Where routes were served, no other changes."""

    def test_every_database_has_one_of_its_own_and_keeps_it(self, db: Path) -> None:
        writer = RouteWriter(db)
        writer.set("a.test", "a:1")
        before = identity(db)
        writer.set("b.test", "b:1")
        writer.change("b.test", {"retries": 0})
        writer.remove("b.test")
        writer.retarget({"c.test": "c:1"})
        assert identity(db) == before > 0
        other = db.with_name("other.db")
        RouteWriter(other).retarget({"a.test": "a:1"})
        assert identity(other) not in {before, 0}

    @pytest.mark.parametrize(
        "change",
        [
            lambda writer: writer.set("a.test", "a:1"),
            lambda writer: writer.change("sim.local", {"retries": 0}),
            lambda writer: writer.remove("sim.local"),
            lambda writer: writer.retarget({"sim.local": "a:1"}),
        ],
    )
    def test_the_first_change_gives_it_to_one_that_has_none(
        self, godeploy: Path, change: Callable[[RouteWriter], int]
    ) -> None:
        assert identity(godeploy) == 0
        SnapshotFile(godeploy).save(Snapshot.of(0, 41, {}))
        change(RouteWriter(godeploy))
        assert identity(godeploy) > 0

    def test_a_program_that_counts_up_all_numbers_does_not_change_it(self, db: Path) -> None:
        RouteWriter(db).set("a.test", "a:1")
        before = identity(db)
        count_up(db, "DELETE FROM proxy_routes")
        assert identity(db) == before

    def test_a_change_that_is_refused_gives_none(self, godeploy: Path) -> None:
        with pytest.raises(RouteError):
            RouteWriter(godeploy).remove("none.test")
        assert identity(godeploy) == 0

    @pytest.mark.parametrize("database_id", [7, 0])
    def test_where_routes_were_served_no_database_is_made(self, db: Path, database_id: int) -> None:
        SnapshotFile(db).save(Snapshot.of(database_id, 1, {}))
        for make in MAKERS:
            assert "but routes were served from it" in reason(partial(make, RouteWriter(db)))
        assert not db.exists()
        db.touch()
        for make in MAKERS:
            assert "no routes table, but routes were served" in reason(
                partial(make, RouteWriter(db))
            )
        assert "but routes were served" in reason(RouteReader(db).poll)

    def test_where_routes_were_served_none_and_another_database_say_nothing_of_them(
        self, db: Path
    ) -> None:
        """Or a deploy that was switched would be taken for one that was not."""
        reads: tuple[Callable[[RouteWriter], object], ...] = (
            lambda writer: writer.routes(["a.test"]),
            RouteWriter.all_targets,
            lambda writer: writer.route_of(["a.test"]),
            RouteWriter.managed_route,
        )
        SnapshotFile(db).save(Snapshot.of(7, 1, {}))
        for read_by in reads:
            assert "but routes were served from it" in reason(partial(read_by, RouteWriter(db)))
        assert not db.exists()
        other = db.with_name("other.db")
        RouteWriter(other).set("a.test", "a:1")
        other.replace(db)
        for read_by in reads:
            assert "is not the database whose" in reason(partial(read_by, RouteWriter(db)))

    def test_a_managed_route_is_one_that_has_a_boot(self, db: Path) -> None:
        writer = RouteWriter(db)
        assert writer.managed_route() is None
        writer.set("hand.test", "a:1")
        assert writer.managed_route() is None
        writer.set("hand.test", "a:1", {"retries": 0})
        assert writer.managed_route() is None
        writer.retarget({"b.test": "b:1"}, boot="boot")
        assert writer.managed_route() == "b.test"

    def test_where_routes_were_served_no_other_database_is_changed(self, db: Path) -> None:
        RouteWriter(db).set("a.test", "a:1")
        SnapshotFile(db).save(Snapshot.of(7, 1, {}))
        before = dump(db)
        for change in (*MAKERS, lambda writer: writer.remove("a.test")):
            assert "fairlead route adopt" in reason(partial(change, RouteWriter(db)))
        assert dump(db) == before
        SnapshotFile(db).save(Snapshot.of(identity(db), 1, {}))
        assert RouteWriter(db).remove("a.test") == 2

    def test_where_any_database_is_wanted_it_is_made(self, db: Path) -> None:
        SnapshotFile(db).save(Snapshot.of(7, 1, {}).of_any_database())
        assert RouteWriter(db).set("a.test", "a:1") == 1


MAKERS: list[Callable[[RouteWriter], int]] = [
    lambda writer: writer.set("a.test", "a:1"),
    lambda writer: writer.retarget({"a.test": "a:1"}),
]


def identity(db: Path) -> int:
    loaded = RouteReader(db).poll()
    assert loaded is not None
    return loaded.database_id

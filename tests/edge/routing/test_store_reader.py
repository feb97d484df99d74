"""Reading the routes from disk: what is read, when, and what is skipped."""

import shutil
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from edge.routing import store_reader
from edge.routing.snapshot import Snapshot
from edge.routing.store_reader import RouteReader
from edge.routing.store_writer import RouteWriter
from edge.routing.table import RouteTable
from tests.edge.routing.stores import GODEPLOY, count_up, read, reason, routes_in, sql


class TestReading:
    def test_a_database_of_godeploy_platform_is_read_and_left_as_it_is(
        self, godeploy: Path
    ) -> None:
        before = godeploy.read_bytes()
        loaded = RouteReader(godeploy).poll()
        assert routes_in(loaded) == {"sim.local": "127.0.0.1:32768", "app.local": "127.0.0.1:8080"}
        assert loaded is not None
        assert loaded.table.version == 41
        assert loaded.problems == ()
        assert godeploy.read_bytes() == before
        assert list(godeploy.parent.iterdir()) == [godeploy]

    def test_nothing_new_is_nothing(self, godeploy: Path) -> None:
        reader = RouteReader(godeploy)
        assert reader.poll() is not None
        assert reader.poll() is None
        assert reader.poll() is None

    def test_force_reads_again_what_has_not_changed(self, godeploy: Path) -> None:
        reader = RouteReader(godeploy)
        reader.poll()
        sql(godeploy, "UPDATE proxy_routes SET target = 'a:1' WHERE domain = 'sim.local'")
        assert reader.poll() is None
        assert routes_in(reader.poll(force=True))["sim.local"] == "a:1"

    @pytest.mark.parametrize("version", [42, 40, 0, -1])
    def test_any_other_version_is_news(self, godeploy: Path, version: int) -> None:
        reader = RouteReader(godeploy)
        reader.poll()
        sql(godeploy, f"UPDATE proxy_meta SET value = {version}; DELETE FROM proxy_routes")
        loaded = reader.poll()
        assert routes_in(loaded) == {}
        assert loaded is not None
        assert loaded.table.version == version

    @pytest.mark.parametrize(
        "script",
        [
            "DELETE FROM proxy_meta",
            """
            DROP TABLE proxy_meta;
            CREATE TABLE proxy_meta (key, value);
            INSERT INTO proxy_meta VALUES ('routes_version', NULL);
            """,
        ],
    )
    def test_a_database_without_a_version_is_at_version_0(
        self, godeploy: Path, script: str
    ) -> None:
        sql(godeploy, script)
        loaded = RouteReader(godeploy).poll()
        assert loaded is not None
        assert loaded.table.version == 0
        assert len(loaded.table) == 2

    def test_a_file_that_replaces_the_database_is_read_even_with_its_version(
        self, godeploy: Path
    ) -> None:
        reader = RouteReader(godeploy)
        reader.poll()
        other = godeploy.with_name("other.db")
        sql(other, GODEPLOY)
        sql(other, "DELETE FROM proxy_routes; INSERT INTO proxy_routes VALUES ('new.test','n:1',0)")
        other.rename(godeploy)
        assert routes_in(reader.poll()) == {"new.test": "n:1"}
        assert reader.poll() is None

    def test_the_log_of_a_replaced_database_is_not_applied_to_the_new_one(self, db: Path) -> None:
        RouteWriter(db).set("old.test", "o:1")
        reader = RouteReader(db)
        reader.poll()
        count_up(db, "INSERT INTO proxy_routes VALUES ('older.test', 'o:2', 0)")  # into the log
        assert routes_in(reader.poll()) == {"old.test": "o:1", "older.test": "o:2"}
        other = db.with_name("other.db")
        RouteWriter(other).set("new.test", "n:1")
        other.rename(db)
        assert routes_in(reader.poll()) == {"new.test": "n:1"}

    def test_a_file_that_is_written_over_in_place_is_read(self, db: Path) -> None:
        RouteWriter(db).set("old.test", "o:1")
        reader = RouteReader(db)
        reader.poll()
        other = db.with_name("other.db")
        RouteWriter(other).set("new.test", "n:1")
        RouteWriter(other).set("newer.test", "n:2")
        shutil.copyfile(other, db)
        assert routes_in(reader.poll()) == {"new.test": "n:1", "newer.test": "n:2"}

    def test_bad_rows_are_named_and_the_others_live(self, godeploy: Path) -> None:
        sql(
            godeploy,
            """
            INSERT INTO proxy_routes VALUES ('no port', 'a', 0), ('x.test', 'a:0', 0);
            INSERT INTO proxy_routes VALUES (x'78', 'a:1', 0), ('blob.test', x'613a31', 0);
            INSERT INTO proxy_routes (rowid, domain, target, updated_at_unix)
                VALUES (77, NULL, 'a:1', 0);
            INSERT INTO proxy_routes VALUES (CAST(x'ff2e74' AS TEXT), 'a:1', 0);
            INSERT INTO proxy_routes VALUES ('n' || char(0) || '.test', 'a:1', 0);
            """,
        )
        loaded = RouteReader(godeploy).poll()
        assert set(routes_in(loaded)) == {"sim.local", "app.local"}
        assert loaded is not None
        assert [line.partition(":")[0] for line in loaded.problems] == [
            "route 'blob.test' is answered 503",
            "route 'n\\x00.test' is skipped",
            "route 'no port' is skipped",
            "route 'x.test' is answered 503",
            "route '\ufffd.t' is skipped",
            "row 5 is skipped",
            "row 77 is skipped",
        ]

    def test_options_are_read_and_bad_ones_are_named(self, godeploy: Path) -> None:
        sql(
            godeploy,
            """
            ALTER TABLE proxy_routes ADD COLUMN options TEXT;
            INSERT INTO proxy_routes VALUES ('o.test', 'a:1', 0, '{"max_body":7}');
            INSERT INTO proxy_routes VALUES ('p.test', 'a:1', 0, '{"max_body":-7}');
            INSERT INTO proxy_routes VALUES ('q.test', 'a:1', 0, x'7b7d');
            """,
        )
        loaded = RouteReader(godeploy).poll()
        assert loaded is not None
        assert {route.key: route.options.max_body for route in loaded.table} == {
            "sim.local": None,
            "app.local": None,
            "o.test": 7,
        }
        assert [line.partition(":")[0] for line in loaded.problems] == [
            "route 'p.test' is answered 503",
            "route 'q.test' is answered 503",
        ]

    def test_a_change_of_options_alone_is_seen(self, db: Path) -> None:
        writer, reader = RouteWriter(db), RouteReader(db)
        for options in ({"max_body": 7}, {"max_body": 8}, {}, {"host": "target"}):
            writer.set("app.test", "a:1", options)
            loaded = reader.poll()
            assert loaded is not None
            assert [route.options.non_default() for route in loaded.table] == [options]

    def test_a_route_that_did_not_change_stays_the_same_object(self, db: Path) -> None:
        writer, reader = RouteWriter(db), RouteReader(db)
        writer.set("same.test", "a:1")
        loaded = reader.poll()
        assert loaded is not None
        route = loaded.table.match("same.test", b"/")
        writer.set("other.test", "a:1")
        loaded = reader.poll()
        assert loaded is not None
        assert loaded.table.match("same.test", b"/") is route


class TestPages:
    """The reader reads pages of rows, and looks only at those that have changed."""

    @pytest.fixture(autouse=True)
    def small_pages(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(store_reader, "PAGE_ROWS", 3)
        monkeypatch.setattr(store_reader, "PAGES_PER_READ", 2)

    @pytest.mark.parametrize(
        "script",
        [
            "UPDATE proxy_routes SET target = 'n:1' WHERE domain = 'r7.test'",
            "DELETE FROM proxy_routes WHERE domain IN ('r0.test', 'r1.test', 'r2.test')",
            "DELETE FROM proxy_routes WHERE domain NOT IN ('r4.test')",
            "DELETE FROM proxy_routes",
            """
            INSERT INTO proxy_routes VALUES ('n1.test', 'n:1', 0), ('n2.test', 'n:1', 0),
                ('n3.test', 'n:1', 0), ('n4.test', 'n:1', 0), ('n5.test', 'n:1', 0)
            """,
            # The row moves to the last page.
            "INSERT OR REPLACE INTO proxy_routes VALUES ('r0.test', 'n:1', 0)",
            "INSERT OR REPLACE INTO proxy_routes VALUES ('r0.test', 't:9', 0)",
            "UPDATE proxy_routes SET domain = 'n.test' WHERE domain = 'r5.test'",
            "DELETE FROM proxy_routes WHERE domain < 'r5'; VACUUM",
            # Far more rows than a page should have, in the middle and at both ends.
            "UPDATE proxy_routes SET rowid = rowid * 1000",
            "UPDATE proxy_routes SET rowid = -rowid",
            "UPDATE proxy_routes SET rowid = 9223372036854775807 WHERE domain = 'r1.test'",
            "UPDATE proxy_routes SET rowid = -9223372036854775807 - 1 WHERE domain = 'r1.test'",
        ],
    )
    @pytest.mark.parametrize("rows", [1, 3, 6, 14])
    def test_after_any_change_all_rows_are_there_and_no_others(
        self, db: Path, rows: int, script: str
    ) -> None:
        RouteWriter(db).set("r0.test", "t:1")
        for number in range(1, rows):
            sql(db, f"INSERT INTO proxy_routes VALUES ('r{number}.test', 't:1', 0)")
        reader = RouteReader(db)
        reader.poll()
        for step in (script, "INSERT INTO proxy_routes VALUES ('last.test', 't:1', 0)"):
            count_up(db, step)
            assert routes_in(reader.poll()) == read(db)
            with closing(sqlite3.connect(db)) as connection:
                stored = dict(connection.execute("SELECT domain, target FROM proxy_routes"))
            assert read(db) == stored

    def test_a_page_that_has_grown_too_large_is_split(
        self, db: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        RouteWriter(db).set("r0.test", "t:1")
        sql(db, "UPDATE proxy_routes SET rowid = 1000")
        for number in range(1, 4):
            sql(db, f"INSERT INTO proxy_routes VALUES ('r{number}.test', 't:1', 0)")
        reader = RouteReader(db)
        reader.poll()
        values = ", ".join(f"({rowid}, 'm{rowid}.test', 't:1', 0)" for rowid in range(1, 21))
        count_up(
            db, f"INSERT INTO proxy_routes (rowid, domain, target, updated_at_unix) VALUES {values}"
        )
        reader.poll()
        pages: list[int] = []
        real = store_reader._row_count

        def row_count(page: bytes) -> int:
            pages.append(real(page))
            return pages[-1]

        monkeypatch.setattr(store_reader, "_row_count", row_count)
        assert len(routes_in(reader.poll(force=True))) == 24
        pages.clear()
        reader.poll(force=True)
        assert max(pages) <= 3

    def test_only_what_has_changed_reaches_the_table(
        self, db: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(10):
            RouteWriter(db).set(f"r{number}.test", "t:1")
        reader = RouteReader(db)
        reader.poll()
        changes: list[tuple[set[str], set[str]]] = []
        real = RouteTable.changed

        def changed(
            table: RouteTable,
            version: int,
            targets: dict[str, str],
            options: dict[str, str],
            gone: list[str],
        ) -> RouteTable:
            changes.append((set(targets), set(gone)))
            return real(table, version, targets, options, gone)

        monkeypatch.setattr(RouteTable, "changed", changed)
        RouteWriter(db).set("r4.test", "t:2")
        RouteWriter(db).remove("r8.test")
        RouteWriter(db).set("new.test", "t:3")
        reader.poll()
        assert changes == [({"r4.test", "new.test"}, {"r8.test"})]


class TestIdentity:
    def test_only_the_expected_database_is_read(self, db: Path) -> None:
        RouteWriter(db).set("a.test", "a:1")
        reader = RouteReader(db)
        loaded = reader.poll()
        assert loaded is not None
        mine = loaded.database_id
        assert reader.poll(expected_id=mine) is None
        for force in (False, True):
            assert "is not the database" in reason(partial(reader.poll, force, mine + 1))
        assert reader.poll(expected_id=mine) is None

    def test_one_that_lost_its_identity_is_another(self, db: Path) -> None:
        RouteWriter(db).set("a.test", "a:1")
        reader = RouteReader(db)
        loaded = reader.poll()
        assert loaded is not None
        for script in ("DELETE FROM proxy_identity", "DROP TABLE proxy_identity"):
            sql(db, script)
            assert "is not the database" in reason(
                lambda: reader.poll(expected_id=loaded.database_id)
            )
            again = reader.poll(force=True)
            assert again is not None
            assert again.database_id == 0


class TestRestoring:
    def test_a_table_that_is_kept_is_the_one_that_was_read(self, db: Path) -> None:
        for host in ("a.test", "b.test"):
            RouteWriter(db).set(host, "a:1", {"retries": 0})
        count_up(db, "INSERT INTO proxy_routes VALUES ('bad', 'a', 0, NULL)")
        loaded = RouteReader(db).poll()
        assert loaded is not None
        reader = RouteReader(db)
        restored = reader.restore(
            Snapshot.of(loaded.database_id, loaded.table.version, loaded.pages)
        )
        assert list(restored.table) == list(loaded.table)
        assert restored.table.version == loaded.table.version
        assert restored.problems == loaded.problems
        assert restored.database_id == loaded.database_id

    def test_then_the_database_is_read_as_it_is(self, db: Path) -> None:
        RouteWriter(db).set("a.test", "a:1")
        loaded = RouteReader(db).poll()
        assert loaded is not None
        reader = RouteReader(db)
        reader.restore(Snapshot.of(loaded.database_id, 1, loaded.pages))
        assert routes_in(reader.poll()) == {"a.test": "a:1"}
        assert reader.poll() is None
        RouteWriter(db).set("a.test", "b:2")
        assert routes_in(reader.poll()) == {"a.test": "b:2"}

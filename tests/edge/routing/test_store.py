"""The routes on disk: what is read, what is written, and every way in which the file can fail."""

import errno
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge.errors import RouteError, StoreError
from edge.routing import store
from edge.routing.routes import RouteTable
from edge.routing.store import Loaded, RouteReader, RouteWriter

GODEPLOY = """
CREATE TABLE proxy_routes (
    domain TEXT PRIMARY KEY,
    target TEXT NOT NULL,
    updated_at_unix INTEGER NOT NULL
);
CREATE TABLE proxy_meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL);
INSERT INTO proxy_meta VALUES ('routes_version', 41);
INSERT INTO proxy_routes VALUES ('sim.local', '127.0.0.1:32768', 1746200000);
INSERT INTO proxy_routes VALUES ('App.local', '127.0.0.1:8080', 1746200001);
"""


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "fairlead.db"


@pytest.fixture
def godeploy(db: Path) -> Path:
    """A database as godeploy-platform leaves it: rollback journal, no column of options."""
    sql(db, GODEPLOY)
    return db


def sql(db: Path, script: str) -> None:
    with closing(sqlite3.connect(db)) as connection:
        connection.executescript(script)


def count_up(db: Path, script: str) -> None:
    """A change as another program makes it: some SQL, and the version counted up."""
    sql(db, f"{script}; UPDATE proxy_meta SET value = value + 1")


def dump(db: Path) -> list[str]:
    with closing(sqlite3.connect(db)) as connection:
        return list(connection.iterdump())


def kept(db: Path) -> dict[str, dict[str, object]]:
    """The options of every route that is served."""
    loaded = RouteReader(db).poll()
    assert loaded is not None
    return {route.key: route.options.non_default() for route in loaded.table}


def routes_in(loaded: Loaded | None) -> dict[str, str]:
    assert loaded is not None
    return {route.key: ",".join(route.targets) for route in loaded.table}


def read(db: Path) -> dict[str, str]:
    return routes_in(RouteReader(db).poll())


def columns(db: Path) -> list[str]:
    with closing(sqlite3.connect(db)) as connection:
        return [row[1] for row in connection.execute("PRAGMA table_info(proxy_routes)")]


def reason(call: Callable[[], object]) -> str:
    with pytest.raises(StoreError) as failure:
        call()
    return str(failure.value)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def python(script: str, *args: object) -> "subprocess.Popen[str]":
    """Another process of this interpreter, with this package."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, args)],
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


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
        assert [line.partition(" is skipped")[0] for line in loaded.problems] == [
            "route 'n\\x00.test'",
            "route 'no port'",
            "route 'x.test'",
            "route '\ufffd.t'",
            "row 5",
            "row 6",
            "row 77",
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
            "route 'p.test' is skipped",
            "route 'q.test' is skipped",
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
        monkeypatch.setattr(store, "PAGE_ROWS", 3)
        monkeypatch.setattr(store, "PAGES_PER_READ", 2)

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
        real = store._row_count

        def row_count(page: bytes) -> int:
            pages.append(real(page))
            return pages[-1]

        monkeypatch.setattr(store, "_row_count", row_count)
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


class TestFaults:
    """Whatever is wrong with the file is one StoreError, and over when the fault is."""

    def break_and_mend(
        self, db: Path, break_it: Callable[[], object], mend_it: Callable[[], object], text: str
    ) -> None:
        reader = RouteReader(db)
        before = routes_in(reader.poll())
        break_it()
        for _ in range(3):
            assert text in reason(reader.poll)
            assert str(db) in reason(reader.poll)
        assert text in reason(lambda: reader.poll(force=True))
        mend_it()
        loaded = reader.poll()
        assert routes_in(loaded if loaded is not None else reader.poll(force=True)) == before

    def test_a_locked_database(self, godeploy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(store, "READ_TIMEOUT", 0.01)
        monkeypatch.setattr(store, "WRITE_TIMEOUT", 0.01)
        with closing(sqlite3.connect(godeploy, isolation_level=None)) as other:
            self.break_and_mend(
                godeploy,
                lambda: other.execute("BEGIN EXCLUSIVE"),
                lambda: other.execute("ROLLBACK"),
                "is locked by another program",
            )
            other.execute("BEGIN IMMEDIATE")
            writer = RouteWriter(godeploy)
            assert "is locked" in reason(lambda: writer.set("new.test", "a:1"))
            assert "is locked" in reason(lambda: writer.remove("sim.local"))
            other.execute("ROLLBACK")
        assert set(read(godeploy)) == {"sim.local", "app.local"}

    def test_a_locked_database_in_wal_mode_can_be_read(self, db: Path) -> None:
        RouteWriter(db).set("app.test", "a:1")
        with closing(sqlite3.connect(db, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            other.execute("DELETE FROM proxy_routes")
            assert read(db) == {"app.test": "a:1"}

    def test_a_change_that_is_not_checkpointed_is_read(self, db: Path) -> None:
        RouteWriter(db).set("app.test", "a:1")
        with closing(sqlite3.connect(db, isolation_level=None)) as other:
            other.execute("UPDATE proxy_routes SET target = 'b:2'")
            assert db.with_name("fairlead.db-wal").stat().st_size > 0
            assert read(db) == {"app.test": "b:2"}

    def test_a_missing_database(self, godeploy: Path) -> None:
        away = godeploy.with_name("away.db")
        self.break_and_mend(
            godeploy,
            lambda: godeploy.rename(away),
            lambda: away.rename(godeploy),
            "does not exist",
        )
        assert "fairlead route set" in reason(RouteReader(away).poll)
        assert not away.exists()

    def test_a_database_in_a_missing_folder(self, tmp_path: Path) -> None:
        db = tmp_path / "no" / "fairlead.db"
        assert "does not exist" in reason(RouteReader(db).poll)
        assert "does not exist: create it first" in reason(
            lambda: RouteWriter(db).set("app.test", "a:1")
        )
        assert not db.parent.exists()

    def test_a_folder_in_place_of_the_database(self, db: Path) -> None:
        db.mkdir()
        assert "is not a file" in reason(RouteReader(db).poll)
        assert "cannot open" in reason(lambda: RouteWriter(db).set("app.test", "a:1"))

    def test_a_pipe_in_place_of_the_database(self, db: Path) -> None:
        os.mkfifo(db)
        assert "is not a file" in reason(RouteReader(db).poll)

    def test_a_link_that_leads_nowhere(self, db: Path) -> None:
        db.symlink_to(db)
        assert "cannot read" in reason(RouteReader(db).poll)

    def test_a_file_that_is_no_database(self, godeploy: Path) -> None:
        sound = godeploy.read_bytes()
        self.break_and_mend(
            godeploy,
            lambda: godeploy.write_bytes(b"something else entirely\n" * 500),
            lambda: godeploy.write_bytes(sound),
            "is not a SQLite database",
        )

    @pytest.mark.parametrize("script", ["", "CREATE TABLE proxy_routes (domain, target)"])
    def test_a_database_without_the_tables(self, db: Path, script: str) -> None:
        sql(db, f"CREATE TABLE other (a); {script}")
        assert "add a route with `fairlead route set`" in reason(RouteReader(db).poll)

    def test_an_empty_file_becomes_a_database_with_the_first_route(self, db: Path) -> None:
        db.touch()
        reader = RouteReader(db)
        assert "has no routes table" in reason(reader.poll)
        assert RouteWriter(db).set("app.test", "a:1") == 1
        assert routes_in(reader.poll()) == {"app.test": "a:1"}

    def test_tables_of_another_shape(self, db: Path) -> None:
        sql(db, "CREATE TABLE proxy_routes (a); CREATE TABLE proxy_meta (key, value)")
        assert "no such column" in reason(RouteReader(db).poll)

    @pytest.fixture
    def large(self, db: Path) -> Path:
        """Many pages of the file, so that there are some without which it still looks sound."""
        RouteWriter(db).set("r0.test", "t:1")
        values = ", ".join(f"('r{number}.test', 't:1', 0)" for number in range(1, 5000))
        count_up(db, f"INSERT INTO proxy_routes VALUES {values}")
        return db

    @pytest.mark.parametrize("page", range(2, 52, 4))
    @pytest.mark.parametrize("filler", [b"\0", b"\xa5"])
    def test_damaged_pages(self, large: Path, page: int, filler: bytes) -> None:
        sound = large.read_bytes()
        assert len(sound) > 54 * 4096

        def damage() -> None:
            damaged = bytearray(sound)
            damaged[page * 4096 : (page + 2) * 4096] = filler * 8192
            large.with_name("damaged").write_bytes(damaged)
            large.with_name("damaged").rename(large)

        def mend() -> None:
            large.with_name("sound").write_bytes(sound)
            large.with_name("sound").rename(large)

        self.break_and_mend(large, damage, mend, "is damaged")

    def test_a_file_that_is_cut_short(self, large: Path) -> None:
        sound = large.read_bytes()
        self.break_and_mend(
            large,
            lambda: (
                large.with_name("cut").write_bytes(sound[: len(sound) // 2]),
                large.with_name("cut").rename(large),
            ),
            lambda: (
                large.with_name("sound").write_bytes(sound),
                large.with_name("sound").rename(large),
            ),
            "is damaged",
        )

    def test_damage_under_a_running_edge_is_seen_with_the_next_change(self, large: Path) -> None:
        reader = RouteReader(large)
        table = reader.poll()
        with large.open("r+b") as file:
            file.seek(10 * 4096)
            file.write(b"\0" * 40 * 4096)
        assert reader.poll() is None
        assert "is damaged" in reason(lambda: reader.poll(force=True))
        assert "is damaged" in reason(reader.poll)
        assert len(routes_in(table)) == 5000

    def test_a_log_that_cannot_be_opened(self, db: Path) -> None:
        RouteWriter(db).set("app.test", "a:1")
        db.with_name("fairlead.db-wal").mkdir()
        assert "cannot open" in reason(RouteReader(db).poll)
        db.with_name("fairlead.db-wal").rmdir()
        assert read(db) == {"app.test": "a:1"}

    @pytest.fixture
    def no_shared_memory(self, db: Path) -> Path:
        """A database in WAL mode of which the shared memory cannot be made."""
        RouteWriter(db).set("app.test", "a:1")
        db.with_name("fairlead.db-shm").symlink_to("nowhere")
        return db

    def test_where_no_file_can_be_made_beside_it_the_database_is_read_alone(
        self, no_shared_memory: Path
    ) -> None:
        reader = RouteReader(no_shared_memory)
        assert routes_in(reader.poll()) == {"app.test": "a:1"}
        assert reader.poll() is None

    @pytest.mark.parametrize("log", ["-wal", "-journal"])
    def test_a_database_with_a_log_is_not_read_alone(
        self, no_shared_memory: Path, log: str
    ) -> None:
        no_shared_memory.with_name(f"fairlead.db{log}").write_bytes(b"x")
        assert "cannot open" in reason(RouteReader(no_shared_memory).poll)

    def test_a_database_that_is_written_to_meanwhile_is_read_again(
        self, no_shared_memory: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = store._connect

        def connect(path: Path, how: str, timeout: float) -> sqlite3.Connection:
            if how == "immutable=1":
                os.utime(path)
            return real(path, how, timeout)

        reader = RouteReader(no_shared_memory)
        os.utime(no_shared_memory, (0, 0))
        monkeypatch.setattr(store, "_connect", connect)
        assert "was written while being read" in reason(reader.poll)
        monkeypatch.undo()
        assert routes_in(reader.poll()) == {"app.test": "a:1"}

    def test_no_file_stays_open_however_often_a_look_fails(
        self, godeploy: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(store, "READ_TIMEOUT", 0)
        folder = godeploy.parent
        (folder / "none.db").write_bytes(b"x" * 5000)
        (folder / "empty.db").touch()
        readers = [
            RouteReader(folder / name)
            for name in ("fairlead.db", "none.db", "empty.db", "missing.db")
        ]
        with closing(sqlite3.connect(godeploy, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            # SQLite keeps a file for later that it must not close while another connection of the
            # process has a lock on it; so it counts what comes after the first look.
            for reader in readers:
                reason(reader.poll)
            open_before = open_files()
            for _ in range(500):
                for reader in readers:
                    reason(reader.poll)
            assert open_files() == open_before
        assert routes_in(readers[0].poll())
        assert open_files() <= open_before


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
        monkeypatch.setattr(store, "CHECKPOINT_TIMEOUT", 0.01)
        RouteWriter(db).set("a.test", "a:1")
        with closing(sqlite3.connect(db, isolation_level=None)) as other:
            other.execute("BEGIN")
            other.execute("SELECT * FROM proxy_routes").fetchall()
            assert RouteWriter(db).set("b.test", "b:2") == 2
        assert read(db) == {"a.test": "a:1", "b.test": "b:2"}

    def test_a_change_stands_although_another_program_prevents_wal_mode(
        self, godeploy: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(store, "CHECKPOINT_TIMEOUT", 0.01)
        real = store._checkpoint
        with closing(sqlite3.connect(godeploy, isolation_level=None)) as other:

            def settle(connection: sqlite3.Connection) -> None:
                other.execute("BEGIN EXCLUSIVE")
                real(connection)
                other.execute("ROLLBACK")

            monkeypatch.setattr(store, "_checkpoint", settle)
            assert RouteWriter(godeploy).set("b.test", "b:2") == 42
            assert other.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert read(godeploy)["b.test"] == "b:2"

    def test_a_read_only_database(self, db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        RouteWriter(db).set("a.test", "a:1")
        real = store._connect
        monkeypatch.setattr(
            store, "_connect", lambda path, _how, timeout: real(path, "mode=ro", timeout)
        )
        assert "is read-only" in reason(lambda: RouteWriter(db).set("b.test", "b:2"))


class TestOtherProcesses:
    def test_two_writers_at_once_lose_no_change(self, db: Path) -> None:
        changes = 25
        script = """
            import sys
            from pathlib import Path
            from edge.routing.store import RouteWriter
            writer = RouteWriter(Path(sys.argv[1]))
            for number in range(int(sys.argv[3])):
                print(writer.set(f"{sys.argv[2]}-{number}.test", "a:1"))
                print(writer.set("shared.test", f"{sys.argv[2]}:{number + 1}"))
        """
        writers = [python(script, db, name, changes) for name in ("left", "right", "third")]
        versions: list[int] = []
        for writer in writers:
            out, err = writer.communicate(timeout=50)
            assert (writer.returncode, err) == (0, "")
            versions += map(int, out.split())
        assert sorted(versions) == list(range(1, 3 * 2 * changes + 1))
        loaded = RouteReader(db).poll()
        assert loaded is not None
        assert loaded.table.version == 3 * 2 * changes
        assert len(loaded.table) == 3 * changes + 1

    @pytest.mark.parametrize("after", [1, 2, 5, 9, 14])
    def test_a_writer_that_is_killed_leaves_nothing_half_written(
        self, db: Path, after: int
    ) -> None:
        script = """
            import sys
            from itertools import count
            from pathlib import Path
            from edge.routing.store import RouteWriter
            writer = RouteWriter(Path(sys.argv[1]))
            for number in count(1):
                print(writer.set("app.test", f"a:{number}"), flush=True)
        """
        writer = python(script, db)
        assert writer.stdout is not None
        reported = [int(writer.stdout.readline()) for _ in range(after)][-1]
        writer.kill()
        writer.communicate()
        loaded = RouteReader(db).poll()
        assert loaded is not None
        # The row and the version were written together, so they are equal; and what the writer
        # has reported is there.
        assert routes_in(loaded) == {"app.test": f"a:{loaded.table.version}"}
        assert loaded.table.version >= reported
        assert RouteWriter(db).set("b.test", "b:2") == loaded.table.version + 1

    def test_what_a_killed_godeploy_platform_has_half_written_is_rolled_back(
        self, godeploy: Path
    ) -> None:
        values = ", ".join(f"('r{number}.test', 'a:1', 0)" for number in range(3000))
        sql(godeploy, f"DELETE FROM proxy_routes; INSERT INTO proxy_routes VALUES {values}")
        reader = RouteReader(godeploy)
        before = routes_in(reader.poll())
        script = """
            import os, signal, sqlite3, sys
            connection = sqlite3.connect(sys.argv[1], isolation_level=None)
            connection.execute("PRAGMA cache_size = 1")  # so that pages go to the file at once
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("UPDATE proxy_routes SET target = 'half:1'")
            os.kill(os.getpid(), signal.SIGKILL)
        """
        killed = python(script, godeploy)
        killed.communicate()
        assert killed.returncode == -signal.SIGKILL
        assert godeploy.with_name("fairlead.db-journal").stat().st_size > 0
        assert b"half:1" in godeploy.read_bytes()
        assert routes_in(reader.poll(force=True)) == before
        assert b"half:1" not in godeploy.read_bytes()

    def test_a_limit_on_the_size_of_the_file_leaves_the_database_as_it_was(self, db: Path) -> None:
        RouteWriter(db).set("first.test", "a:1")
        script = """
            import resource, sys
            from pathlib import Path
            from edge.errors import StoreError
            from edge.routing.store import RouteWriter
            db = Path(sys.argv[1])
            size = db.stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 8192, resource.RLIM_INFINITY))
            done = 1
            try:
                while done < 5000:
                    RouteWriter(db).set(f"{'x' * 60}.{'y' * 60}.n{done}.test", "a:1")
                    done += 1
            except StoreError as error:
                print(done, error)
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        """
        limited = python(script, db)
        out, err = limited.communicate(timeout=50)
        assert (limited.returncode, err) == (0, "")
        done, _, text = out.strip().partition(" ")
        assert "check its disk and free space" in text
        loaded = RouteReader(db).poll()
        assert loaded is not None
        assert len(loaded.table) == loaded.table.version == int(done)
        assert RouteWriter(db).set("last.test", "a:1") == int(done) + 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB of its own."""
    mount = tmp_path / "disk"
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(mount)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("only root can mount a small disk")
    yield mount
    subprocess.run(["umount", str(mount)], check=True)


def fill(disk: Path) -> Path:
    """A file that leaves no room on the disk."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    return filler


class TestFullDisk:
    def test_a_full_disk_refuses_the_change_and_nothing_else(self, small_disk: Path) -> None:
        db = small_disk / "fairlead.db"
        writer, reader = RouteWriter(db), RouteReader(db)
        writer.set("a.test", "a:1")
        filler = fill(small_disk)
        text = reason(lambda: writer.set("b.test", "b:2"))
        assert "the disk of" in text or "check its disk" in text
        assert routes_in(reader.poll()) == {"a.test": "a:1"}
        assert reader.poll() is None
        filler.unlink()
        assert writer.set("b.test", "b:2") == 2
        assert routes_in(reader.poll()) == {"a.test": "a:1", "b.test": "b:2"}

    def test_a_disk_that_is_full_from_the_start_gets_no_half_database(
        self, small_disk: Path
    ) -> None:
        db = small_disk / "fairlead.db"
        filler = fill(small_disk)
        reason(lambda: RouteWriter(db).set("a.test", "a:1"))
        filler.unlink()
        assert RouteWriter(db).set("a.test", "a:1") == 1

    def test_a_disk_that_is_mounted_read_only_can_be_read(self, small_disk: Path) -> None:
        db, own = small_disk / "godeploy.db", small_disk / "fairlead.db"
        sql(db, GODEPLOY)
        RouteWriter(own).set("a.test", "a:1")
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
        assert set(read(db)) == {"sim.local", "app.local"}
        assert read(own) == {"a.test": "a:1"}
        assert "is read-only" in reason(lambda: RouteWriter(db).set("a.test", "a:1"))


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

    def test_none_removes_a_route(self, tmp_path: Path) -> None:
        writer = RouteWriter(tmp_path / "fairlead.db")
        writer.set("a.test", "127.0.0.1:1")
        writer.retarget({"a.test": None, "never.test": None})
        assert writer.targets(["a.test"]) == {"a.test": None}

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

"""The routes on disk: every way in which the file can fail, for readers and writers."""

import os
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from edge.routing import opening, store_reader, store_writer
from edge.routing.store_reader import RouteReader
from edge.routing.store_writer import RouteWriter
from tests.edge.routing.stores import (
    GODEPLOY,
    count_up,
    fill,
    open_files,
    python,
    read,
    reason,
    routes_in,
    small_disk_at,
    sql,
)


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
        monkeypatch.setattr(store_reader, "READ_TIMEOUT", 0.01)
        monkeypatch.setattr(store_writer, "WRITE_TIMEOUT", 0.01)
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
        real = opening.connect

        def connect(path: Path, how: str, timeout: float) -> sqlite3.Connection:
            if how == "immutable=1":
                os.utime(path)
            return real(path, how, timeout)

        reader = RouteReader(no_shared_memory)
        os.utime(no_shared_memory, (0, 0))
        monkeypatch.setattr(store_reader, "connect", connect)
        assert "was written while being read" in reason(reader.poll)
        monkeypatch.undo()
        assert routes_in(reader.poll()) == {"app.test": "a:1"}

    def test_no_file_stays_open_however_often_a_look_fails(
        self, godeploy: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(store_reader, "READ_TIMEOUT", 0)
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


class TestOtherProcesses:
    def test_two_writers_at_once_lose_no_change(self, db: Path) -> None:
        changes = 25
        script = """
            import sys
            from pathlib import Path
            from edge.routing.store_writer import RouteWriter
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
            from edge.routing.store_writer import RouteWriter
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
            from edge.routing.store_writer import RouteWriter
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
    with small_disk_at(tmp_path / "disk") as disk:
        yield disk


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

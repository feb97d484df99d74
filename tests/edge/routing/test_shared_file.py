"""What another user, who may write to the folder of the routes, puts there: the second attack on
issue 12 began with all of it.
"""

import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from edge.errors import StoreError
from edge.routing import opening, shared_file, store_writer
from edge.routing.shared_file import make_file, open_to_folder_group
from edge.routing.snapshot_file import SnapshotFile
from edge.routing.store_reader import RouteReader
from edge.routing.store_writer import RouteWriter
from tests.edge.routing.stores import count_up, journal, read, sql

ANOTHER = 65534  # a user
# What was planted is in the way of this change, or of its next attempt.
AGAIN = r"was another file|locked by another program|others write to its folder"

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")


@pytest.fixture
def routes(db: Path) -> RouteWriter:
    writer = RouteWriter(db)
    writer.set("app.test", "a:1")
    return writer


@pytest.fixture
def shared(db: Path, routes: RouteWriter, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The database, in a folder of another user."""
    monkeypatch.setattr(store_writer, "WRITE_TIMEOUT", 0.1)
    os.chown(db.parent, ANOTHER, -1)
    yield db
    os.chown(db.parent, 0, -1)


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file of ours, somewhere else."""
    victim = tmp_path / "elsewhere" / "state.db"
    victim.parent.mkdir()
    victim.write_bytes(b"ours")
    victim.chmod(0o600)
    return victim


def beside(db: Path, suffix: str) -> Path:
    return db.with_name(db.name + suffix)


USES: dict[str, Callable[[Path], object]] = {
    "set": lambda db: RouteWriter(db).set("b.test", "b:1"),
    "routes": lambda db: RouteWriter(db).routes(["app.test"]),
    "managed": lambda db: RouteWriter(db).managed_route(),
    "tokens": lambda db: RouteWriter(db).replace_tokens([]),
    "poll": lambda db: RouteReader(db).poll(),
}


CHANGES: dict[str, Callable[[RouteWriter], object]] = {
    "set": lambda writer: writer.set("b.test", "b:1"),
    "change": lambda writer: writer.change("app.test", {"maintenance": True}),
    "remove": lambda writer: writer.remove("app.test"),
    "retarget": lambda writer: writer.retarget({"app.test": "b:1"}),
    "suspend": lambda writer: writer.suspend({"app.test": "gone"}),
}


def at_writing(monkeypatch: pytest.MonkeyPatch, attack: Callable[[], object]) -> None:
    """Between the look and the moment at which SQLite opens the file to write to it."""
    look = shared_file.refuse_planted
    looks: list[Path] = []

    def look_and_lose(path: Path) -> None:
        look(path)
        looks.append(path)
        if len(looks) == 2:
            attack()

    monkeypatch.setattr(opening, "refuse_planted", look_and_lose)


class TestJournal:
    @pytest.mark.parametrize("use", USES)
    def test_one_of_our_own_is_undone(
        self, db: Path, routes: RouteWriter, victim: Path, use: str
    ) -> None:
        """And has SQLite remove what it names: so the attack is one."""
        beside(db, "-journal").write_bytes(journal(db, victim))
        USES[use](db)
        assert not victim.exists()
        assert read(db)["app.test"] == "a:1"

    @only_root
    @pytest.mark.parametrize("owner", [0, ANOTHER])
    @pytest.mark.parametrize("use", USES)
    def test_in_a_folder_of_others_it_removes_no_file_of_ours(
        self, shared: Path, victim: Path, use: str, owner: int
    ) -> None:
        """Whosever it is: a file of ours that others may write to is renamed to it."""
        planted = beside(shared, "-journal")
        planted.write_bytes(journal(shared, victim))
        os.chown(planted, owner, -1)
        with pytest.raises(StoreError, match="others write to its folder"):
            USES[use](shared)
        assert victim.read_bytes() == b"ours"

    @only_root
    @pytest.mark.parametrize("use", ["set", "change", "remove"])
    def test_nor_one_that_comes_after_the_look(
        self, shared: Path, victim: Path, use: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        content = journal(shared, victim)
        at_writing(monkeypatch, lambda: beside(shared, "-journal").write_bytes(content))
        with pytest.raises(StoreError, match=AGAIN):
            CHANGES[use](RouteWriter(shared))
        assert victim.read_bytes() == b"ours"

    @only_root
    @pytest.mark.parametrize("named", ["moved.db", "fairlead.db-wal", "../moved.db"])
    def test_nor_one_with_another_database(
        self, shared: Path, victim: Path, named: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Beside a file that nobody has locked. The first one is put back before anybody looks."""
        content = journal(shared, victim)
        another = shared.with_name("another.db")
        shutil.copy(shared, another)
        real = opening._opened_since

        def exchange() -> None:
            shared.rename(shared.with_name("first.db"))
            another.rename(shared)
            beside(shared, "-journal").write_bytes(content)

        def put_back(before: Mapping[int, os.stat_result], path: Path) -> tuple[int, int] | None:
            if shared.with_name("first.db").exists():
                shared.rename(shared.parent / named)
                shared.with_name("first.db").rename(shared)
            return real(before, path)

        at_writing(monkeypatch, exchange)
        monkeypatch.setattr(opening, "_opened_since", put_back)
        with pytest.raises(StoreError, match=AGAIN):
            RouteWriter(shared).set("b.test", "b:1")
        assert victim.read_bytes() == b"ours"

    @only_root
    def test_changes_of_a_shared_folder_wait_for_each_other(
        self, shared: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(store_writer, "WRITE_TIMEOUT", 30.0)
        with ThreadPoolExecutor(4) as pool:
            versions = pool.map(
                lambda number: RouteWriter(shared).set(f"{number}.test", "a:1"), range(40)
            )
            assert sorted(versions) == list(range(2, 42))
        assert len(read(shared)) == 41


class TestLinks:
    @only_root
    @pytest.mark.parametrize("suffix", ["", "-wal", "-journal"])
    @pytest.mark.parametrize("use", USES)
    def test_that_of_another_user_is_not_followed(
        self, db: Path, routes: RouteWriter, victim: Path, suffix: str, use: str
    ) -> None:
        planted = beside(db, suffix)
        planted.unlink(missing_ok=True)
        planted.symlink_to(victim)
        os.chown(planted, ANOTHER, -1, follow_symlinks=False)
        with pytest.raises(StoreError, match=f"link that user {ANOTHER} has made"):
            USES[use](db)
        assert victim.read_bytes() == b"ours"

    @pytest.mark.parametrize("use", USES)
    def test_one_that_is_put_there_after_the_look_is_not_followed(
        self,
        db: Path,
        routes: RouteWriter,
        victim: Path,
        use: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        victim.unlink()
        RouteWriter(victim).set("ours.test", "a:1")
        before = victim.read_bytes()
        look = shared_file.refuse_planted
        moved = db.with_suffix(".moved")

        def look_and_lose(path: Path) -> None:
            look(path)
            db.rename(moved)
            db.symlink_to(victim)

        def look_again(path: Path, opened: str) -> None:
            db.unlink()  # whoever does this also puts back what was there
            moved.rename(db)
            shared_file.refuse_exchanged(path, opened)

        monkeypatch.setattr(opening, "refuse_planted", look_and_lose)
        monkeypatch.setattr(opening, "refuse_exchanged", look_again)
        with pytest.raises(StoreError, match="was another file when it was opened"):
            USES[use](db)
        assert victim.read_bytes() == before

    def test_our_own_are_followed(self, db: Path, routes: RouteWriter, tmp_path: Path) -> None:
        link = tmp_path / "link.db"
        link.symlink_to(db)
        RouteWriter(link).set("b.test", "b:1")
        assert read(link) == read(db) == {"app.test": "a:1", "b.test": "b:1"}

    def test_what_one_leads_to_keeps_its_mode(self, db: Path, victim: Path) -> None:
        db.parent.chmod(0o2770)
        db.symlink_to(victim)
        with suppress(StoreError):
            make_file(db)
        with pytest.raises(OSError, match="symbolic links"):
            open_to_folder_group(db)
        assert victim.stat().st_mode & 0o777 == 0o600


class TestFifos:
    """Who opens one waits until somebody writes to it: for ever."""

    @pytest.mark.parametrize("suffix", ["", "-wal", "-journal"])
    @pytest.mark.parametrize("use", USES)
    def test_in_place_of_a_file_of_sqlites_is_refused(
        self, db: Path, routes: RouteWriter, suffix: str, use: str
    ) -> None:
        planted = beside(db, suffix)
        planted.unlink(missing_ok=True)
        os.mkfifo(planted)
        with pytest.raises(StoreError, match="is not a file"):
            USES[use](db)

    def test_in_place_of_the_last_good_table_binds_and_is_not_waited_for(
        self, db: Path, routes: RouteWriter
    ) -> None:
        os.mkfifo(db.with_suffix(".last-good"))
        assert SnapshotFile(db).binds
        assert routes.targets(["app.test"]) == {"app.test": "a:1"}


ENDLESS = "WITH RECURSIVE t (x) AS (SELECT 1 UNION ALL SELECT x FROM t) SELECT count(*) FROM t"


class TestSchema:
    @pytest.mark.parametrize(
        "trigger",
        [
            f"BEGIN {ENDLESS}; END",
            "BEGIN SELECT RAISE(IGNORE); END",
            "BEGIN DELETE FROM proxy_routes; END",
        ],
    )
    def test_no_trigger_runs(self, db: Path, routes: RouteWriter, trigger: str) -> None:
        for table in ("proxy_routes", "proxy_meta"):
            for event in ("INSERT", "UPDATE", "DELETE"):
                sql(db, f"CREATE TRIGGER {table}_{event} BEFORE {event} ON {table} {trigger}")
        before = db.read_bytes()
        for change in CHANGES.values():
            with pytest.raises(StoreError, match="has triggers or views, which are not run"):
                change(routes)
        assert db.read_bytes() == before

    @pytest.mark.parametrize(
        "definition",
        [
            "ALTER TABLE proxy_routes ADD COLUMN more CHECK ({slow})",
            "ALTER TABLE proxy_routes ADD COLUMN more AS ({slow})",
            "CREATE INDEX more ON proxy_routes (({slow}))",
            "CREATE INDEX more ON proxy_routes (target) WHERE {slow}",
            "DROP TABLE proxy_meta; CREATE TABLE proxy_meta (key, value, x DEFAULT/**/({slow}))",
        ],
    )
    def test_no_expression_of_a_table_is_computed(
        self, db: Path, routes: RouteWriter, definition: str
    ) -> None:
        """It would be for the rest of the process: SQLite ends no function."""
        sql(db, "DELETE FROM proxy_routes")
        sql(db, definition.format(slow="printf('%.2000c', '0') LIKE '" + "%0" * 12 + "%1'"))
        for change in CHANGES.values():
            with pytest.raises(StoreError, match="expressions in their definitions"):
                change(routes)

    def test_no_view_is_read(self, db: Path, routes: RouteWriter) -> None:
        sql(
            db,
            "ALTER TABLE proxy_meta RENAME TO moved;"
            f"CREATE VIEW proxy_meta AS SELECT 'routes_version' AS key, ({ENDLESS}) AS value",
        )
        with pytest.raises(StoreError):
            routes.set("app.test", "b:1")

    def test_what_has_no_end_is_ended(
        self, db: Path, routes: RouteWriter, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(opening, "MAX_WORK", 0.0)
        monkeypatch.setattr(opening, "_STEPS_PER_LOOK", 1)
        with pytest.raises(StoreError, match="keeps SQLite busy"):
            routes.set("app.test", "b:1")

    def test_a_row_without_a_bound_is_not_read(self, db: Path, routes: RouteWriter) -> None:
        count_up(db, "INSERT INTO proxy_routes VALUES ('big.test', zeroblob(100000000), 0)")
        with pytest.raises(StoreError):
            routes.all_targets()


def test_a_folder_that_is_closed_to_us_says_nothing_of_what_is_in_it(tmp_path: Path) -> None:
    """As one that its owner has closed since, which root cannot show."""
    (tmp_path / "file").touch()
    for use in ("routes", "managed", "tokens", "set"):
        with pytest.raises(StoreError):
            USES[use](tmp_path / "file" / "fairlead.db")


def plant_all_the_time(db: Path, content: bytes, what: str) -> None:
    """As another user, who puts it there and takes it away as fast as it goes."""
    os.chdir(db.parent)  # those above it are closed to that user
    os.setuid(ANOTHER)
    db = Path(db.name)
    apart, link, kept = map(Path, ("apart", "link", "kept"))
    apart.write_bytes(content)
    while True:
        with suppress(FileNotFoundError):
            if what == "journal":
                apart.rename(beside(db, "-journal"))
                beside(db, "-journal").rename(apart)
            else:
                link.symlink_to(os.fsdecode(content))
                db.rename(kept)
                link.rename(db)
                kept.rename(db)


@only_root
@pytest.mark.chaos
@pytest.mark.parametrize("what", ["journal", "link"])
def test_no_race_is_won(
    shared: Path, victim: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Before, each was within five changes."""
    victim.unlink()
    RouteWriter(victim).set("ours.test", "a:1")
    before = victim.read_bytes()
    shared.chmod(0o666)
    content = journal(shared, victim) if what == "journal" else os.fsencode(victim)
    attacker = multiprocessing.get_context("fork").Process(
        target=plant_all_the_time, args=(shared, content, what), daemon=True
    )
    attacker.start()
    try:
        for _ in range(2000):
            with suppress(StoreError):
                RouteWriter(shared).set("b.test", "b:1")
            assert victim.read_bytes() == before
        assert attacker.is_alive()
    finally:
        attacker.kill()
        attacker.join()
        attacker.close()

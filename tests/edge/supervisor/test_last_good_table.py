"""Proves that the last good table outlives everything but its own replacement: whatever becomes of
the database, clients get the answers of their hosts, also while workers are killed, the edge is
upgraded, and from an edge that starts in the middle of it.
"""

import http.client
import os
import shutil
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge.control.handover import UPGRADE_TIMEOUT
from edge.errors import EdgeError
from edge.routing.snapshot import Snapshot
from edge.routing.snapshot_file import SnapshotFile
from edge.routing.snapshot_memory import SnapshotMemory
from edge.routing.store_writer import RouteWriter
from fairlead.__main__ import main
from tests.edge.routing.stores import fill, reason, small_disk_at
from tests.harness import Conversation
from tests.process import LOOK_SECONDS, PATIENCE, Origin, Process

pytestmark = pytest.mark.timeout(300)

POLL = "0.1"
PAUSE = 0.02
"""Seconds between two requests of a client: six of them without one take the cores that what they
ask needs to start anew."""
BAD_RELOAD = "fairlead_routes_last_reload_successful 0.0"


@pytest.fixture
def origins(conversation: Conversation) -> dict[str, Origin]:
    """The target of each host."""
    return {f"{name}.test": Origin(conversation) for name in "abc"}


def serve(db: Path, origins: dict[str, Origin]) -> Path:
    for host, origin in origins.items():
        RouteWriter(db).set(host, origin.target)
    return db


@pytest.fixture
def db(tmp_path: Path, origins: dict[str, Origin]) -> Path:
    return serve(tmp_path / "fairlead.db", origins)


@pytest.fixture(scope="module")
def pool() -> Iterator[list[Process]]:
    """At most one edge, which a test has left as it was: to start each anew takes longer."""
    pool: list[Process] = []
    yield pool
    for process in pool:
        process.is_killed()


@pytest.fixture
def process(
    conversation: Conversation,
    pool: list[Process],
    origins: dict[str, Origin],
    tmp_path_factory: pytest.TempPathFactory,
) -> Process:
    """An edge that serves the hosts, and no other."""
    if not pool:
        db = serve(tmp_path_factory.mktemp("edge") / "fairlead.db", origins)
        return Process(conversation, db, pool=pool, poll_interval=POLL)
    process = pool.pop()
    process.joins(conversation, pool)
    version = process.is_given({host: origin.target for host, origin in origins.items()})
    is_kept(process.db, version)
    return process


def is_kept(db: Path, version: int) -> None:
    """Returns when this version of the table is on disk."""
    deadline = time.monotonic() + PATIENCE
    while (kept := SnapshotFile(db).header()) is None or kept.version != version:
        assert time.monotonic() < deadline, "the table is not kept"
        time.sleep(LOOK_SECONDS)


def version_of(process: Process) -> int:
    """Of the routes that all its workers serve."""
    (version,) = {worker["version"] for worker in process.workers()}
    assert isinstance(version, int)
    return version


def fairlead(*words: str, db: Path) -> str:
    """What a command prints that succeeds."""
    result = CliRunner().invoke(main, [*words, "--db", str(db)])
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return result.stdout


def refused(*words: str, db: Path) -> str:
    """What a command says that fails."""
    result = CliRunner().invoke(main, [*words, "--db", str(db)])
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    return result.stderr


class Clients:
    """Ask each host, again and again, on a new connection each time.

    `answers` are those that were right, `bad` the others; `broken` are connections that ended
    without one, which is what a worker that is killed costs.
    """

    def __init__(self, port: int, origins: dict[str, Origin]) -> None:
        self.bad: Counter[str] = Counter()
        self.answers = 0
        self.broken: list[str] = []
        self._port = port
        self._origins = origins
        self._left = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask_on, args=(host,)) for host in (*origins, *origins)
        ]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        for thread in self._threads:
            thread.join()

    def see(self, more: int) -> None:
        """Returns when there were so many further answers."""
        wanted = self.answers + more
        deadline = time.monotonic() + PATIENCE
        while self.answers < wanted and not self.bad:
            assert time.monotonic() < deadline, "nobody answers"
            self._left.wait(0.01)

    def _ask_on(self, host: str) -> None:
        while not self._left.wait(PAUSE):
            self.ask(host)

    def ask(self, host: str) -> None:
        """One request."""
        begun = time.monotonic()
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, PATIENCE)) as connection:
            try:
                connection.request("GET", "/", headers={"Host": host, "Connection": "close"})
                answer = connection.getresponse()
                text = answer.read().decode()
            except (OSError, http.client.HTTPException) as error:
                self.broken.append(f"{time.monotonic() - begun:.3f} s: {error!r}")
                return
        if (answer.status, text) == (200, self._origins[host].port):
            self.answers += 1
        else:
            self.bad[f"{host}: {answer.status} {text[:200]}"] += 1


# Faults, each for as long as the context is open.


@contextmanager
def locked(db: Path) -> Iterator[None]:
    with closing(sqlite3.connect(db, isolation_level=None)) as database:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("BEGIN EXCLUSIVE")
        database.execute("UPDATE proxy_meta SET value = value")
        yield


@contextmanager
def aside(db: Path) -> Iterator[Path]:
    """Nothing is left of it; afterwards it is there as it was."""
    with closing(sqlite3.connect(db)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    sound = db.read_bytes()
    for name in ("", "-wal", "-shm"):
        db.with_name(db.name + name).unlink(missing_ok=True)
    yield db.with_name("sound.db")
    restored = db.with_name("restored.db")
    restored.write_bytes(sound)
    for name in ("-wal", "-shm"):
        db.with_name(db.name + name).unlink(missing_ok=True)
    restored.replace(db)


@contextmanager
def missing(db: Path) -> Iterator[None]:
    with aside(db):
        yield


def overwritten(
    content: Callable[[bytes], bytes],
) -> Callable[[Path], AbstractContextManager[None]]:
    @contextmanager
    def fault(db: Path) -> Iterator[None]:
        sound = db.read_bytes()
        with aside(db):
            db.write_bytes(content(sound))
            yield

    return fault


@contextmanager
def newer_schema(db: Path) -> Iterator[None]:
    def rename(old: str, new: str) -> None:
        with closing(sqlite3.connect(db)) as database, database:
            database.execute(f"ALTER TABLE proxy_routes RENAME COLUMN {old} TO {new}")
            database.execute("UPDATE proxy_meta SET value = value + 1")

    rename("target", "upstreams")
    yield
    rename("upstreams", "target")


@contextmanager
def another(db: Path) -> Iterator[None]:
    with aside(db):
        other = db.with_name("other.db")
        RouteWriter(other).set("a.test", "127.0.0.1:1")
        other.replace(db)
        yield


FAULTS = {
    "locked": locked,
    "missing": missing,
    "empty": overwritten(lambda _: b""),
    "garbage": overwritten(lambda _: b"something else entirely\n" * 500),
    "truncated": overwritten(lambda sound: sound[: len(sound) // 2]),
    "newer schema": newer_schema,
    "another": another,
}


def kill_each_worker(process: Process) -> None:
    for worker in process.workers():
        os.kill(worker["pid"], signal.SIGKILL)
        process.says(f"(pid {worker['pid']}) exited")
        process.until("/metrics", "fairlead_workers_serving 2.0")


def upgrade(process: Process, old: int) -> int:
    """The process that took over."""
    pid: int = process.asks("/upgrade", timeout=UPGRADE_TIMEOUT)["pid"]
    process.sees_end_of(old)
    return pid


def goes_through_it_all(
    conversation: Conversation,
    process: Process,
    origins: dict[str, Origin],
    rounds: int = 1,
    pool: list[Process] | None = None,
) -> Process:
    """Workers are killed, it is upgraded, and another one is started: which one that is."""
    pid = process.popen.pid
    with Clients(process.port, origins) as clients:
        clients.see(20)
        for _ in range(rounds):
            kill_each_worker(process)
            clients.see(20)
            broken = [*clients.broken]
            pid = upgrade(process, pid)
            clients.see(20)
            assert clients.broken == broken  # an upgrade costs nobody anything
    assert not clients.bad
    assert (
        len(clients.broken) <= 2 * 6 * rounds
    )  # each worker had at most what all clients ask at once
    process.is_succeeded_by(pid)
    cold = Process(conversation, process.db, pool=pool, poll_interval=POLL)
    with Clients(cold.port, origins) as clients:
        clients.see(40)
    assert (clients.bad, clients.broken) == ({}, [])
    return cold


def serves_a_change(process: Process, origins: dict[str, Origin]) -> None:
    """The database is the one that counts, and no host is lost."""
    process.until("/metrics", "fairlead_routes_last_reload_successful 1.0")
    target = origins["a.test"].target
    assert "served by 2/2 workers" in fairlead("route", "set", "new.test", target, db=process.db)
    clients = Clients(process.port, {**origins, "new.test": origins["a.test"]})
    for host in (*origins, "new.test"):
        clients.ask(host)
    assert (clients.answers, clients.bad) == (4, {})


class TestFaults:
    """Each, with kill, upgrade and cold start while it lasts: no wrong answer, and it recovers."""

    @pytest.mark.parametrize("fault", FAULTS)
    def test_no_answer_is_wrong(
        self,
        conversation: Conversation,
        process: Process,
        origins: dict[str, Origin],
        pool: list[Process],
        fault: str,
    ) -> None:
        version = version_of(process)
        with FAULTS[fault](process.db):
            process.until("/metrics", BAD_RELOAD)
            cold = goes_through_it_all(conversation, process, origins, pool=pool)
            assert cold.admin("/readyz").text == "ready"
            (problem,) = {worker["problem"] for worker in cold.workers()}
            assert f"the last good table (version {version}) is served: " in problem
            assert BAD_RELOAD in cold.admin("/metrics").text
        serves_a_change(cold, origins)
        assert {worker["problem"] for worker in cold.workers()} == {None}

    def test_an_older_backup_is_taken(
        self,
        conversation: Conversation,
        process: Process,
        origins: dict[str, Origin],
        pool: list[Process],
    ) -> None:
        db, version = process.db, version_of(process)
        with closing(sqlite3.connect(db)) as database:
            database.execute("VACUUM INTO ?", (str(db.with_name("backup.db")),))
        for _ in range(5):
            RouteWriter(db).set("later.test", "127.0.0.1:1")
        assert process.asks("/reload", version=version + 5)["version"] == version + 5
        with aside(db):
            pass
        shutil.copyfile(db.with_name("backup.db"), db.with_name("restored.db"))
        db.with_name("restored.db").replace(db)
        process.until("/workers", f'"version":{version},')
        cold = goes_through_it_all(conversation, process, origins, pool=pool)
        assert version_of(cold) == version
        serves_a_change(cold, origins)

    def test_a_full_disk(
        self, conversation: Conversation, tmp_path: Path, origins: dict[str, Origin]
    ) -> None:
        with ExitStack() as stack:
            disk = stack.enter_context(small_disk_at(tmp_path / "disk"))
            db = serve(disk / "fairlead.db", origins)
            filler = fill(disk)
            process = Process(conversation, db, poll_interval=POLL)
            stack.callback(process.is_killed)
            cold = goes_through_it_all(conversation, process, origins)
            stack.callback(cold.is_killed)
            assert not SnapshotFile(db).path.exists()
            assert "full" in refused("route", "set", "new.test", "127.0.0.1:1", db=db)
            filler.unlink()
            serves_a_change(cold, origins)

    @pytest.mark.chaos
    @pytest.mark.parametrize("fault", FAULTS)
    def test_no_answer_is_wrong_however_often(
        self, conversation: Conversation, db: Path, origins: dict[str, Origin], fault: str
    ) -> None:
        process = Process(conversation, db, poll_interval=POLL)
        begun = time.monotonic()
        with FAULTS[fault](db):
            process.until("/metrics", BAD_RELOAD)
            with Clients(process.port, origins) as clients:
                while time.monotonic() < begun + 30:
                    clients.see(100)
            assert (clients.bad, clients.broken) == ({}, [])
            cold = goes_through_it_all(conversation, process, origins, rounds=5)
        serves_a_change(cold, origins)


class TestAcknowledged:
    def test_what_was_acknowledged_every_later_worker_serves(
        self, conversation: Conversation, db: Path, origins: dict[str, Origin]
    ) -> None:
        process = Process(conversation, db)
        for version in (4, 5, 6):
            target = origins["abc"[version - 4] + ".test"].target
            assert f"version {version}, served by 2/2" in fairlead(
                "route", "set", "new.test", target, db=db
            )
            with missing(db):
                for worker in process.workers():
                    os.kill(worker["pid"], signal.SIGKILL)
                process.says("exited")
                process.says("exited")
                process.until("/metrics", "fairlead_workers_serving 2.0")
                assert {worker["version"] for worker in process.workers()} == {version}


class TestIdentity:
    def test_a_deleted_database_is_not_made_anew(
        self, process: Process, origins: dict[str, Origin]
    ) -> None:
        db = process.db
        with missing(db), Clients(process.port, origins) as clients:
            said = refused("route", "set", "new.test", "127.0.0.1:1", db=db)
            assert "but routes were served from it: restore it from a backup" in said
            assert "fairlead route adopt" in said
            assert "routes were served from it" in reason(
                lambda: RouteWriter(db).retarget({"a.test": "127.0.0.1:1"})
            )
            assert not db.exists()
            clients.see(20)
        assert (clients.bad, clients.broken) == ({}, [])
        serves_a_change(process, origins)

    def test_whoever_wants_to_begin_anew_says_so(
        self, process: Process, origins: dict[str, Origin]
    ) -> None:
        db, version = process.db, version_of(process)
        with Clients(process.port, origins) as clients:
            for name in ("", "-wal", "-shm"):
                db.with_name(db.name + name).unlink(missing_ok=True)
            assert f"goes on with those that it serves (version {version})" in fairlead(
                "route", "adopt", db=db
            )
            kill_each_worker(process)
            clients.see(20)
        assert not clients.bad
        target = origins["a.test"].target
        assert "version 1, served by 2/2" in fairlead("route", "set", "a.test", target, db=db)
        clients = Clients(process.port, origins)
        clients.ask("a.test")
        assert clients.answers == 1
        clients.ask("b.test")
        assert [each[:11] for each in clients.bad] == ["b.test: 404"]
        # From here on it is this one that nothing else may replace.
        with another(db):
            process.until("/workers", "is not the database whose routes were last served")

    def test_another_database_is_taken_by_all_workers_for_good_once_it_is_adopted(
        self, conversation: Conversation, process: Process, origins: dict[str, Origin]
    ) -> None:
        db = process.db
        other = db.with_name("other.db")
        RouteWriter(other).set("a.test", origins["b.test"].target)
        with aside(db):
            pass
        other.replace(db)
        process.until("/workers", "is not the database whose routes were last served")
        for words in (("set", "new.test", "a:1"), ("rm", "a.test")):
            assert "take this one with `fairlead route adopt`" in refused("route", *words, db=db)
        assert "take this one" in process.admin("/routes").json()["error"]
        assert process.admin("/readyz").text == "ready"
        assert f"{db} is taken, served by 2/2 workers after" in fairlead("route", "adopt", db=db)
        fairlead("route", "set", "b.test", origins["b.test"].target, db=db)
        kill_each_worker(process)
        pid = upgrade(process, process.popen.pid)
        here = {"a.test": origins["b.test"], "b.test": origins["b.test"]}
        with Clients(process.port, here) as clients:
            clients.see(20)
        assert not clients.bad
        process.is_succeeded_by(pid)
        assert Process(conversation, db).admin("/readyz").text == "ready"

    def test_without_a_running_edge_the_next_one_takes_any(
        self, process: Process, origins: dict[str, Origin]
    ) -> None:
        db = process.db
        is_kept(db, version_of(process))
        process.gets(signal.SIGTERM)
        assert process.ends() == 0
        with aside(db):
            assert "routes were served" in refused("route", "set", "a.test", "a:1", db=db)
            assert "fairlead.last-good is removed" in fairlead("route", "adopt", db=db)
            assert "there was nothing to forget" in fairlead("route", "adopt", db=db)
            target = origins["a.test"].target
            assert "version 1;" in fairlead("route", "set", "a.test", target, db=db)

    def test_a_database_that_cannot_be_read_is_not_adopted(
        self, process: Process, origins: dict[str, Origin]
    ) -> None:
        with FAULTS["garbage"](process.db):
            assert "is not a SQLite database" in refused("route", "adopt", db=process.db)
        serves_a_change(process, origins)

    def test_the_check_before_a_start_names_it(self, process: Process) -> None:
        db = process.db
        with another(db):
            process.until("/workers", "is not the database")
            result = CliRunner().invoke(main, ["edge", "--check", "--db", str(db)])
        assert result.exit_code == 1
        assert "is not the database whose routes were last served" in result.stderr


def memory_of(process: Process) -> list[int]:
    """Descriptors of the memory that holds the last good table, for the test."""
    folder = Path(f"/proc/{process.workers()[0]['pid']}/fd")
    found = {
        name: os.open(each, os.O_RDWR)
        for each in folder.iterdir()
        if (name := str(each.readlink())).startswith("/memfd:fairlead-table")
    }
    return [found[name] for name in sorted(found)]


class TestUpgrade:
    """The new edge must not serve less than the old one."""

    def goes_on(self, process: Process, origins: dict[str, Origin], said: str) -> None:
        with Clients(process.port, origins) as clients:
            clients.see(10)
            with pytest.raises(EdgeError, match=said):
                process.asks("/upgrade")
            clients.see(10)
        assert not clients.bad
        assert 'fairlead_upgrades_total{result="failed"} 1.0' in process.admin("/metrics").text

    def test_one_without_a_table_fails(self, process: Process, origins: dict[str, Origin]) -> None:
        db, version = process.db, version_of(process)
        with missing(db):
            process.until("/metrics", BAD_RELOAD)
            for descriptor in memory_of(process):
                if os.fstat(descriptor).st_size:
                    os.pwrite(descriptor, b"?", 100)
                os.close(descriptor)
            with SnapshotFile(db).path.open("r+b") as kept:
                kept.seek(100)
                kept.write(b"?")
            self.goes_on(
                process,
                origins,
                "the old edge goes on: it would serve no routes, and the old edge serves version"
                f" {version}",
            )
        serves_a_change(process, origins)
        process.is_succeeded_by(upgrade(process, process.popen.pid))

    def test_one_with_an_older_table_fails(
        self, conversation: Conversation, db: Path, origins: dict[str, Origin]
    ) -> None:
        process = Process(conversation, db)
        with missing(db):
            descriptors = memory_of(process)
            memory = SnapshotMemory(descriptors)
            current = memory.load()
            assert current is not None
            memory.write(Snapshot.of(current.header.database_id, 2, current.pages))
            memory.close()
            self.goes_on(
                process,
                origins,
                "it would serve version 2 of the routes, and the old edge serves version 3",
            )

    def test_an_edge_without_routes_can_be_upgraded(
        self, conversation: Conversation, tmp_path: Path
    ) -> None:
        process = Process(conversation, tmp_path / "fairlead.db")
        pid = upgrade(process, process.popen.pid)
        assert "does not exist" in process.admin("/workers").text
        process.is_succeeded_by(pid)

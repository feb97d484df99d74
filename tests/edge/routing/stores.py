"""What the tests of the route store share: databases as others leave them, and what is in one."""

import errno
import os
import sqlite3
import struct
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from edge.errors import StoreError
from edge.routing.store_reader import Loaded, RouteReader

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


JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")


def journal(db: Path, victim: Path) -> bytes:
    """One that undoes nothing, and has SQLite remove `victim` when it is over.

    As in sqlite.org/fileformat2, and `readSuperJournal` of SQLite's pager.c.
    """
    database = db.read_bytes()
    (page,) = struct.unpack(">H", database[16:18])
    head = JOURNAL_MAGIC + struct.pack(">5I", 0, 1, len(database) // page, 512, page)
    name = os.fsencode(victim)
    lock_page = struct.pack(">I", 2**30 // page + 1)
    end = struct.pack(">2I", len(name), sum(name)) + JOURNAL_MAGIC
    return head.ljust(512, b"\0") + lock_page + name + end


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


def python(script: str, *args: object, inherits: Sequence[int] = ()) -> "subprocess.Popen[str]":
    """Another process of this interpreter, with this package."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, args)],
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=inherits,
    )


@contextmanager
def small_disk_at(mount: Path) -> Iterator[Path]:
    """A file system of 256 KiB of its own. Skips the test if none can be made."""
    mount.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(mount)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("only root can mount a small disk")
    try:
        yield mount
    finally:
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

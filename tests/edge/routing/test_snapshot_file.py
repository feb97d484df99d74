"""The last good table on disk: whose it is, and that it is whole or the one before."""

import errno
import os
import stat
from pathlib import Path

import pytest

from edge.routing.snapshot import DamagedSnapshotError, Snapshot
from edge.routing.snapshot_file import SnapshotFile

PAGES = {5: b"[{},{},0,0]"}


@pytest.fixture
def file(db: Path) -> SnapshotFile:
    return SnapshotFile(db)


def test_it_is_beside_the_database_and_survives_what_takes_all_of_that(
    db: Path, file: SnapshotFile
) -> None:
    file.save(Snapshot.of(3, 1, PAGES))
    assert [each.name for each in db.parent.iterdir()] == ["fairlead.last-good"]
    assert not list(db.parent.glob("fairlead.db*"))


def test_there_may_be_none(file: SnapshotFile) -> None:
    assert (file.header(), file.load(), file.binds, file.database_id) == (None, None, False, 0)
    assert not file.remove()


@pytest.mark.parametrize("database_id", [3, 0])
def test_what_was_saved_is_found_and_binds(file: SnapshotFile, database_id: int) -> None:
    snapshot = Snapshot.of(database_id, 1, PAGES)
    file.save(Snapshot.of(9, 9, {}))
    file.save(snapshot)
    assert file.load() == snapshot
    assert (file.header(), file.binds, file.database_id) == (snapshot.header, True, database_id)
    assert file.remove()
    assert not file.binds


def test_that_of_any_database_binds_nobody(file: SnapshotFile) -> None:
    file.save(Snapshot.of(3, 1, PAGES).of_any_database())
    assert (file.binds, file.database_id) == (False, 0)
    loaded = file.load()
    assert loaded is not None
    assert loaded.pages == PAGES


def test_a_damaged_one_says_that_there_were_routes(file: SnapshotFile) -> None:
    file.save(Snapshot.of(3, 1, PAGES))
    with file.path.open("r+b") as opened:
        opened.write(b"????")
    assert (file.header(), file.binds, file.database_id) == (None, True, 0)
    with pytest.raises(DamagedSnapshotError):
        file.load()


def test_what_cannot_be_opened_is_no_table(file: SnapshotFile) -> None:
    file.path.mkdir()
    assert file.header() is None
    with pytest.raises(DamagedSnapshotError, match="cannot be read"):
        file.load()
    with pytest.raises(OSError, match="directory"):
        file.save(Snapshot.of(3, 1, PAGES))
    assert list(file.path.parent.iterdir()) == [file.path]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_who_may_read_the_database_may_read_it(db: Path, file: SnapshotFile, mode: int) -> None:
    db.touch()
    db.chmod(mode)
    file.save(Snapshot.of(3, 1, PAGES))
    found = file.path.stat()
    assert stat.S_IMODE(found.st_mode) == mode
    assert (found.st_uid, found.st_gid) == (db.stat().st_uid, db.stat().st_gid)


@pytest.mark.parametrize("folder", [False, True])
def test_without_a_database_it_is_for_its_owner(db: Path, file: SnapshotFile, folder: bool) -> None:
    if folder:
        db.mkdir()
    file.save(Snapshot.of(3, 1, PAGES))
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_where_there_is_no_room_the_one_before_stays(
    file: SnapshotFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.save(Snapshot.of(3, 1, PAGES))

    def fsync(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="no space"):
        file.save(Snapshot.of(3, 2, PAGES))
    header = file.header()
    assert header is not None
    assert header.version == 1
    assert list(file.path.parent.iterdir()) == [file.path]


def test_what_a_killed_process_has_left_is_removed(file: SnapshotFile) -> None:
    file.save(Snapshot.of(3, 1, PAGES))
    draft = file.path.with_name(f"{file.path.name}.{os.getpid()}.new")
    draft.write_bytes(b"half")
    file.remove_drafts()
    assert list(file.path.parent.iterdir()) == [file.path]

"""A table apart from its database: what was written is read, and nothing else is."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.routing.snapshot import (
    ANY_DATABASE,
    DamagedSnapshotError,
    Snapshot,
    read,
    read_header,
    write,
)

PAGES = {7: b'[{"a.test":"a:1"},{},0,1]', -2: b"[{},{},0,0]", 2**63 - 1: b"x" * 70_000}
SNAPSHOT = Snapshot.of(2**62, 41, PAGES)


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[int]:
    found = os.open(tmp_path / "snapshot", os.O_RDWR | os.O_CREAT)
    yield found
    os.close(found)


@pytest.mark.parametrize(
    "snapshot",
    [
        SNAPSHOT,
        Snapshot.of(0, 0, {}),
        Snapshot.of(1, -1, {number: b"%d" % number for number in range(1500)}),
        SNAPSHOT.of_any_database(),
    ],
)
def test_what_was_written_is_read(descriptor: int, snapshot: Snapshot) -> None:
    write(descriptor, Snapshot.of(9, 9, {9: b"longer" * 100_000}))
    write(descriptor, snapshot, 5)
    found = read(descriptor)
    assert found.header.is_same_table(snapshot.header)
    assert found.header.sequence == 5
    assert list(found.pages.items()) == list(snapshot.pages.items())
    assert read_header(descriptor) == found.header


def test_what_is_another_table_is_not_the_same() -> None:
    header = SNAPSHOT.header
    assert not header.is_same_table(None)
    assert not header.is_same_table(Snapshot.of(1, 41, PAGES).header)
    assert not header.is_same_table(Snapshot.of(2**62, 42, PAGES).header)
    assert not header.is_same_table(Snapshot.of(2**62, 41, PAGES | {7: b"?"}).header)
    freed = SNAPSHOT.of_any_database()
    assert freed.header.database_id == ANY_DATABASE
    assert freed.pages == PAGES


def test_every_damaged_byte_is_noticed(descriptor: int) -> None:
    write(descriptor, SNAPSHOT)
    size = os.fstat(descriptor).st_size
    for place in {*range(200), *range(200, size, 997), size - 1}:
        (sound,) = os.pread(descriptor, 1, place)
        os.pwrite(descriptor, bytes([sound ^ 1]), place)
        with pytest.raises(DamagedSnapshotError):
            read(descriptor)
        os.pwrite(descriptor, bytes([sound]), place)
    assert read(descriptor).pages == PAGES


def test_one_that_is_cut_short_is_noticed(descriptor: int) -> None:
    write(descriptor, SNAPSHOT)
    for size in (os.fstat(descriptor).st_size - 1, 200, 72, 10, 0):
        os.ftruncate(descriptor, size)
        with pytest.raises(DamagedSnapshotError):
            read(descriptor)


def test_another_form_is_not_read(descriptor: int) -> None:
    assert read_header(descriptor) is None
    os.pwrite(descriptor, b"SQLite format 3\0" * 100, 0)
    assert read_header(descriptor) is None

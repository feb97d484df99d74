"""The last good table in memory: at any moment there is a whole one."""

import errno
import os
import signal
from collections.abc import Iterator

import pytest

from edge.routing import snapshot_memory
from edge.routing.snapshot import DamagedSnapshotError, Snapshot
from edge.routing.snapshot_memory import SnapshotMemory, make_descriptors
from tests.edge.routing.stores import python


def table(version: int, rows: int = 3) -> Snapshot:
    pages = {number: b"version %d, page %d" % (version, number) * 50 for number in range(rows)}
    return Snapshot.of(1, version, pages)


@pytest.fixture
def descriptors() -> tuple[int, int]:
    return make_descriptors()


@pytest.fixture
def memory(descriptors: tuple[int, int]) -> Iterator[SnapshotMemory]:
    memory = SnapshotMemory(descriptors)
    yield memory
    memory.close()


def held(memory: SnapshotMemory) -> int:
    found = memory.load()
    assert found is not None
    assert found.pages == table(found.header.version, len(found.pages)).pages
    return found.header.version


def test_there_is_nothing_at_first(memory: SnapshotMemory) -> None:
    assert (memory.header(), memory.load()) == (None, None)


def test_the_last_one_is_found(memory: SnapshotMemory, descriptors: tuple[int, int]) -> None:
    for version in (1, 2, 3, 2, 9):
        memory.write(table(version))
        assert held(memory) == version
        header = memory.header()
        assert header is not None
        assert header.version == version
        # The one before it takes no memory.
        assert min(os.fstat(each).st_size for each in descriptors) == 0


def test_whoever_has_the_descriptors_finds_it(
    memory: SnapshotMemory, descriptors: tuple[int, int]
) -> None:
    memory.write(table(7))
    assert held(SnapshotMemory(descriptors)) == 7


def test_what_cannot_be_written_leaves_the_one_before(
    memory: SnapshotMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory.write(table(1))

    def pwrite(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "pwrite", pwrite)
    with pytest.raises(OSError, match="no space"):
        memory.write(table(2))
    monkeypatch.undo()
    assert held(memory) == 1
    memory.write(table(3))
    assert held(memory) == 3


def test_a_damaged_one_is_refused(memory: SnapshotMemory, descriptors: tuple[int, int]) -> None:
    memory.write(table(1))
    os.pwrite(descriptors[0], b"?", 200)
    with pytest.raises(DamagedSnapshotError):
        memory.load()


def test_readers_and_two_writers_at_once_see_whole_ones(
    memory: SnapshotMemory, descriptors: tuple[int, int]
) -> None:
    script = """
        import sys
        from edge.routing.snapshot_memory import SnapshotMemory
        from tests.edge.routing.test_snapshot_memory import table
        memory = SnapshotMemory([int(sys.argv[1]), int(sys.argv[2])])
        for version in range(int(sys.argv[3]), 400, 2):
            memory.write(table(version, 40 + version % 7))
    """
    memory.write(table(1))
    writers = [python(script, *descriptors, first, inherits=descriptors) for first in (1, 2)]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        seen.add(held(memory))
    assert [writer.communicate() for writer in writers] == [("", ""), ("", "")]
    assert held(memory) in {398, 399}
    assert len(seen) > 1


@pytest.mark.parametrize("after", [1, 3, 8])
def test_a_writer_that_is_killed_leaves_a_whole_one(
    memory: SnapshotMemory, descriptors: tuple[int, int], after: int
) -> None:
    script = """
        import sys
        from itertools import count
        from edge.routing.snapshot_memory import SnapshotMemory
        from tests.edge.routing.test_snapshot_memory import table
        memory = SnapshotMemory([int(sys.argv[1]), int(sys.argv[2])])
        for version in count(1):
            memory.write(table(version, 400))
            print(version, flush=True)
    """
    writer = python(script, *descriptors, inherits=descriptors)
    assert writer.stdout is not None
    reported = [int(writer.stdout.readline()) for _ in range(after)][-1]
    writer.kill()
    writer.communicate()
    assert writer.returncode == -signal.SIGKILL
    assert held(memory) >= reported
    memory.write(table(5))  # it has left no lock
    assert held(memory) == 5


def test_reading_gives_up_on_one_that_is_never_whole(
    memory: SnapshotMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []

    def read(descriptor: int) -> Snapshot:
        looks.append(descriptor)
        raise DamagedSnapshotError("its checksum is wrong")

    memory.write(table(1))
    monkeypatch.setattr(snapshot_memory, "read", read)
    with pytest.raises(DamagedSnapshotError):
        memory.load()
    assert len(looks) > 1

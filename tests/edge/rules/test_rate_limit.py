"""Token buckets in memory that processes share."""

import struct
import subprocess
import sys
from mmap import mmap
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.rules.rate_limit import SECRET_SIZE, SIZE, WAYS, Limit, RateTable, make_buffer, prepare
from edge.worker.worker import Worker
from tests.harness import settings_for

ROOT: Final = Path(__file__).parents[3]
TINY: Final = SECRET_SIZE + WAYS * 16  # bytes of a table with one set
START: Final = 1000.0


@pytest.fixture
def table() -> RateTable:
    return RateTable(make_buffer())


def admitted(table: RateTable, limit: Limit, now: float, name: bytes = b"a") -> int:
    """How many requests of `name` find a token at `now`."""
    count = 0
    while table.take(name, limit, now) == 0.0:
        count += 1
    return count


class TestBucket:
    def test_it_holds_the_burst_and_fills_at_the_rate(self, table: RateTable) -> None:
        limit = Limit.of(2.0, 5)
        assert admitted(table, limit, START) == 5
        assert admitted(table, limit, START + 0.49) == 0
        assert admitted(table, limit, START + 0.5) == 1
        assert admitted(table, limit, START + 2.0) == 3
        assert admitted(table, limit, START + 1000) == 5

    @pytest.mark.parametrize(("rate", "burst"), [(10.0, 10), (2.5, 3), (1.0, 1), (0.1, 1)])
    def test_without_a_burst_it_holds_what_a_second_brings(self, rate: float, burst: int) -> None:
        assert Limit.of(rate, None) == Limit.of(rate, burst)

    def test_it_says_how_long_to_wait(self, table: RateTable) -> None:
        limit = Limit.of(0.25, 2)
        assert admitted(table, limit, START) == 2
        assert table.take(b"a", limit, START) == pytest.approx(4.0)
        assert table.take(b"a", limit, START + 3) == pytest.approx(1.0)
        assert table.take(b"a", limit, START + 4) == 0.0

    def test_a_refused_request_costs_nothing(self, table: RateTable) -> None:
        limit = Limit.of(1.0, 1)
        assert table.take(b"a", limit, START) == 0.0
        for _ in range(100):
            assert table.take(b"a", limit, START + 0.5) > 0
        assert table.take(b"a", limit, START + 1) == 0.0

    def test_what_is_given_back_can_be_taken_again(self, table: RateTable) -> None:
        limit = Limit.of(1.0, 3)
        assert admitted(table, limit, START) == 3
        table.give_back(b"a", limit, START)
        assert admitted(table, limit, START) == 1
        table.give_back(b"b", limit, 0.0)
        assert admitted(table, limit, 0.0, b"b") == 3

    def test_each_name_has_its_own(self, table: RateTable) -> None:
        limit = Limit.of(1.0, 1)
        for number in range(100):
            assert table.take(b"%d" % number, limit, START) == 0.0
        for number in range(100):
            assert table.take(b"%d" % number, limit, START) > 0

    def test_a_faster_limit_counts_at_once(self, table: RateTable) -> None:
        """A route's rate was changed: nobody waits by the old one."""
        slow, fast = Limit.of(0.01, 100), Limit.of(100.0, 1)
        assert admitted(table, slow, START) == 100
        assert table.take(b"a", fast, START) == pytest.approx(0.01)

    def test_its_seconds_are_those_to_fill_it(self) -> None:
        assert Limit.of(0.5, 10).seconds == pytest.approx(20)

    @given(
        st.floats(0.01, 1000),
        st.integers(1, 50),
        st.lists(st.floats(0, 5), min_size=1, max_size=40),
    )
    @settings(deadline=None, max_examples=50)
    def test_it_never_admits_more_than_burst_and_rate(
        self, rate: float, burst: int, gaps: list[float]
    ) -> None:
        table = RateTable(make_buffer(TINY))
        limit = Limit.of(rate, burst)
        now, count = START, 0
        for gap in gaps:
            now += gap
            count += min(admitted(table, limit, now), 1000)
            assert count <= burst + (now - START) * rate * 1.0001 + 1e-6

    @given(
        st.floats(0.01, 1000),
        st.integers(1, 50),
        st.lists(st.floats(0, 10), min_size=1, max_size=40),
    )
    @settings(deadline=None, max_examples=50)
    def test_who_waits_as_told_is_admitted(
        self, rate: float, burst: int, gaps: list[float]
    ) -> None:
        table = RateTable(make_buffer(TINY))
        limit = Limit.of(rate, burst)
        now = START
        for gap in gaps:
            now += gap
            if wait := table.take(b"a", limit, now):
                now += wait + 1e-6  # what a sum of floats may be off
                assert table.take(b"a", limit, now) == 0.0


class TestTable:
    def test_it_is_of_fixed_size_and_makes_room_from_the_fullest_bucket(self) -> None:
        table = RateTable(make_buffer(TINY))
        limit = Limit.of(1.0, 100)
        heavy = [b"heavy %d" % number for number in range(WAYS - 1)]
        for name in heavy:
            assert admitted(table, limit, START, name) == 100
        for number in range(1000):  # passers-by have one place for all of them
            assert table.take(b"%d" % number, limit, START) == 0.0
        assert [table.take(name, limit, START) > 0 for name in heavy] == [True] * len(heavy)
        assert admitted(table, limit, START, b"0") == 100  # it was forgotten

    def test_two_tables_on_one_buffer_count_together(self) -> None:
        buffer = make_buffer()
        one, other = RateTable(buffer), RateTable(buffer)
        limit = Limit.of(1.0, 10)
        for _ in range(5):
            assert one.take(b"a", limit, START) == 0.0
            assert other.take(b"a", limit, START) == 0.0
        assert one.take(b"a", limit, START) > 0
        assert other.take(b"a", limit, START) > 0

    def test_tables_apart_have_secrets_of_their_own(self) -> None:
        one, other = mmap(-1, SIZE), mmap(-1, SIZE)
        prepare(one)
        prepare(other)
        assert one[:SECRET_SIZE] != other[:SECRET_SIZE]

    def test_a_half_written_entry_is_nobodys(self) -> None:
        buffer = make_buffer(TINY)
        table = RateTable(buffer)
        limit = Limit.of(1.0, 10)
        assert admitted(table, limit, START) == 10
        place = next(
            place
            for place in range(SECRET_SIZE, TINY, 16)
            if buffer[place : place + 16].strip(b"\0")
        )
        moment = struct.unpack("Q", buffer[place + 8 : place + 16])[0]
        # Another process has written its moment, and not yet whose it is.
        buffer[place + 8 : place + 16] = struct.pack("Q", moment + 10**9)
        assert admitted(table, limit, START) == 10

    def test_any_bytes_are_a_table(self) -> None:
        """Whatever a race or a crash leaves there, nobody is refused for long."""
        buffer = make_buffer(TINY)
        buffer[SECRET_SIZE:] = b"\xff" * (TINY - SECRET_SIZE)
        table = RateTable(buffer)
        limit = Limit.of(1.0, 2)
        names = [b"%d" % number for number in range(WAYS)]
        for name in names:
            assert admitted(table, limit, START, name) == 2
        for name in names:  # each has a place of its own
            assert admitted(table, limit, START, name) == 0

    def test_processes_that_write_at_once_lose_a_count_at_most(self, tmp_path: Path) -> None:
        path = tmp_path / "table"
        path.write_bytes(b"\0" * SIZE)
        with path.open("r+b") as file:
            buffer = mmap(file.fileno(), SIZE)
        prepare(buffer)
        script = """
import sys
from mmap import mmap
from edge.rules.rate_limit import SIZE, Limit, RateTable
from edge.worker.worker import Worker
from tests.harness import settings_for
with open(sys.argv[1], "r+b") as file:
    table = RateTable(mmap(file.fileno(), SIZE))
sys.stdin.readline()
limit = Limit.of(1.0, 500)
print(sum(table.take(b"a", limit, 1000.0) == 0.0 for _ in range(501)))
"""
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", script, str(path)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        counts = [int(process.communicate(timeout=30)[0]) for process in processes]
        assert [process.returncode for process in processes] == [0, 0]
        assert sum(counts) >= 500
        # What they have left there is a table like any other.
        assert admitted(RateTable(buffer), Limit.of(1.0, 500), START, b"b") == 500


def test_workers_count_in_the_memory_that_they_are_given(tmp_path: Path) -> None:
    shared = make_buffer(TINY)
    workers = [Worker(settings_for(db=tmp_path / "fairlead.db"), shared=shared) for _ in range(2)]
    limit = Limit.of(1.0, 1)
    assert workers[0].state.rates.take(b"a", limit, START) == 0.0
    assert workers[1].state.rates.take(b"a", limit, START) > 0
    alone = Worker(settings_for(db=tmp_path / "fairlead.db"))
    assert alone.state.rates.take(b"a", limit, START) == 0.0

"""Proves the shares of the budget, and in which order it takes back what it can."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from edge.net.budget import (
    RELIEF,
    RESERVED_DESCRIPTORS,
    RESERVED_FOR_CHECKS,
    RESERVED_FOR_LOOKUPS,
    Budget,
    raise_limit,
)

LIMIT = 278  # 100 for connections, and an eighth for lookups


class Connection:
    """An idle connection, which notes on `closed` when it goes."""

    def __init__(self, budget: Budget, name: str, closed: list[str]) -> None:
        self._budget = budget
        self._name = name
        self._closed = closed
        budget.idle[self] = None

    def close(self) -> None:
        del self._budget.idle[self]
        self._closed.append(self._name)


class Holder:
    """A pool with attempts to connect that nobody waits for."""

    def __init__(self, attempts: int) -> None:
        self.attempts = attempts

    def sweep(self, now: float) -> None: ...

    def abandon_attempt(self) -> bool:
        if not self.attempts:
            return False
        self.attempts -= 1
        return True


@pytest.fixture
def budget() -> Budget:
    """Room for 100 connections, 50 clients at most."""
    budget = Budget()
    budget.allot(LIMIT, 100)
    return budget


@pytest.fixture
def closed() -> list[str]:
    """What was closed, in order."""
    return []


class TestShares:
    @pytest.mark.parametrize(
        ("wanted", "descriptors", "limit"),
        [
            (1000, 1000 * 2 + RESERVED_DESCRIPTORS + RESERVED_FOR_LOOKUPS, 1000),
            (1000, 600 * 2 + RESERVED_DESCRIPTORS + RESERVED_FOR_LOOKUPS, 600),
            (100, LIMIT, 50),
            (100, 40, 5),
        ],
    )
    def test_every_connection_has_a_descriptor_on_either_side(
        self, wanted: int, descriptors: int, limit: int
    ) -> None:
        # In a process of its own, since a hard limit never rises again.
        program = f"""
import resource
from edge.net.budget import Budget, raise_limit
budget = Budget()
budget.allot(raise_limit({wanted}), {wanted})
print(budget.max_clients, *resource.getrlimit(resource.RLIMIT_NOFILE))
"""
        limited = f'ulimit -S -n 32; ulimit -H -n {descriptors}; exec "$0" -c "$1"'
        said = subprocess.run(
            ["sh", "-c", limited, sys.executable, program],
            cwd=Path(__file__).parents[3],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        assert said.split() == [str(limit), str(descriptors), str(descriptors)]

    def test_where_nothing_limits_descriptors_as_many_as_are_needed_are_taken(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        taken: list[tuple[int, int]] = []
        unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        monkeypatch.setattr(resource, "getrlimit", lambda _which: unlimited)
        monkeypatch.setattr(resource, "setrlimit", lambda _which, limits: taken.append(limits))
        budget = Budget()
        budget.allot(raise_limit(100), 100)
        assert budget.max_clients == 100
        limit = 300 + RESERVED_DESCRIPTORS + RESERVED_FOR_LOOKUPS
        assert taken == [(limit, limit)]

    def test_fewer_clients_than_were_wanted_are_told_once(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        Budget().allot(LIMIT, 100)
        Budget().allot(LIMIT, 100, speaks=False)
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "at most 50 client connections per worker, not 100" in caplog.text

    def test_where_descriptors_abound_idle_connections_are_bounded_all_the_same(self) -> None:
        budget = Budget()
        budget.allot(1_048_576, 10_000)
        assert budget.comfortable == 30_000


class TestMakingRoom:
    def test_nothing_is_closed_while_there_is_room(self, budget: Budget, closed: list[str]) -> None:
        Connection(budget, "idle", closed)
        budget.clients, budget.upstreams = 50, 49
        budget.make_room()
        assert closed == []

    def test_the_oldest_idle_connection_goes_first(self, budget: Budget, closed: list[str]) -> None:
        for name in ("oldest", "older", "young"):
            Connection(budget, name, closed)
        budget.clients, budget.upstreams = 50, 50
        budget.make_room()
        budget.make_room()
        assert closed == ["oldest", "older"]
        assert budget.reclaimed == 2

    def test_then_attempts_that_nobody_waits_for(self, budget: Budget, closed: list[str]) -> None:
        waited_for, holder = Holder(0), Holder(1)
        budget.spare_attempts[waited_for] = budget.spare_attempts[holder] = None
        budget.clients, budget.upstreams = 50, 50
        Connection(budget, "idle", closed)
        budget.make_room()
        assert holder.attempts == 1
        budget.make_room()
        assert holder.attempts == 0

    def test_clients_that_are_idle_come_last(self, budget: Budget, closed: list[str]) -> None:
        asked: list[str] = []

        def close_idle_client() -> bool:
            asked.append("client")
            return True

        budget.close_idle_client = close_idle_client
        Connection(budget, "idle", closed)
        budget.clients, budget.upstreams = 50, 50
        budget.make_room()
        assert asked == []
        budget.make_room()
        assert asked == ["client"]

    def test_more_than_there_is_room_for_is_told(self, budget: Budget) -> None:
        budget.clients, budget.upstreams = 50, 50 + RESERVED_FOR_CHECKS
        assert not budget.is_exceeded
        budget.upstreams += 1
        assert budget.is_exceeded


class TestRelief:
    def test_several_go_at_once_where_the_kernel_has_refused_one(
        self, budget: Budget, closed: list[str]
    ) -> None:
        for number in range(RELIEF + 1):
            Connection(budget, str(number), closed)
        assert budget.relieve()
        assert len(closed) == RELIEF

    def test_it_says_if_nothing_could_be_closed(self, budget: Budget) -> None:
        assert not budget.relieve()


class TestHealthChecks:
    def test_some_always_may_run(self, budget: Budget) -> None:
        budget.clients = 50
        assert budget.allows_check(RESERVED_FOR_CHECKS - 1)
        assert not budget.allows_check(RESERVED_FOR_CHECKS)

    def test_more_may_as_long_as_each_client_can_have_its_upstream(self, budget: Budget) -> None:
        budget.clients = 30
        assert budget.allows_check(39)
        assert not budget.allows_check(40)


class TestLookups:
    @pytest.mark.parametrize(
        ("limit", "lookups"), [(20_000, 64), (1024, 64), (256, 16), (64, 4), (8, 1)]
    )
    def test_they_are_fewer_where_the_limit_is_too_low_for_what_is_reserved(
        self, limit: int, lookups: int
    ) -> None:
        budget = Budget()
        budget.allot(limit, 10_000)
        assert budget.max_lookups == lookups

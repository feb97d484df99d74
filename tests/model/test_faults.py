"""The model finds each fault that was found by hand, where its fix is taken out.

Each test is one of `reliability.md`'s: with the real programs but for the one thing that is the
fix, some order of a few operations breaks what is promised.
"""

from typing import Any

import pytest

import edge.control.lifeline
import edge.routing.store_writer
from edge.routing.snapshot_file import SnapshotFile
from edge.routing.store_reader import RouteReader
from edge.routing.store_writer import RouteWriter
from edge.supervisor.register import Register
from edge.supervisor.upgrade import Upgrade
from edge.worker.last_good_table import LastGoodTable
from edge.worker.worker import Worker
from orchestrator.deploys.app_networks import AppNetworks
from orchestrator.model import Deploy
from tests.model.docker import BRIDGE_NAME, Docker
from tests.model.machine import Machine
from tests.model.rest import Violation
from tests.model.test_model import run, simulated_machine

__all__ = ["simulated_machine"]

EXAMPLES = 60

pytestmark = [pytest.mark.timeout(300), pytest.mark.no_cover]


def finds(number: int, *operations: str) -> str:
    """What is found with these operations only."""
    kind: Any = type("Only", (Machine,), {"only": frozenset(operations)})
    with pytest.raises(Violation) as found:
        run(kind, EXAMPLES, number)
    return str(found.value)


def take_out(patch: pytest.MonkeyPatch, owner: Any, name: str, result: Any = None) -> None:
    """The function does nothing any more."""
    patch.setattr(owner, name, lambda *_, **__: result)


def test_o1_an_answer_of_another_app(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine chooses where a container is, at each start anew, in one network of all apps."""

    async def place(_: AppNetworks, deploy: Deploy) -> None:
        deploy.address, deploy.host_port = "", 0

    monkeypatch.setattr(AppNetworks, "place", place)
    monkeypatch.setattr(AppNetworks, "name", lambda _, app: BRIDGE_NAME)
    monkeypatch.setattr(Docker, "reports_current", True)
    assert "is answered by" in finds(1, "deploy", "restart_engine")


def test_d1_a_lost_database_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database has no identity, and nothing binds to it."""
    real = RouteReader.poll
    monkeypatch.setattr(RouteReader, "poll", lambda self, force=False, _=0: real(self, force))
    monkeypatch.setattr(SnapshotFile, "binds", False)
    found = finds(1, "set", "lose_database")
    assert "was acknowledged" in found or "leads to" in found


def test_d2_a_worker_comes_back_without_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last good table is nowhere but in each worker."""
    take_out(monkeypatch, LastGoodTable, "load")
    found = finds(1, "set", "lose_database", "kill_worker")
    assert any(each in found for each in ("without a table", "leads to", "was acknowledged"))


def test_d3_an_upgrade_ends_what_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is it handed on, and an edge takes over whatever it serves."""
    take_out(monkeypatch, LastGoodTable, "load")
    take_out(monkeypatch, Worker, "_check_succeeds")
    found = finds(1, "set", "lose_database", "upgrade")
    assert "without a table" in found or "leads to" in found


def test_h2_the_rules_of_a_route_go_with_its_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """security.md: a row that is pointed elsewhere is made anew."""
    take_out(monkeypatch, edge.routing.store_writer, "_options_of", {})
    assert "has the rules {}" in finds(1, "deploy", "protect")


def test_h2_a_withdrawn_host_falls_to_a_wider_route(monkeypatch: pytest.MonkeyPatch) -> None:
    """security.md: a route is withdrawn by removing its row."""

    def suspend(self: RouteWriter, reasons: dict[str, str]) -> int:
        return max(self.remove(domain) for domain in reasons)

    monkeypatch.setattr(RouteWriter, "suspend", suspend)
    assert "falls to" in finds(1, "deploy", "remove_app")


def test_u2_a_stopped_worker_outlives_its_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    """No kernel resumes or ends what a dead supervisor has left, and no new one looks for it."""
    take_out(monkeypatch, edge.control.lifeline, "resume_with_parent")
    take_out(monkeypatch, edge.control.lifeline, "limit")
    take_out(monkeypatch, Register, "resume_others")
    assert "processes at rest" in finds(1, "stop_worker", "end_edge", "settle")


def test_u2_a_new_edge_whose_workers_hang_leaves_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the new supervisor is killed, as it does not serve in time."""
    take_out(monkeypatch, edge.control.lifeline, "limit")

    async def see_to_end(_: Upgrade, successor: Any) -> int:
        successor.signal(9)
        code: int = await successor.wait()
        return code

    monkeypatch.setattr(Upgrade, "_see_to_end", see_to_end)
    assert "processes at rest" in finds(1, "upgrade", "settle")

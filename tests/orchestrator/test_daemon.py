"""Proves the life of the daemon with real processes: its start, its lock, its end."""

import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from edge.settings.syntax import Address
from orchestrator.api.server import listen
from orchestrator.daemon import database_lock
from orchestrator.errors import OrchestratorError
from tests.harness import Conversation
from tests.orchestrator.daemon import Daemon
from tests.process import PATIENCE

NOWHERE = "unix:///nowhere/docker.sock"


@pytest.fixture
def daemon(conversation: Conversation, tmp_path: Path, engine_host: str) -> Daemon:
    """One that is not started yet."""
    return Daemon(conversation, tmp_path / "fairlead.db", engine_host)


def test_it_serves_until_sigterm_and_leaves_its_socket_and_lock(daemon: Daemon) -> None:
    daemon.starts()
    daemon.until(lambda: daemon.get("/readyz").status_code == 200, "is ready")
    said = daemon.said()
    assert f"addr=127.0.0.1:{daemon.port}" in said
    assert "webhooks need a token" in said
    here = daemon.db.with_suffix(".api.sock")
    assert stat.S_IMODE(here.stat().st_mode) == 0o600
    assert daemon.ends(signal.SIGTERM) == 0
    assert not here.exists()
    assert not daemon.db.with_suffix(".token").exists()
    with database_lock(daemon.db.with_suffix(".lock")):
        pass
    daemon.starts()
    assert daemon.ends(signal.SIGINT) == 0


def test_a_missing_engine_does_not_keep_it_from_starting(daemon: Daemon) -> None:
    real, daemon.engine_host = daemon.engine_host, NOWHERE
    try:
        daemon.starts()
        assert daemon.get("/healthz").text == "ok"
        daemon.until(lambda: "nowhere/docker.sock" in daemon.said(), "names the engine")
        assert daemon.get("/readyz").status_code == 503
        metrics = daemon.get("/metrics").text
        assert "fairlead_docker_engine_up 0.0" in metrics
        assert "fairlead_log_dropped_lines_total 0.0" in metrics
        assert daemon.ends() == 0
    finally:
        daemon.engine_host = real


def test_a_second_one_on_the_same_database_ends_at_once_and_says_why(daemon: Daemon) -> None:
    daemon.starts()
    second = subprocess.run(
        [sys.executable, "-m", "orchestrator"],
        env={"FAIRLEAD_DB": str(daemon.db), "FAIRLEAD_ADDR": "127.0.0.1:0"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert second.returncode == 1
    assert "another orchestrator is using this database" in second.stderr
    assert daemon.get("/healthz").text == "ok"


def test_an_address_that_is_taken_is_said_with_what_to_do() -> None:
    with listen(Address("127.0.0.1", 0)) as first:
        taken = Address("127.0.0.1", first.getsockname()[1])
        with pytest.raises(OrchestratorError, match="FAIRLEAD_ADDR"), listen(taken):
            pass


def test_no_host_means_all_addresses_of_both_families() -> None:
    with listen(Address("", 0)) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), PATIENCE):
            pass
        if socket.has_dualstack_ipv6():
            with socket.create_connection(("::1", port), PATIENCE):
                pass


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OrchestratorError, match=r"a\.lock"), database_lock(tmp_path / "a.lock"):
        pass

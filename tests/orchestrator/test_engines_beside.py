"""Engines beside the tests' own, as a second clone and the machine itself may run them."""

import subprocess
import sys

import pytest

from tests.orchestrator.docker_engine import what_is_missing


@pytest.mark.engine
@pytest.mark.timeout(180)
def test_others_that_start_and_stop_leave_what_is_ours_reachable() -> None:
    """In a network of its own: the other engine spares nothing, so it must not be the machine's."""
    lacks = what_is_missing()
    if lacks:
        pytest.skip(lacks)
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-m", "tests.orchestrator.beside"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr

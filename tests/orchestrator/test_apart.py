"""Apps are apart: from a container nobody gets past the edge, and to another app by a link only."""

import subprocess
import sys

import pytest

from tests.orchestrator.docker_engine import what_is_missing


@pytest.mark.engine
@pytest.mark.timeout(300)
@pytest.mark.parametrize("length", ["short", pytest.param("long", marks=pytest.mark.chaos)])
def test_a_container_reaches_the_edge_and_the_apps_that_its_own_is_linked_to(length: str) -> None:
    """In a network of its own: an engine with the usual rules clears those of all others."""
    lacks = what_is_missing()
    if lacks:
        pytest.skip(lacks)
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-m", "tests.orchestrator.apart", length],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr

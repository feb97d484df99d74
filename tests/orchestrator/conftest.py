"""Owns the fixtures of the orchestrator's tests."""

from collections.abc import Iterator

import pytest

from tests.orchestrator import docker_engine
from tests.orchestrator.docker_engine import EngineProcess


@pytest.fixture(scope="session")
def engine_host() -> Iterator[str]:
    """The address of a Docker Engine that has busybox:latest, shared by all tests of a process."""
    with docker_engine.running() as host:
        yield host


@pytest.fixture
def own_engine() -> Iterator[EngineProcess]:
    """An engine that a test may stop."""
    lacks = docker_engine.what_is_missing()
    if lacks:
        pytest.skip(f"no engine of our own: {lacks}")
    with docker_engine.of_our_own() as process:
        yield process

"""Owns the fixtures of the orchestrator's tests."""

from collections.abc import Iterator

import pytest

from tests.orchestrator import docker_engine


@pytest.fixture(scope="session")
def engine_host() -> Iterator[str]:
    """The address of a Docker Engine that has busybox:latest, shared by all tests."""
    with docker_engine.running() as host:
        yield host

"""Owns how the suite runs, and the fixtures of every conversation: who takes part, with which
settings.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.harness import Client, Conversation, Edge, Upstream, settings_for

MEMORY = Path("/dev/shm")
MEMORY_NEEDED = 2**30
"""Bytes. Containers often have 64 MiB there, which is too little for the databases of a run."""

ENGINE_FIXTURES = {"engine_host", "own_engine", "small_engine"}


def pytest_configure(config: pytest.Config) -> None:
    """Registers the markers, and spares the tests what they need not wait for.

    Their folders are in memory where there is room: each change of a route is on the disk before it
    counts, and nearly every test makes one. The programs that they start keep their bytecode, also
    where the environment says that nobody should: to compile all of it anew is a second each time.
    """
    config.addinivalue_line(
        "markers", "settings(**fields): settings of the edge that differ from the defaults"
    )
    config.addinivalue_line(
        "markers", "pure: patches or counts the sources of the conversation (see tests.compiled)"
    )
    config.addinivalue_line("markers", "engine: needs a Docker Engine (set by its fixtures)")
    config.addinivalue_line("markers", "slow: takes half a minute; not in `make test-short`")
    config.addinivalue_line("markers", "chaos: takes long; run by `make chaos` only")
    config.addinivalue_line("markers", "soak: takes an hour; run by `make soak` only")
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_NEEDED:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # How long an example takes is the machine's affair: the bench asks for speed.
    hypothesis.settings.register_profile("suite", deadline=None)
    hypothesis.settings.load_profile("suite")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what needs a Docker Engine, so that `-m "not engine"` leaves it out.

    What takes longest comes first: begun last, it would keep one process when the others are done.
    """
    for item in items:
        if ENGINE_FIXTURES.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("engine")
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session")
def edges() -> Iterator[list[Edge]]:
    """The edges that may not have stopped yet: an edge stops beside the tests that follow it."""
    edges: list[Edge] = []
    yield edges
    for edge in edges:
        edge.has_stopped()


@pytest.fixture
def conversation() -> Iterator[Conversation]:
    """What is said in this test; when it ends, everything that took part is closed."""
    conversation = Conversation()
    yield conversation
    conversation.ends()


@pytest.fixture
def upstream(conversation: Conversation) -> Upstream:
    """The target of app.test."""
    return Upstream(conversation)


@pytest.fixture
def make_edge(
    conversation: Conversation, edges: list[Edge], tmp_path: Path, request: pytest.FixtureRequest
) -> Callable[..., Edge]:
    """Starts an edge without any route; takes settings as the marker does; a pool: `Edge.joins`."""
    marker = request.node.get_closest_marker("settings")
    marked = marker.kwargs if marker else {}

    def make(pool: list[Edge] | None = None, **overrides: object) -> Edge:
        settings = settings_for(**{"db": tmp_path / "fairlead.db", **marked, **overrides})
        edge = Edge(conversation, settings)
        # Thousands of them in memory would make each collection of garbage a long one.
        for other in [other for other in edges if other.is_over()]:
            edges.remove(other)
            other.has_stopped()
        edges.append(edge)
        edge.starts(pool)
        return edge

    return make


@pytest.fixture
def edge(make_edge: Callable[..., Edge], upstream: Upstream) -> Edge:
    """An edge that serves app.test from `upstream`."""
    edge = make_edge()
    edge.routes("app.test", upstream.target)
    return edge


@pytest.fixture
def client(edge: Edge) -> Client:
    """A client that is connected to the edge."""
    return edge.connects()

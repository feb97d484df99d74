"""Owns the fixtures of every conversation: who takes part, and with which settings."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.harness import Client, Conversation, Edge, Upstream, settings_for


def pytest_configure(config: pytest.Config) -> None:
    """Registers the marker that the fixtures here read."""
    config.addinivalue_line(
        "markers", "settings(**fields): settings of the edge that differ from the defaults"
    )


@pytest.fixture(scope="session")
def edges() -> Iterator[list[Edge]]:
    """Every edge of the session. They stop side by side: its admin server takes its time to."""
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
    """Starts an edge without any route; takes settings as the marker does."""
    marker = request.node.get_closest_marker("settings")
    marked = marker.kwargs if marker else {}

    def make(**overrides: object) -> Edge:
        settings = settings_for(**{"db": tmp_path / "fairlead.db", **marked, **overrides})
        edge = Edge(conversation, settings)
        edges.append(edge)
        edge.starts()
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

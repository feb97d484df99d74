"""One edge for all that is hostile: to start one for each message took as long as the message."""

from collections.abc import Callable, Iterator

import pytest

from tests.harness import Conversation, Edge, Upstream


@pytest.fixture(scope="session")
def pool() -> Iterator[list[Edge]]:
    """At most one edge, which nothing was left in."""
    pool: list[Edge] = []
    yield pool
    for edge in pool:
        edge.joins(Conversation(), None)
        edge.conversation.ends()
        edge.has_stopped()


@pytest.fixture
def edge(
    pool: list[Edge],
    make_edge: Callable[..., Edge],
    conversation: Conversation,
    upstream: Upstream,
    tmp_path_factory: pytest.TempPathFactory,
) -> Edge:
    """Any host leads to the upstream, so that nothing is refused only because it is unknown."""
    if pool:
        edge = pool.pop()
        edge.joins(conversation, pool)
    else:
        edge = make_edge(pool, db=tmp_path_factory.mktemp("hostile") / "fairlead.db")
    edge.routes("*", upstream.target)
    return edge

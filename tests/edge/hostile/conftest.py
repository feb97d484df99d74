"""One edge and one upstream for all that is hostile: to start them for each message, and to write a
route from one to the other, took longer than the message.
"""

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


@pytest.fixture(scope="session")
def shared_upstream() -> Iterator[Upstream]:
    """The one target of every route."""
    conversation = Conversation()
    yield Upstream(conversation)
    conversation.ends()


@pytest.fixture
def upstream(shared_upstream: Upstream, conversation: Conversation) -> Upstream:
    """As one that nobody has connected to."""
    shared_upstream.joins(conversation)
    return shared_upstream


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
        return edge
    edge = make_edge(pool, db=tmp_path_factory.mktemp("hostile") / "fairlead.db")
    edge.routes("*", upstream.target)
    return edge

"""Proves what `edge.proxy.state` bounds where a table has very many routes."""

import gc
from collections.abc import Iterator

import pytest

from edge.proxy.state import FREEZE_STEP, ServingState
from edge.routing.route import parse_route
from tests.harness import settings_for


@pytest.fixture
def frozen() -> Iterator[int]:
    """How many objects the garbage collector looks at no more."""
    yield gc.get_freeze_count()
    gc.unfreeze()


def test_routes_in_use_are_not_looked_at_by_each_garbage_collection(frozen: int) -> None:
    state = ServingState(settings_for())
    for number in range(2 * FREEZE_STEP):
        state.make_route_state(parse_route(f"host-{number}.test", f"127.0.0.1:{number + 1}", None))
    assert gc.get_freeze_count() >= frozen + 2 * FREEZE_STEP
    assert not any(each is state.route_states["host-0.test"] for each in gc.get_objects())

"""`pytest -p tests.compiled`: the tests' own process, too, has the compiled conversation.

Without it only the programs do that the tests start. What is marked `pure` is about the sources.
"""

import pytest

from edge.compiled import use

# While pytest reads its options: later, the fixtures have imported the sources.
if (choice := use()).name != "compiled":
    raise pytest.UsageError(f"the conversation is {choice}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = [item for item in items if item.get_closest_marker("pure") is None]

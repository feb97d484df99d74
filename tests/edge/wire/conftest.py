"""The head codecs, for the tests that both have to pass."""

import pytest

from tests.edge.wire.twins import CODECS


@pytest.fixture(params=CODECS, scope="session")
def codec(request: pytest.FixtureRequest) -> str:
    """The head codec that is tested: "pure" or "compiled"."""
    return str(request.param)

"""Owns what the commands of these tests work on."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The database of every command here, by the environment."""
    for name in [name for name in os.environ if name.startswith(("FAIRLEAD_", "GODEPLOY_"))]:
        monkeypatch.delenv(name)
    path = tmp_path / "fairlead.db"
    monkeypatch.setenv("FAIRLEAD_DB", str(path))
    return path


@pytest.fixture
def listening() -> Iterator[str]:
    """A target that accepts connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def refusing() -> Iterator[str]:
    """A target whose port is taken, so that nobody else listens on it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"

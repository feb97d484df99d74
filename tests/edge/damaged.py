"""Owns an edge that is started beside extensions that somebody has damaged."""

import signal
from pathlib import Path

import pytest

from edge.compiled import PURE
from edge.routing.store_writer import RouteWriter
from tests.edge.supervisor.faults import Faults
from tests.harness import Conversation, Upstream, exchange
from tests.process import Process


def warns_once_and_serves(
    part: str,
    patch: str,
    said: str,
    conversation: Conversation,
    upstream: Upstream,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An edge whose processes run `patch` first says once why `part` is pure, and serves.

    `part` is that of `/workers`, `said` is in the reason, `folder` is for the edge.
    """
    faults = Faults(folder / "faults")
    faults.patch(patch)
    for name, text in faults.environ.items():
        monkeypatch.setenv(name, text)
    monkeypatch.delenv(PURE, raising=False)
    db = folder / "fairlead.db"
    RouteWriter(db).set("app.test", upstream.target)
    process = Process(conversation, db)
    client = process.connects()
    exchange(client, upstream)
    client.closes()
    assert {worker[part] for worker in process.workers()} == {"pure"}
    process.gets(signal.SIGTERM)
    assert process.ends() == 0
    (warning,) = (line for line in process.has_said() if "does not load" in line)
    assert "WARNING worker 0: the compiled" in warning
    assert part in warning
    assert said in warning

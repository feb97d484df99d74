"""Proves that nobody has to read what the orchestrator says."""

import signal
import socket
from pathlib import Path

import pytest

from edge.routing.store_writer import RouteWriter
from tests.harness import Conversation
from tests.process import Process, ask
from tests.programs import free_port

UP = ("-c", "from fairlead.__main__ import main; main()", "up")


def test_nobody_reads_standard_error_of_both(
    conversation: Conversation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    db = tmp_path / "fairlead.db"
    RouteWriter(db).set("app.test", "127.0.0.1:1")
    port = free_port()
    process = Process(conversation, db, program=UP, addr=f"127.0.0.1:{port}")
    process.says("orchestrator listening")
    process.is_not_heard()
    for _ in range(100):
        with socket.create_connection(("127.0.0.1", port)) as odd:
            odd.sendall(b"?\r\n\r\n")
            odd.recv(100)
    assert ask("GET", f"http://127.0.0.1:{port}/healthz").text == "ok"
    assert process.admin("/readyz").text == "ready"
    process.gets(signal.SIGTERM)
    assert process.ends() == 0

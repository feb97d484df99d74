"""Proves that no process of ours runs what lies in the folder where it was started."""

import os
import signal
from pathlib import Path

import pytest

from tests.harness import Conversation
from tests.process import Process
from tests.programs import free_port

PLANTED = ("orjson", "uvloop", "httptools", "json", "edge", "orchestrator", "docker", "sqlite3")


def test_neither_workers_nor_sidecar_nor_successor_import_from_the_folder(
    conversation: Conversation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched = tmp_path / "touched"
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in PLANTED:
        (folder / f"{name}.py").write_text(f"open({str(touched)!r}, 'a').write('{name} ')")
    monkeypatch.chdir(folder)
    # The first one by itself: who starts it decides where it looks.
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    program = ("-P", "-m", "fairlead", "up")
    address = f"127.0.0.1:{free_port()}"
    process = Process(conversation, tmp_path / "fairlead.db", program=program, addr=address)
    process.says("orchestrator listening")
    pid = process.asks("/upgrade")["pid"]
    arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    assert arguments[1] == b"-P"
    process.ends()
    os.kill(pid, signal.SIGTERM)
    process.sees_end_of(pid)
    assert not touched.exists()

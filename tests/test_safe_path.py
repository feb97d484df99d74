"""Proves that no process of ours runs what lies in the folder where it was started."""

import ast
import asyncio
import os
import signal
from pathlib import Path

import pytest

from orchestrator.source import reader
from tests.harness import Conversation
from tests.process import Process
from tests.programs import free_port

ROOT = Path(__file__).parents[1]
PYTHON = "sys.executable"
PLANTED = ("orjson", "uvloop", "httptools", "json", "edge", "orchestrator", "docker", "sqlite3")


SOURCES = (*(ROOT / "edge").rglob("*.py"), *(ROOT / "orchestrator").rglob("*.py"))


def test_every_start_of_python_in_the_sources_says_so() -> None:
    """Whoever adds a child that is Python has to think of it, whatever its folder is."""
    starts = [
        (path, tuple(each.value for each in node.elts[1:2] if isinstance(each, ast.Constant)))
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Tuple) and node.elts and ast.unparse(node.elts[0]) == PYTHON
    ]
    found = {path.name: arguments for path, arguments in starts if arguments == ("-P",)}
    assert set(found) == {"sidecar.py", "slot.py", "reader.py"}
    # A successor gets it unless it was given already.
    assert {path.name for path, arguments in starts if arguments != ("-P",)} == {"upgrade.py"}
    mentions = {path.name for path in SOURCES if PYTHON in path.read_text()}
    assert mentions == {"sidecar.py", "slot.py", "reader.py", "upgrade.py"}


def test_what_reads_a_repository_imports_nothing_from_it_or_from_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched = tmp_path / "touched"
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in PLANTED:
        (folder / f"{name}.py").write_text(f"open({str(touched)!r}, 'a').write('{name} ')")
    (folder / "requirements.txt").write_text("flask\n")
    (folder / "app.py").write_text("from flask import Flask\napp = Flask(__name__)\n")
    monkeypatch.chdir(folder)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    assert asyncio.run(reader.detect(folder)).runtime == "python"
    assert not touched.exists()


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

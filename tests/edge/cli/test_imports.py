"""A command imports what it uses, and the list of commands next to nothing: imports are what a
start takes its time for. What is held is their list; no time is."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from edge.cli.lazy import LazyCommand
from fairlead.__main__ import main
from tests.edge.cli.command import ROOT

LISTING = {
    "aiosqlite",
    "asyncio",
    "concurrent.futures",
    "dns",
    "docker",
    "edge.settings.settings",
    "hashlib",
    "http.client",
    "httptools",
    "httpx",
    "idna",
    "importlib.metadata",
    "jinja2",
    "logging",
    "orchestrator.cli.commands",
    "orchestrator.settings",
    "orjson",
    "prometheus_client",
    "sqlite3",
    "ssl",
    "starlette",
    "urllib.request",
    "uvicorn",
    "uvloop",
    "websockets",
}
"""What the list of commands, and the version, need not; each takes 2 ms or more."""

SERVING = {
    "aiosqlite",
    "dns",
    "docker",
    "edge.supervisor.supervisor",
    "edge.worker.worker",
    "httptools",
    "httpx",
    "jinja2",
    "orchestrator.daemon",
    "prometheus_client",
    "starlette",
    "uvicorn",
    "uvloop",
    "websockets",
}
"""What only a command that does its work needs, and no help."""

BEFORE_SERVING = {
    "aiosqlite",
    "click",
    "dns",
    "docker",
    "edge.routing.explain",
    "edge.routing.store_writer",
    "edge.supervisor.admin",
    "email",
    "http.client",
    "http.server",
    "httpx",
    "idna",
    "importlib.metadata",
    "jinja2",
    "multiprocessing",
    "orchestrator",
    "prometheus_client",
    "starlette",
    "urllib.request",
    "uvicorn",
    "websockets",
}
"""What an edge need not import before it serves, nor a worker ever."""

SCRIPT = """
import sys
from fairlead.__main__ import main
try:
    main(prog_name="fairlead")
finally:
    print(*sorted(sys.modules), file=sys.stderr)
"""

ALL = main.commands


def imported(*words: str, script: str = SCRIPT) -> set[str]:
    """The modules of a process of its own after `fairlead` with these words, or after a script."""
    # What measures the coverage would import things too.
    environ = {name: text for name, text in os.environ.items() if not name.startswith("COVERAGE_")}
    done = subprocess.run(
        [sys.executable, "-c", script, *words],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        check=True,
        text=True,
    )
    return set(done.stderr.split())


def module_of(command: click.Command) -> str:
    assert isinstance(command, LazyCommand)
    return command.place.partition(":")[0]


@pytest.mark.parametrize("word", ["--help", "--version"])
def test_the_list_imports_no_command_and_nothing_heavy(word: str) -> None:
    found = imported(word)
    assert "click" in found
    # Which head codec runs is known once it is loaded.
    codec = {"hashlib", "httptools"}
    needed = {"importlib.metadata", *codec} if word == "--version" else set()
    assert found & (LISTING | {module_of(command) for command in ALL.values()}) == needed


@pytest.mark.parametrize("name", ALL)
def test_the_help_of_a_command_imports_no_other_one(name: str) -> None:
    used = {module_of(ALL[name])}
    if name == "up":  # its flags are those of the sidecars too
        used |= {place.partition(":")[0] for place in main.sidecars.values()}
    found = imported(name, "--help")
    assert used <= found
    assert found & ({module_of(command) for command in ALL.values()} - used) == set()
    assert found & SERVING == set()


SERVE = """
import os, sys

def fork():
    print(*sorted(sys.modules), file=sys.stderr)
    os._exit(0)

os.fork = fork
sys.argv[1:] = ["edge"]
from fairlead.entry import main
main()
"""


def test_an_edge_imports_what_it_serves_with_and_nothing_else_before_its_workers_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIRLEAD_DB", str(tmp_path / "fairlead.db"))
    monkeypatch.setenv("FAIRLEAD_HTTP_ADDR", "127.0.0.1:0")
    monkeypatch.setenv("FAIRLEAD_ADMIN_ADDR", "127.0.0.1:0")
    found = imported(script=SERVE)
    assert "edge.worker.worker" in found  # so that the workers need not
    assert found & BEFORE_SERVING == set()


def test_a_worker_that_is_started_anew_imports_nothing_else_either() -> None:
    script = "import edge.worker.process, sys; print(*sys.modules, file=sys.stderr)"
    assert imported(script=script) & (BEFORE_SERVING | {"edge.supervisor"}) == set()

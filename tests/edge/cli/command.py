"""Owns how a test calls `fairlead`, and what it looks at afterwards."""

import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result

from edge.routing.route import Route
from edge.routing.store_reader import RouteReader
from fairlead.__main__ import main

ROOT = Path(__file__).parents[3]


def fairlead(*words: str) -> Result:
    return CliRunner().invoke(main, words, prog_name="fairlead")


def done(*words: str) -> str:
    """What a command prints that must succeed without a word on stderr."""
    result = fairlead(*words)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return result.stdout


def refused(*words: str, exit_code: int = 1) -> str:
    """The reason of a command that must fail."""
    result = fairlead(*words)
    assert (result.exit_code, result.stdout) == (exit_code, ""), result.output
    return result.stderr


def routes(db: Path) -> list[Route]:
    loaded = RouteReader(db).poll()
    assert loaded is not None
    return list(loaded.table)


def python(*words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

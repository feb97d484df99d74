"""The command `fairlead`: its list, and what starts with it."""

import re

import pytest

from edge import compiled
from edge.wire.codec import CHOICE
from tests.edge.cli.command import done, python, refused


class TestWords:
    def test_the_version_is_that_of_the_distribution_and_says_what_runs_compiled(self) -> None:
        said = re.fullmatch(
            r"fairlead, version \d+\.\d+\.\d+, head codec: (.*), conversation: (.*)\n",
            done("--version"),
        )
        assert said is not None
        assert said.groups() == (str(CHOICE), str(compiled.found()))

    @pytest.mark.parametrize("words", [("frob",), ("route", "frob"), ("--frob",), ("route", "-x")])
    def test_a_wrong_word_is_a_usage_error(self, words: tuple[str, ...]) -> None:
        text = refused(*words, exit_code=2)
        assert text.startswith("Usage: fairlead")
        assert "No such" in text

    def test_each_command_says_what_it_is_for(self) -> None:
        assert "reverse proxy" in done("--help")
        for words in (("edge",), ("up",), ("route",), ("explain",)):
            assert done(*words, "--help").startswith(f"Usage: fairlead {words[0]}")
        for word in ("set", "rm", "ls", "pause", "resume", "maintenance", "password"):
            assert done("route", word, "--help").startswith(f"Usage: fairlead route {word}")


class TestProcess:
    """The program as it is really started."""

    def test_a_command_about_routes_loads_nothing_of_the_edge(self) -> None:
        script = """
import sys
from click.testing import CliRunner
from fairlead.__main__ import main
assert CliRunner().invoke(main, ["route", "set", "app.test", "a:1"]).exit_code == 0
heavy = {"asyncio", "uvloop", "httptools", "starlette"}
heavy |= {"edge.worker.worker", "edge.supervisor.supervisor"}
print(sorted(heavy & set(sys.modules)))
"""
        out, err = python("-c", script).communicate(timeout=30)
        assert (out, err) == ("[]\n", "")

    def test_a_reader_that_stops_reading_is_no_error_with_a_trace(self) -> None:
        done("route", "set", "app.test", "a:1")
        process = python("-m", "fairlead", "route", "ls")
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
        process.wait(30)
        process.stderr.close()

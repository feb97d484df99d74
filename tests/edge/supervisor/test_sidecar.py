"""Proves what runs beside the workers: it is kept alive, told to stop, and never in the way."""

import os
import re
import signal
import sys
from importlib import import_module
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge.cli.main import Program
from edge.supervisor.respawn import (
    FREE_RESTARTS,
    MAX_DELAY,
    MAX_SERVED_DELAY,
    MIN_UPTIME,
    SERVED_LATELY,
    Respawn,
)
from tests.harness import Conversation
from tests.process import Process, is_alive

PROGRAM = "from edge.cli.main import Program; import side; Program(side.COMMANDS, side.SIDECARS)()"
UP = ("-c", PROGRAM, "up")

# A package that stands where the orchestrator would: its flags, its program.
SIDE = """
import os, signal, sys, threading
import click

@click.command()
@click.option("--word")
@click.option("--db")
def command(word, db):
    "Stand beside the edge."

COMMANDS = {
    "beside": ("side:command", "Stand beside the edge"),
    "broken": ("missing_module:command", "Have no module"),
    "hollow": ("side:missing", "Have no command behind it"),
}
SIDECARS = {"side": "side:command"}

def told(*_):
    print(f"side {os.getpid()} is told to stop", file=sys.stderr, flush=True)
    os._exit(0)

if __name__ == "__main__":
    word = os.environ.get("FAIRLEAD_WORD", "none")
    if word == "bad":
        print("FAIRLEAD_WORD: 'bad' is no word", file=sys.stderr, flush=True)
        sys.exit(2)
    if word == "dying":
        sys.exit(1)
    signal.signal(signal.SIGTERM, told)
    print(f"side {os.getpid()} runs with {word}", file=sys.stderr, flush=True)
    while os.read(0, 1):
        pass
    Path = __import__("pathlib").Path
    Path(os.environ["FAIRLEAD_DB"] + ".alone").write_text(os.environ["FAIRLEAD_SUPERVISED"])
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is where it can be imported, here and by other processes."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "side.py").write_text(SIDE)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "side", raising=False)


def pid_in(line: str) -> int:
    """The sidecar's process in a line that it says."""
    found = re.search(r"side (\d+) ", line)
    assert found is not None, line
    return int(found[1])


@pytest.mark.usefixtures("installed")
class TestUp:
    def test_both_run_and_both_end_in_order(
        self, conversation: Conversation, tmp_path: Path
    ) -> None:
        process = Process(conversation, tmp_path / "f.db", program=(*UP, "--word", "hello"))
        side = pid_in(process.says("runs with hello"))
        assert process.admin("/healthz").status_code == 200
        process.gets(signal.SIGTERM)
        assert pid_in(process.says("is told to stop")) == side
        assert process.ends() == 0
        assert not is_alive(side)

    def test_one_that_dies_is_replaced(self, conversation: Conversation, tmp_path: Path) -> None:
        process = Process(conversation, tmp_path / "f.db", program=UP)
        first = pid_in(process.says("runs with none"))
        os.kill(first, signal.SIGKILL)
        assert f"(pid {first}) exited: killed by SIGKILL" in process.says("exited")
        assert pid_in(process.says("runs with none")) != first

    def test_one_that_keeps_dying_leaves_the_edge_serving(
        self, conversation: Conversation, tmp_path: Path
    ) -> None:
        process = Process(conversation, tmp_path / "f.db", program=UP, word="dying")
        for _ in range(FREE_RESTARTS + 2):
            process.says("exited: exit code 1")
        assert process.admin("/healthz").status_code == 200
        process.gets(signal.SIGTERM)
        assert process.ends() == 0

    def test_settings_that_it_cannot_use_end_the_start(
        self, conversation: Conversation, tmp_path: Path
    ) -> None:
        process = Process(conversation, tmp_path / "f.db", program=UP, word="bad")
        process.says("FAIRLEAD_WORD: 'bad' is no word")
        process.says("the side cannot start: its settings are invalid")
        assert process.ends() == 2

    def test_it_notices_that_the_supervisor_was_killed(
        self, conversation: Conversation, tmp_path: Path
    ) -> None:
        process = Process(conversation, tmp_path / "f.db", program=UP)
        side = pid_in(process.says("runs with none"))
        process.gets(signal.SIGKILL)
        process.ends()
        process.sees_end_of(side)
        assert Path(f"{tmp_path / 'f.db'}.alone").read_text() == "1"

    def test_after_an_upgrade_the_new_edge_has_its_own(
        self, conversation: Conversation, tmp_path: Path
    ) -> None:
        process = Process(conversation, tmp_path / "f.db", program=(*UP, "--word", "hello"))
        old = pid_in(process.says("runs with hello"))
        answer = process.asks("/upgrade")
        said = [process.says(f"side {old} is told"), process.says("runs with hello")]
        assert pid_in(said[1]) != old
        assert process.ends() == 0
        process.is_succeeded_by(answer["pid"])
        process.sees_end_of(pid_in(said[1]))

    def test_the_edge_alone_has_none(self, conversation: Conversation, tmp_path: Path) -> None:
        process = Process(conversation, tmp_path / "f.db", word="bad")
        process.gets(signal.SIGTERM)
        assert process.ends() == 0


@pytest.mark.usefixtures("installed")
class TestCommands:
    @pytest.fixture
    def main(self) -> Program:
        side = import_module("side")
        return Program(side.COMMANDS, side.SIDECARS)

    def test_those_of_other_packages_are_listed_and_found(self, main: Program) -> None:
        said = CliRunner().invoke(main, ["--help"]).output
        assert re.search(r"beside +Stand beside the edge", said)
        assert CliRunner().invoke(main, ["beside"]).exit_code == 0

    def test_one_that_cannot_be_loaded_breaks_no_other(self, main: Program) -> None:
        assert CliRunner().invoke(main, ["beside"]).exit_code == 0
        for name in ("broken", "hollow"):
            result = CliRunner().invoke(main, [name, "--anything"])
            assert result.exit_code == 1
            assert f"{name} cannot be loaded" in result.output
            assert "reinstall Fairlead" in result.output

    def test_a_word_that_nobody_knows_is_refused(self, main: Program) -> None:
        assert CliRunner().invoke(main, ["nothing"]).exit_code == 2

    def test_up_takes_the_flags_of_both(self, main: Program) -> None:
        said = CliRunner().invoke(main, ["up", "--help"]).output
        assert "--http-addr" in said
        assert "--word" in said
        assert said.count("--db ") == 1


class TestRespawn:
    def test_the_first_deaths_are_free_then_the_delay_grows_to_its_end(self) -> None:
        respawn = Respawn()
        delays = [respawn.delay(0) for _ in range(5000)]
        assert delays[: FREE_RESTARTS + 3] == [0.0] * FREE_RESTARTS + [0.2, 0.4, 0.8]
        assert delays[-1] == MAX_DELAY

    def test_while_one_has_served_lately_nobody_waits_for_longer_than_about_a_second(self) -> None:
        respawn = Respawn()
        delays = [respawn.delay(0.7, since_served=5.0) for _ in range(5000)]
        assert max(delays) == MAX_SERVED_DELAY
        # Those that never come to serve are another matter.
        assert respawn.delay(0.7, since_served=SERVED_LATELY) == MAX_DELAY

    def test_one_that_lived_long_is_replaced_at_once(self) -> None:
        respawn = Respawn()
        for _ in range(FREE_RESTARTS + 3):
            respawn.delay(0)
        assert respawn.delay(MIN_UPTIME) == 0.0

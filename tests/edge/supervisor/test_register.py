"""Proves the list of an edge's processes: who is on it, and until when."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.errors import ConfigError
from edge.supervisor.register import Register
from tests.process import PATIENCE

ENTERS = """
import sys
from pathlib import Path
from edge.supervisor.register import Register
register = Register.open(Path(sys.argv[1]))
print(flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "edge.sock.lock"


@pytest.fixture
def register(path: Path) -> Iterator[Register]:
    register = Register.open(path)
    yield register
    os.close(register.descriptor)


@pytest.fixture
def others(path: Path) -> "Iterator[list[subprocess.Popen[bytes]]]":
    """Three more processes on the list."""
    with_pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    found = [
        subprocess.Popen([sys.executable, "-c", ENTERS, str(path)], **with_pipes)  # type: ignore[call-overload]
        for _ in range(3)
    ]
    for each in found:
        each.stdout.readline()
    yield found
    for each in found:
        each.kill()
        each.communicate(timeout=PATIENCE)


def test_it_has_every_process_but_the_one_that_asks(
    register: Register, others: "list[subprocess.Popen[bytes]]"
) -> None:
    assert sorted(register.others()) == sorted(each.pid for each in others)


def test_one_that_ends_is_off_it(
    register: Register, others: "list[subprocess.Popen[bytes]]"
) -> None:
    for each in others:
        each.kill()
        each.wait(PATIENCE)
        assert each.pid not in register.others()
    assert not any(register.others())


def test_those_that_are_stopped_are_resumed(
    register: Register, others: "list[subprocess.Popen[bytes]]"
) -> None:
    for each in others:
        each.send_signal(signal.SIGSTOP)
        os.waitpid(each.pid, os.WUNTRACED)
    register.resume_others()
    for each in others:
        assert os.WIFCONTINUED(os.waitpid(each.pid, os.WCONTINUED)[1])


def test_where_it_cannot_be_kept_the_start_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot open .*Is a directory"):
        Register.open(tmp_path)

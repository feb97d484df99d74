"""Proves that standard error is written in order, and that nobody waits for its reader."""

import fcntl
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from edge.telemetry.standard_error import MAX_WAITING, StandardError

ROOT = Path(__file__).parents[3]
PATIENCE = 60.0
DROPPED = "log lines dropped because standard error was not read: "
PIPE = 4096
"""Bytes that a pipe of the tests holds."""

FILLER = "-" * (PIPE - 1)


class Pipe:
    """A small pipe, and standard error on it; it is read only when told to."""

    def __init__(self) -> None:
        self.reader, writer = os.pipe()
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE)
        self.stream: TextIO = os.fdopen(writer, "w")
        self.error = StandardError(self.stream)
        self._unread = b""

    def fill(self) -> None:
        """Make it take nothing, so that not even a first line is written."""
        os.write(self.stream.fileno(), FILLER.encode() + b"\n")

    def line(self) -> str:
        """The next line; waits for it."""
        while b"\n" not in self._unread:
            self._unread += os.read(self.reader, 2**16)
        line, _, self._unread = self._unread.partition(b"\n")
        return line.decode()

    def close(self) -> None:
        os.set_blocking(self.reader, False)
        while self._unread:
            try:
                self._unread = os.read(self.reader, 2**16)
            except BlockingIOError:
                break
        self.error.finish()
        os.close(self.reader)
        self.stream.close()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    # Where a process has its whole log.
    logger = logging.getLogger("edge.telemetry.standard_error")
    handler = logging.StreamHandler(pipe.error)
    logger.addHandler(handler)
    yield pipe
    logger.removeHandler(handler)
    pipe.close()


class TestLines:
    def test_they_are_written_in_order(self, pipe: Pipe) -> None:
        for number in range(1000):
            pipe.error.write(f"line {number}\n")
        assert [pipe.line() for _ in range(1000)] == [f"line {number}" for number in range(1000)]
        assert pipe.error.dropped == 0

    def test_one_that_comes_in_pieces_is_written_whole(self, pipe: Pipe) -> None:
        print("a", "b", file=pipe.error)
        pipe.error.write("half")
        pipe.error.finish()
        assert [pipe.line(), pipe.line()] == ["a b", "half"]

    def test_what_cannot_be_encoded_is_escaped(self, pipe: Pipe) -> None:
        error = StandardError(os.fdopen(os.dup(pipe.stream.fileno()), "w", errors="namereplace"))
        error.write("\ud800\n")
        error.finish()
        assert pipe.line() == r"\ud800"

    def test_it_takes_no_bytes(self, pipe: Pipe) -> None:
        # By that others find out what they may write.
        with pytest.raises(TypeError):
            pipe.error.write(b"")  # type: ignore[arg-type]

    def test_it_is_the_file_that_it_stands_for(self, pipe: Pipe) -> None:
        assert pipe.error.fileno() == pipe.stream.fileno()
        assert pipe.error.writable()
        assert not pipe.error.isatty()


class TestReaderThatStops:
    LINE = "x" * 1023
    KEPT = MAX_WAITING // 1024

    def test_what_is_too_much_is_dropped_and_counted_in_its_place(self, pipe: Pipe) -> None:
        pipe.fill()
        for _ in range(self.KEPT + 3):
            pipe.error.write(f"{self.LINE}\n")
        assert pipe.error.dropped == 3
        assert pipe.line() == FILLER
        assert [pipe.line() for _ in range(self.KEPT)] == [self.LINE] * self.KEPT
        assert pipe.line() == f"{DROPPED}3"
        pipe.error.write("later\n")
        assert pipe.line() == "later"

    def test_nothing_is_taken_until_all_that_waits_is_written(self, pipe: Pipe) -> None:
        pipe.fill()
        for _ in range(self.KEPT + 1):
            pipe.error.write(f"{self.LINE}\n")
        assert pipe.line() == FILLER
        assert [pipe.line() for _ in range(self.KEPT // 2)] == [self.LINE] * (self.KEPT // 2)
        pipe.error.write("in between\n")
        assert [pipe.line() for _ in range(self.KEPT // 2)] == [self.LINE] * (self.KEPT // 2)
        assert pipe.line() == f"{DROPPED}2"

    def test_a_line_larger_than_all_that_may_wait_is_dropped(self, pipe: Pipe) -> None:
        pipe.error.write("x" * MAX_WAITING + "\n")
        assert pipe.line() == f"{DROPPED}1"
        pipe.error.write("short\n")
        assert pipe.line() == "short"

    def test_the_end_waits_for_a_bounded_time(
        self, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("edge.telemetry.standard_error.EXIT_TIMEOUT", 0.01)
        for _ in range(5):
            pipe.error.write(f"{self.LINE}\n")
        pipe.error.finish()
        assert [pipe.line() for _ in range(5)] == [self.LINE] * 5

    def test_one_that_has_gone_costs_its_lines_and_nothing_else(self) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        with os.fdopen(writer, "w") as stream:
            error = StandardError(stream)
            error.write("one\ntwo\n")
            error.write("three\n")
            error.finish()
            assert error.dropped == 3

    def test_after_one_that_has_gone_the_next_is_heard(self, pipe: Pipe) -> None:
        pipe.fill()
        for _ in range(self.KEPT + 1):
            pipe.error.write(f"{self.LINE}\n")
        reader, writer = os.pipe()
        os.dup2(reader, pipe.reader)
        pipe.error.finish()
        assert pipe.error.dropped == self.KEPT + 1
        os.dup2(writer, pipe.stream.fileno())
        os.close(reader)
        os.close(writer)
        pipe.error.write("later\n")
        assert [pipe.line(), pipe.line()] == ["later", f"{DROPPED}{self.KEPT + 1}"]

    def test_a_pipe_that_somebody_made_non_blocking_loses_nothing(self, pipe: Pipe) -> None:
        os.set_blocking(pipe.stream.fileno(), False)
        for _ in range(100):
            pipe.error.write(f"{self.LINE}\n")
        assert [pipe.line() for _ in range(100)] == [self.LINE] * 100


def test_lines_of_all_threads_stay_whole(pipe: Pipe) -> None:
    def write(name: str) -> None:
        for _ in range(200):
            pipe.error.write(f"{name * 100}\n")

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    lines = [pipe.line() for _ in range(800)]
    for thread in threads:
        thread.join()
    assert sorted(lines) == sorted(name * 100 for name in "abcd" for _ in range(200))


PROGRAM = """
import logging, sys, threading, warnings
from edge.telemetry import standard_error
standard_error.install()
standard_error.install()
logging.basicConfig(format="%(levelname)s %(message)s", level=logging.INFO, stream=sys.stderr)
logger = logging.getLogger("program")
"""


class Program:
    """A process with its own standard error, which is read only when told to."""

    def __init__(self, text: str, *shell: str) -> None:
        self.popen = subprocess.Popen(
            [*shell, sys.executable, "-c", PROGRAM + text],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ends(self) -> int:
        """Its exit code, while nobody reads."""
        return self.popen.wait(PATIENCE)

    def said(self) -> tuple[str, str]:
        """All of its standard output and error."""
        return self.popen.communicate(timeout=PATIENCE)


class TestProcess:
    def test_all_that_was_said_is_there_at_the_end(self) -> None:
        program = Program("for n in range(5000): logger.info('%d', n)")
        _, error = program.said()
        assert error.splitlines() == [f"INFO {number}" for number in range(5000)]

    def test_what_python_itself_says_takes_the_same_way(self) -> None:
        program = Program(
            "warnings.warn('odd')\n"
            "threading.Thread(target=lambda: 1 / 0).start()\n"
            "raise KeyError('the end')"
        )
        _, error = program.said()
        assert "UserWarning: odd\n" in error
        assert "ZeroDivisionError: division by zero\n" in error
        assert "KeyError: 'the end'\n" in error
        assert program.popen.returncode == 1

    def test_one_whose_standard_error_nobody_reads_ends(self) -> None:
        program = Program(
            "for n in range(100_000): logger.info('%0100d', n)\n"
            "warnings.warn('odd')\n"
            "print(standard_error.dropped() > 50_000, flush=True)\n"
            "raise KeyError"
        )
        assert program.ends() == 1
        output, error = program.said()
        assert output == "True\n"
        assert error.startswith(f"INFO {0:0100d}\nINFO {1:0100d}\n")

    def test_one_whose_standard_error_is_closed_says_nothing(self) -> None:
        program = Program(
            "logger.info('x'); print(standard_error.dropped())", "bash", "-c", 'exec "$0" "$@" 2>&-'
        )
        assert program.said() == ("0\n", "")
        assert program.popen.returncode == 0

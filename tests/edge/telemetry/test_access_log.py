"""Proves the access log against real files, pipes and full disks: nothing here is simulated."""

import logging
import os
import resource
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import pytest

from edge.errors import ConfigError
from edge.telemetry.access_log import ATOMIC_WRITE, BATCH, MAX_BUFFERED, AccessLog, check
from edge.telemetry.metrics import Metrics

WAIT = 5.0
"""Seconds that anything may take before a test fails; nothing takes that long when it works."""


class Records(logging.Handler):
    """What was logged, in order; `next` waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self._messages: Queue[str] = Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self._messages.put(f"{record.levelname} {record.getMessage()}")

    def next(self) -> str:
        return self._messages.get(timeout=WAIT)

    def nothing_more(self) -> bool:
        return self._messages.empty()


@pytest.fixture
def records() -> Iterator[Records]:
    logger = logging.getLogger("edge.telemetry.access_log")
    handler = Records()
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


class Pipe:
    """A named pipe whose reader reads only when told to."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = str(path)
        self._reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(self._reader, True)

    def read_lines(self, count: int) -> list[bytes]:
        """The next `count` lines; waits for them."""
        data = b""
        while data.count(b"\n") < count:
            data += os.read(self._reader, 2**20)
        assert data.endswith(b"\n")
        return data.splitlines()

    def close(self) -> None:
        os.close(self._reader)


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Pipe]:
    pipe = Pipe(tmp_path / "pipe")
    yield pipe
    pipe.close()


@pytest.fixture
def file_size_limit() -> Iterator[int]:
    """No file of this process grows past this many bytes: a write ends short, the next fails.

    It is what a full disk does, for those who may not mount one.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = 1000
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def lift_file_size_limit() -> None:
    _soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with four pages of room."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "none", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting a file system needs root; /dev/full and the size limit do not")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


class TestFile:
    def test_lines_are_written_in_order_each_with_its_newline(
        self, tmp_path: Path, metrics: Metrics
    ) -> None:
        path = tmp_path / "access.log"
        log = AccessLog(str(path), metrics)
        log.append(b'{"n":1}')
        log.flush()
        log.append(b'{"n":2}')
        log.append(b'{"n":3}')
        log.close()
        assert path.read_bytes() == b'{"n":1}\n{"n":2}\n{"n":3}\n'
        assert metrics.access_log_dropped == 0

    def test_a_file_that_is_there_already_goes_on(self, tmp_path: Path, metrics: Metrics) -> None:
        path = tmp_path / "access.log"
        path.write_bytes(b"earlier\n")
        log = AccessLog(str(path), metrics)
        log.append(b"later")
        log.close()
        assert path.read_bytes() == b"earlier\nlater\n"

    def test_not_everybody_may_read_it(self, tmp_path: Path, metrics: Metrics) -> None:
        path = tmp_path / "access.log"
        AccessLog(str(path), metrics).close()
        assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0

    def test_a_flush_of_nothing_writes_nothing(self, tmp_path: Path, metrics: Metrics) -> None:
        path = tmp_path / "access.log"
        log = AccessLog(str(path), metrics)
        log.flush()
        log.close()
        assert path.read_bytes() == b""

    def test_a_full_batch_does_not_wait_for_a_flush(self, pipe: Pipe, metrics: Metrics) -> None:
        log = AccessLog(pipe.path, metrics)
        line = b"x" * 1023
        for _ in range(BATCH // 1024):
            log.append(line)
        assert pipe.read_lines(BATCH // 1024) == [line] * (BATCH // 1024)
        log.close()


class TestOpening:
    @pytest.mark.parametrize(
        ("name", "reason"),
        [("missing/access.log", "No such file or directory"), ("", "Is a directory")],
    )
    def test_a_path_that_cannot_be_opened_is_refused_with_the_reason(
        self, tmp_path: Path, metrics: Metrics, name: str, reason: str
    ) -> None:
        with pytest.raises(ConfigError, match=f"{reason}; name a file"):
            AccessLog(str(tmp_path / name), metrics)

    def test_a_named_pipe_without_a_reader_is_refused_instead_of_waited_for(
        self, tmp_path: Path, metrics: Metrics
    ) -> None:
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(ConfigError, match="cannot be opened"):
            AccessLog(str(tmp_path / "pipe"), metrics)

    def test_a_closed_stdout_is_refused(self) -> None:
        program = (
            "from edge.telemetry.access_log import AccessLog;"
            "from edge.telemetry.metrics import Metrics;"
            "AccessLog('stdout', Metrics())"
        )
        done = subprocess.run(
            ["sh", "-c", 'exec "$0" -c "$1" >&-', sys.executable, program],
            cwd=Path(__file__).parents[3],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert "ConfigError: the access log stdout cannot be opened: stdout was closed" in (
            done.stderr
        )


class TestReopening:
    def test_after_a_rotation_lines_go_to_the_new_file(
        self, tmp_path: Path, metrics: Metrics
    ) -> None:
        path = tmp_path / "access.log"
        log = AccessLog(str(path), metrics)
        log.append(b"before")
        path.rename(tmp_path / "access.log.1")
        log.reopen()
        log.append(b"after")
        log.close()
        assert (tmp_path / "access.log.1").read_bytes() == b"before\n"
        assert path.read_bytes() == b"after\n"

    def test_where_the_path_cannot_be_opened_anew_the_old_file_stays_in_use(
        self, tmp_path: Path, metrics: Metrics, records: Records
    ) -> None:
        folder = tmp_path / "log"
        folder.mkdir()
        log = AccessLog(str(folder / "access.log"), metrics)
        folder.rename(tmp_path / "moved")
        log.reopen()
        log.append(b"line")
        log.close()
        assert (tmp_path / "moved" / "access.log").read_bytes() == b"line\n"
        assert "No such file or directory; the old file stays in use" in records.next()

    def test_a_new_file_does_not_begin_with_the_end_of_a_broken_line(
        self, tmp_path: Path, metrics: Metrics, records: Records, file_size_limit: int
    ) -> None:
        path = tmp_path / "access.log"
        log = AccessLog(str(path), metrics)
        log.append(b"x" * file_size_limit)
        log.flush()
        assert "File too large" in records.next()
        lift_file_size_limit()
        path.rename(tmp_path / "access.log.1")
        log.reopen()
        log.append(b"whole")
        log.close()
        assert path.read_bytes() == b"whole\n"

    def test_the_same_file_opened_anew_keeps_a_broken_line_apart(
        self, tmp_path: Path, metrics: Metrics, records: Records, file_size_limit: int
    ) -> None:
        path = tmp_path / "access.log"
        log = AccessLog(str(path), metrics)
        log.append(b"x" * file_size_limit)
        log.flush()
        assert "File too large" in records.next()
        lift_file_size_limit()
        log.reopen()
        log.append(b"whole")
        log.close()
        assert path.read_bytes() == b"x" * file_size_limit + b"\nwhole\n"


class TestFullDisk:
    def test_lines_that_find_no_space_are_dropped_counted_and_told_once(
        self, metrics: Metrics, records: Records
    ) -> None:
        log = AccessLog("/dev/full", metrics)
        log.append(b"one")
        log.append(b"two")
        log.flush()
        log.append(b"three")
        log.close()
        assert metrics.access_log_dropped == 3
        assert records.next() == (
            "ERROR access log /dev/full: No space left on device;"
            " lines are dropped until it can be written"
        )
        assert records.nothing_more()

    def test_when_there_is_space_again_it_goes_on_and_tells_once(
        self, tmp_path: Path, metrics: Metrics, records: Records
    ) -> None:
        path = tmp_path / "access.log"
        path.symlink_to("/dev/full")
        log = AccessLog(str(path), metrics)
        log.append(b"lost")
        log.flush()
        assert "No space left on device" in records.next()
        path.unlink()
        log.reopen()
        log.append(b"first")
        log.flush()
        assert records.next() == f"WARNING access log {path}: writable again"
        log.append(b"second")
        log.close()
        assert path.read_bytes() == b"first\nsecond\n"
        assert metrics.access_log_dropped == 1
        assert records.nothing_more()

    def test_half_a_line_never_runs_into_the_next_good_one(
        self, tmp_path: Path, metrics: Metrics, records: Records, file_size_limit: int
    ) -> None:
        path = tmp_path / "access.log"
        log = AccessLog(str(path), metrics)
        for number in range(20):
            log.append(b"%02d" % number + b"x" * 77)
        log.flush()
        assert "File too large" in records.next()
        # 12 lines of 80 bytes with their newline, and 40 bytes of another: 1,000 bytes.
        assert path.stat().st_size == file_size_limit
        assert metrics.access_log_dropped == 8
        lift_file_size_limit()
        log.append(b"whole")
        log.close()
        lines = path.read_bytes().splitlines()
        assert lines[11] == b"11" + b"x" * 77
        assert lines[12:] == [b"12" + b"x" * 38, b"whole"]

    def test_a_file_system_that_fills_up_and_is_cleaned_up(
        self, small_disk: Path, metrics: Metrics, records: Records
    ) -> None:
        (small_disk / "filler").write_bytes(b"\0" * 3 * 4096)
        path = small_disk / "access.log"
        log = AccessLog(str(path), metrics)
        for number in range(50):
            log.append(b"%02d" % number + b"x" * 97)
        log.flush()
        assert "No space left on device" in records.next()
        assert metrics.access_log_dropped == 10
        (small_disk / "filler").unlink()
        log.append(b"whole")
        log.close()
        lines = path.read_bytes().splitlines()
        assert lines[39] == b"39" + b"x" * 97
        assert lines[40:] == [b"40" + b"x" * 94, b"whole"]
        assert "writable again" in records.next()


class TestStoppedReader:
    def test_lines_are_dropped_past_the_bound_and_nothing_blocks(
        self, pipe: Pipe, metrics: Metrics, records: Records
    ) -> None:
        log = AccessLog(pipe.path, metrics)
        line = b"x" * (64 * 1024 - 1)
        total = 2 * MAX_BUFFERED // len(line)
        for _ in range(total):
            log.append(line)
        log.flush()
        kept = MAX_BUFFERED // 2**16
        assert metrics.access_log_dropped == total - kept
        assert records.nothing_more()

        assert pipe.read_lines(kept) == [line] * kept
        assert records.next() == (
            f"ERROR access log {pipe.path}: written too slowly; lines are dropped"
        )
        assert records.next() == f"WARNING access log {pipe.path}: keeps up again"
        log.append(b"later")
        log.flush()
        assert pipe.read_lines(1) == [b"later"]
        log.close()
        assert records.nothing_more()

    def test_closing_is_bounded_in_time_and_tells_what_is_lost(
        self, pipe: Pipe, metrics: Metrics, records: Records, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("edge.telemetry.access_log.CLOSE_TIMEOUT", 0.01)
        log = AccessLog(pipe.path, metrics)
        log.append(b"x" * (BATCH - 1))
        log.close()
        assert records.next() == (
            f"ERROR access log {pipe.path}: blocked; {BATCH} bytes were not written"
        )
        (writer,) = (each for each in threading.enumerate() if each.name == "access-log")
        pipe.read_lines(1)
        writer.join(WAIT)
        assert not writer.is_alive()

    def test_a_reader_that_went_away_costs_its_lines_and_nothing_else(
        self, tmp_path: Path, metrics: Metrics, records: Records
    ) -> None:
        pipe = Pipe(tmp_path / "pipe")
        log = AccessLog(pipe.path, metrics)
        pipe.close()
        log.append(b"line")
        log.close()
        assert metrics.access_log_dropped == 1
        assert "Broken pipe" in records.next()

    def test_a_line_larger_than_the_bound_is_dropped(
        self, tmp_path: Path, metrics: Metrics
    ) -> None:
        path = tmp_path / "access.log"
        log = AccessLog(str(path), metrics)
        log.append(b"x" * MAX_BUFFERED)
        log.append(b"short")
        log.close()
        assert path.read_bytes() == b"short\n"
        assert metrics.access_log_dropped == 1


class TestStdout:
    @pytest.fixture
    def stdout(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
        """Makes stdout a pipe; the number of its reading end."""
        reader, writer = os.pipe()
        with os.fdopen(writer, "w") as file:
            monkeypatch.setattr(sys, "__stdout__", file)
            yield reader
        os.close(reader)

    def test_lines_go_to_stdout_which_stays_open(self, stdout: int, metrics: Metrics) -> None:
        log = AccessLog("stdout", metrics)
        log.append(b"line")
        log.reopen()
        log.close()
        assert os.read(stdout, 100) == b"line\n"
        assert sys.__stdout__ is not None
        assert os.write(sys.__stdout__.fileno(), b"more") == 4

    def test_a_stdout_that_somebody_made_non_blocking_loses_nothing(
        self, stdout: int, metrics: Metrics
    ) -> None:
        assert sys.__stdout__ is not None
        os.set_blocking(sys.__stdout__.fileno(), False)
        log = AccessLog("stdout", metrics)
        line = b"x" * (2**20 - 1)
        log.append(line)
        read = b""
        while len(read) < 2**20:
            read += os.read(stdout, 2**16)
        log.close()
        assert read == line + b"\n"
        assert metrics.access_log_dropped == 0

    def test_a_process_whose_stdout_nobody_reads_still_ends(self) -> None:
        program = """
import sys
from edge.telemetry.access_log import AccessLog
from edge.telemetry.metrics import Metrics
metrics = Metrics()
log = AccessLog("stdout", metrics)
for _ in range(100_000):
    log.append(b"x" * 199)
log.close()
sys.stderr.write(f"dropped={metrics.access_log_dropped > 0}")
"""
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            cwd=Path(__file__).parents[3],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        # Unlike communicate(), wait() leaves stdout unread.
        assert process.wait(timeout=30) == 0
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stderr.read().endswith("dropped=True")
        process.stdout.close()
        process.stderr.close()


class TestSharing:
    """What several workers write to one destination."""

    @pytest.fixture
    def reader(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
        """Makes stdout a socket that keeps writes apart; its other end."""
        writer, reader = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        reader.settimeout(WAIT)
        with reader, writer, os.fdopen(os.dup(writer.fileno()), "w") as file:
            monkeypatch.setattr(sys, "__stdout__", file)
            yield reader

    def test_a_socket_gets_whole_lines_in_writes_that_nothing_can_cut(
        self, reader: socket.socket, metrics: Metrics
    ) -> None:
        log = AccessLog("stdout", metrics)
        line = b"x" * 999
        for _ in range(10):
            log.append(line)
        log.flush()
        # Four lines of 1,000 bytes are as many as 4,096 bytes hold.
        for count in (4, 4, 2):
            assert reader.recv(BATCH) == (line + b"\n") * count
        log.close()

    def test_a_line_that_is_too_long_goes_alone(
        self, reader: socket.socket, metrics: Metrics
    ) -> None:
        log = AccessLog("stdout", metrics)
        lines = [b"before", b"x" * ATOMIC_WRITE, b"y" * (ATOMIC_WRITE - 1), b"after"]
        for line in lines:
            log.append(line)
        log.flush()
        assert [reader.recv(BATCH) for _ in lines] == [line + b"\n" for line in lines]
        log.close()

    def test_the_path_of_a_pipe_that_is_opened_anew_is_one_still(
        self, tmp_path: Path, metrics: Metrics
    ) -> None:
        path = tmp_path / "log"
        log = AccessLog(str(path), metrics)
        log.append(b"to a file")
        log.flush()
        path.rename(tmp_path / "file")
        path.symlink_to("/dev/null")
        log.reopen()
        log.append(b"to a device")
        log.close()
        assert log._splits_writes
        assert (tmp_path / "file").read_bytes() == b"to a file\n"

    def test_lines_of_two_processes_do_not_mix_in_a_pipe(self) -> None:
        program = """
import sys
from edge.telemetry import access_log
from edge.telemetry.metrics import Metrics
access_log.CLOSE_TIMEOUT = 60
log = access_log.AccessLog("stdout", Metrics())
for _ in range(2_000):
    log.append(sys.argv[1].encode() * 299)
log.flush()
sys.stderr.write("full\\n")
log.close()
"""
        reader, writer = os.pipe()
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", program, letter],
                cwd=Path(__file__).parents[3],
                stdout=writer,
                stderr=subprocess.PIPE,
            )
            for letter in "ab"
        ]
        os.close(writer)
        # Both have more to write than the pipe holds when the first byte of it is read.
        for process in writers:
            assert process.stderr is not None
            assert process.stderr.readline() == b"full\n"
        with os.fdopen(reader, "rb") as pipe:
            lines = pipe.read().splitlines()
        for process in writers:
            process.communicate(timeout=WAIT)
        assert sorted(lines) == [b"a" * 299] * 2_000 + [b"b" * 299] * 2_000


class TestCheck:
    """Whether a destination could be opened, without opening it for good."""

    def test_a_file_that_is_there_stays_as_it_is(self, tmp_path: Path) -> None:
        path = tmp_path / "access.log"
        path.write_text("a line\n")
        check(str(path))
        assert path.read_text() == "a line\n"

    def test_a_file_that_is_not_there_is_not_made(self, tmp_path: Path) -> None:
        check(str(tmp_path / "access.log"))
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_is_no_file(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="cannot be opened: Is a directory"):
            check(str(tmp_path))

    def test_a_file_needs_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(
            ConfigError, match=f"the folder {tmp_path}/no does not exist; name a file"
        ):
            check(str(tmp_path / "no" / "access.log"))

    def test_a_folder_must_be_writable(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Root may write everywhere, so the kernel cannot be asked.
        monkeypatch.setattr(os, "access", lambda path, mode: (path, mode) != (str(tmp_path), 3))
        with pytest.raises(ConfigError, match=f"{tmp_path} is not writable; name a file"):
            check(str(tmp_path / "access.log"))

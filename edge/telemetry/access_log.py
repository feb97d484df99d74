"""Owns the access log: lines are gathered in the loop's thread and written in a thread of its own.

A slow disk, a full one or a reader of stdout that stopped can block that thread for as long as it
likes; the loop only ever appends to a list. What a line says is not decided here.
"""

import logging
import os
import stat
import sys
import threading
from enum import Enum, auto
from queue import SimpleQueue

from edge.errors import ConfigError
from edge.telemetry.metrics import Metrics
from edge.telemetry.waiting_write import write_some

# Bytes that may wait for the thread. Some 25,000 lines: seconds of a full load, not more.
MAX_BUFFERED = 8 * 2**20
# Bytes handed over at once. Small enough that a second between two sweeps cannot fill MAX_BUFFERED,
# large enough that waking the thread is rare.
BATCH = 128 * 2**10
# Bytes that a pipe takes without those of another process in between (PIPE_BUF of Linux); a stream
# socket, such as that of journald, keeps them together too.
ATOMIC_WRITE = 4096
# Seconds that `close` waits for the last batch.
CLOSE_TIMEOUT = 2.0
# Clients' addresses are in it: readable for a group of log readers, not for everybody.
FILE_MODE = 0o640

logger = logging.getLogger(__name__)


class _Command(Enum):
    """What the writer is asked, in between the batches."""

    REOPEN = auto()
    STOP = auto()


class AccessLog:
    """Lines to `destination` ("stdout" or a path), in order.

    Lines that would wait behind more than `MAX_BUFFERED` bytes, and lines that a write failed on
    (full disk, reader gone), are dropped and counted in `Metrics.access_log_dropped`; one record
    of `logging` marks the begin and one the end of such a time. What such a write left of a line
    stands on a line of its own.

    Raises ConfigError if the destination cannot be opened.
    """

    def __init__(self, destination: str, metrics: Metrics) -> None:
        self._destination = destination
        self._metrics = metrics
        # Both threads count dropped lines; += on an attribute is not one step.
        self._drop_lock = threading.Lock()
        self._queue: SimpleQueue[list[bytes] | _Command] = SimpleQueue()
        try:
            self._file = _open(destination)
        except OSError as error:
            raise _unusable(destination, error) from None

        # Only the loop's thread changes these.
        self._lines: list[bytes] = []
        self._accepted = 0  # bytes, ever
        self._submitted = 0  # bytes, ever
        self._overflowed = 0  # lines dropped because too much waited, ever

        # Only the writer's thread changes these.
        self._finished = 0  # bytes written or dropped, ever
        self._splits_writes = _may_interleave(self._file)
        self._inside_line = False  # the last write ended inside a line
        self._failing = False
        self._overflowing = False
        self._overflow_reported = 0

        # A daemon, because nothing can end a write to a pipe that nobody reads; without it the
        # process would not exit either.
        self._writer = threading.Thread(target=self._write_all, name="access-log", daemon=True)
        self._writer.start()

    def append(self, line: bytes) -> None:
        """Take one line, without its newline. Never blocks."""
        accepted = self._accepted + len(line) + 1
        if accepted - self._finished > MAX_BUFFERED:
            self._overflowed += 1
            self._count_dropped(1)
            return
        self._accepted = accepted
        self._lines.append(line)
        if accepted - self._submitted >= BATCH:
            self.flush()

    def flush(self) -> None:
        """Hand the lines that were taken to the writer. Never blocks."""
        if self._lines:
            self._queue.put(self._lines)
            self._lines = []
            self._submitted = self._accepted

    def reopen(self) -> None:
        """Open the path anew, after what was taken so far is written. Never blocks.

        Where that fails, the file that is open stays in use.
        """
        self.flush()
        if self._destination != "stdout":
            self._queue.put(_Command.REOPEN)

    def close(self) -> None:
        """Write what is left. Blocks for up to `CLOSE_TIMEOUT`; then what is left is lost."""
        self.flush()
        self._queue.put(_Command.STOP)
        self._writer.join(CLOSE_TIMEOUT)
        if self._writer.is_alive():
            logger.error(
                "access log %s: blocked; %d bytes were not written",
                self._destination,
                self._accepted - self._finished,
            )

    def _count_dropped(self, lines: int) -> None:
        with self._drop_lock:
            self._metrics.access_log_dropped += lines

    # From here on: the writer's thread.

    def _write_all(self) -> None:
        while True:
            job = self._queue.get()
            if isinstance(job, list):
                self._write(job)
                self._report_overflow()
            elif job is _Command.REOPEN:
                self._reopen_file()
            else:
                os.close(self._file)
                return

    def _write(self, lines: list[bytes]) -> None:
        batch = b"\n".join([*lines, b""])
        # After half a line, which stays what it is, the next line must begin on its own.
        separator = b"\n" if self._inside_line else b""
        data = separator + batch
        view = memoryview(data)
        written = 0
        try:
            while written < len(data):
                end = _write_end(data, written) if self._splits_writes else len(data)
                written += write_some(self._file, view[written:end])
        except OSError as error:
            self._count_dropped(batch.count(b"\n", max(0, written - len(separator))))
            if not self._failing:
                self._failing = True
                logger.error(
                    "access log %s: %s; lines are dropped until it can be written",
                    self._destination,
                    error.strerror,
                )
        else:
            if self._failing:
                self._failing = False
                logger.warning("access log %s: writable again", self._destination)
        if written:
            self._inside_line = data[written - 1] != ord("\n")
        self._finished += len(batch)

    def _report_overflow(self) -> None:
        overflowed = self._overflowed
        if overflowed > self._overflow_reported:
            self._overflow_reported = overflowed
            if not self._overflowing:
                self._overflowing = True
                logger.error(
                    "access log %s: written too slowly; lines are dropped", self._destination
                )
        elif self._overflowing and self._queue.empty():
            self._overflowing = False
            logger.warning("access log %s: keeps up again", self._destination)

    def _reopen_file(self) -> None:
        try:
            file = _open(self._destination)
        except OSError as error:
            logger.error(
                "access log %s: cannot be reopened: %s; the old file stays in use",
                self._destination,
                error.strerror,
            )
            return
        os.close(self._file)
        self._file = file
        self._splits_writes = _may_interleave(file)
        # The old file may have been the same one, or one that ends inside a line.
        self._inside_line = self._inside_line and os.fstat(file).st_size > 0


def _may_interleave(file: int) -> bool:
    """Whether writes of several processes could mix inside one: to all but regular files."""
    return not stat.S_ISREG(os.fstat(file).st_mode)


def _write_end(data: bytes, start: int) -> int:
    """Where to end a write that begins at `start`: whole lines, or one line that is too long."""
    end = data.rfind(b"\n", start, start + ATOMIC_WRITE)
    return (end if end >= 0 else data.index(b"\n", start)) + 1


def check(destination: str) -> None:
    """Raises ConfigError if an AccessLog could not open `destination`; no file is made."""
    try:
        os.close(_open(destination, create=False))
    except FileNotFoundError:
        folder = os.path.dirname(os.path.realpath(destination))  # noqa: PTH120  as open(2) finds it
        if not os.path.isdir(folder):  # noqa: PTH112
            raise _unusable(
                destination, OSError(0, f"the folder {folder} does not exist")
            ) from None
        if not os.access(folder, os.W_OK | os.X_OK):
            raise _unusable(
                destination, OSError(0, f"the folder {folder} is not writable")
            ) from None
    except OSError as error:
        raise _unusable(destination, error) from None


def _unusable(destination: str, error: OSError) -> ConfigError:
    return ConfigError(
        f"the access log {destination} cannot be opened: {error.strerror};"
        " name a file in a writable folder, stdout or off"
    )


def _open(destination: str, create: bool = True) -> int:
    if destination == "stdout":
        if sys.__stdout__ is None:
            # The number 1 may since belong to any other file.
            raise OSError(0, "stdout was closed by whoever started this process")
        return os.dup(sys.__stdout__.fileno())
    # O_NONBLOCK: a named pipe without a reader fails at once, instead of blocking the start.
    flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
    file = os.open(destination, flags | os.O_CREAT if create else flags, FILE_MODE)
    os.set_blocking(file, True)
    return file

"""Owns how a process writes to standard error: on a thread of its own, from a queue with a bound.

Standard error is read by somebody else (journald, a log driver, a shell), who may stop; a write
then blocks for as long as that lasts. O_NONBLOCK is no way out: it would hold for everybody who
shares the pipe or terminal. So `sys.stderr` is replaced, for `logging` and for whatever else Python
says there, and only the thread ever waits.
"""

import atexit
import io
import logging
import sys
import threading
from queue import SimpleQueue
from typing import Final, TextIO

from edge.telemetry.waiting_write import write_some

# Bytes that may wait for the reader: some 10,000 lines.
MAX_WAITING: Final = 2**20
# Seconds that the end of the process waits for the reader; then what still waits is lost.
EXIT_TIMEOUT: Final = 1.0

logger = logging.getLogger(__name__)


class StandardError(io.TextIOBase):
    """Takes text in the place of `stream`, and never blocks. May be used from all threads.

    What would wait behind more than `MAX_WAITING` bytes is dropped, and so is all that follows
    until the rest is written: then one line says how many were dropped, in their place. `dropped`
    counts lines, also those that a write failed on.
    """

    # Those of the base class cannot be set.
    encoding: str = ""
    errors: str | None = None

    def __init__(self, stream: TextIO) -> None:
        self.encoding = stream.encoding
        self.errors = stream.errors
        self.dropped = 0
        self._stream = stream
        self._file = stream.fileno()
        # Reentrant, as the queue is: what the collector of garbage does can write too.
        self._lock = threading.RLock()
        self._queue: SimpleQueue[bytes | threading.Event] = SimpleQueue()
        self._unfinished = ""  # a line so far
        self._accepted = 0  # bytes, ever
        self._dropping = False
        # Only the thread changes these.
        self._finished = 0  # bytes written or given up, ever
        self._reported = 0
        # A daemon, because nothing can end a write to a pipe that nobody reads; without it the
        # process would not exit either.
        threading.Thread(target=self._write_all, name="standard-error", daemon=True).start()

    def write(self, text: str, /) -> int:
        """Take `text`; it is written once its line has an end."""
        with self._lock:
            lines, end, self._unfinished = (self._unfinished + text).rpartition("\n")
            if end:
                self._put(f"{lines}\n".encode(self.encoding, self.errors or "strict"))
        return len(text)

    def writable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """Of what is written to."""
        return self._file

    def isatty(self) -> bool:
        """Whether a terminal is written to."""
        return self._stream.isatty()

    def finish(self) -> None:
        """Write what was taken. Blocks for up to `EXIT_TIMEOUT`; what is left then is lost."""
        if self._unfinished:
            self.write("\n")
        written = threading.Event()
        self._queue.put(written)
        written.wait(EXIT_TIMEOUT)

    def _put(self, lines: bytes) -> None:
        if not self._dropping:
            if self._accepted + len(lines) - self._finished <= MAX_WAITING:
                self._accepted += len(lines)
                self._queue.put(lines)
                return
            self._dropping = True
            self._queue.put(b"")  # There may be nothing else that wakes the thread.
        self.dropped += lines.count(b"\n")

    # From here on: the thread.

    def _write_all(self) -> None:
        while True:
            taken = self._queue.get()
            if isinstance(taken, threading.Event):
                self._go_on(written=False)
                taken.set()
            else:
                self._go_on(written=self._write(taken))

    def _write(self, lines: bytes) -> bool:
        """Whether all of it could be written."""
        left = memoryview(lines)
        try:
            while left:
                left = left[write_some(self._file, left) :]
        except OSError:
            # The reader has gone, or the disk is full; whoever comes next may be luckier.
            with self._lock:
                self.dropped += lines.count(b"\n")
        self._finished += len(lines)
        return not left

    def _go_on(self, *, written: bool) -> None:
        """Once nothing waits: take lines again, and say how many were dropped, if that is heard."""
        with self._lock:
            if not self._queue.empty():
                return
            self._dropping = False
            if self.dropped == self._reported or not written:
                return
            count, self._reported = self.dropped - self._reported, self.dropped
        logger.warning("log lines dropped because standard error was not read: %d", count)


def install() -> None:
    """From now on, nothing that this process says on standard error can block it.

    Where standard error is closed there is nothing to do.
    """
    if sys.stderr is None or isinstance(sys.stderr, StandardError):
        return
    sys.stderr = StandardError(sys.stderr)
    atexit.register(sys.stderr.finish)


def dropped() -> int:
    """The lines that this process could not write, since its start."""
    return sys.stderr.dropped if isinstance(sys.stderr, StandardError) else 0

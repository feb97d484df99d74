"""Owns the log of each deploy: a file of lines, written from any thread, read while it grows.

A follower reads the file, and is only told that there is more: one that is slow costs no memory and
loses nothing.
"""

import asyncio
import logging
import os
import re
import threading
import time
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from orchestrator.security.redact import Redactor

logger = logging.getLogger(__name__)

MAX_BYTES: Final = 10 * 1024 * 1024
MAX_LINE: Final = 16 * 1024  # characters; what is beyond is counted
# Lines that a follower takes at once; between two such pieces, others have their turn.
_BATCH_LINES: Final = 500
_TRUNCATED: Final = "log size limit reached: further output is not recorded"

_ESCAPE: Final = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"  # colours, the cursor (ECMA-48 section 5.4)
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"  # strings (5.6)
    r"|\x1b[ -/]*[0-~]?"
)
# Control characters but the tab and the line feed, and what turns the direction of a line (UAX 9).
_CONTROL: Final = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line. `number` counts the file's lines from 1, `time` is in Unix seconds."""

    number: int
    time: float
    step: str
    line: str

    def as_json(self) -> dict[str, object]:
        """Its JSON in the API."""
        return {"number": self.number, "time": self.time, "step": self.step, "line": self.line}


@dataclass(frozen=True, slots=True)
class StoredLog:
    """The file of a log: its bytes, and when it was last written, in Unix seconds."""

    deploy: int
    size: int
    written_at: float


class DeployLogs:
    """The logs in `folder`, which nobody else may look into; each has at most `max_bytes`."""

    def __init__(self, folder: Path, redactor: Redactor, max_bytes: int = MAX_BYTES) -> None:
        self._folder = folder
        self._redactor = redactor
        self._max_bytes = max_bytes
        self._open: dict[int, DeployLog] = {}

    def open(self, deploy: int) -> "DeployLog":
        """The log to write to, which goes on where it ended; the open one if it is open."""
        log = self._open.get(deploy)
        if log is None or log.closed:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Of a copy: others are removed in threads.
            self._open = {each: log for each, log in [*self._open.items()] if not log.closed}
            log = DeployLog(self._path(deploy), self._redactor, self._max_bytes)
            self._open[deploy] = log
        return log

    def read(self, deploy: int, after_line: int = 0, limit: int = 1000) -> list[LogLine]:
        """At most `limit` lines after that number; none if there is no log. Reads a file."""
        reader = _Reader(self._path(deploy))
        try:
            lines: list[LogLine] = []
            while len(lines) < limit and (found := reader.read_lines(_BATCH_LINES)):
                lines += (line for line in found if line.number > after_line)
            return lines[:limit]
        finally:
            reader.close()

    async def follow(self, deploy: int) -> AsyncGenerator[LogLine, None]:
        """All lines so far, then each that comes, until the log is closed.

        A log that is not open ends with its last line.
        """
        log = self._open.get(deploy)
        follower = _Follower()
        if log is not None:
            log.add(follower)
        reader = _Reader(self._path(deploy))
        try:
            while True:
                # Before the file is read, so that nothing can come in between.
                follower.rearm()
                at_end = log is None or log.closed
                while found := await asyncio.to_thread(reader.read_lines, _BATCH_LINES):
                    for line in found:
                        yield line
                if at_end:
                    return
                await follower.more.wait()
        finally:
            reader.close()
            if log is not None:
                log.discard(follower)

    def all(self) -> list["StoredLog"]:
        """What there is, in no order. Reads a folder."""
        found = []
        with suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            for entry in entries:
                number = entry.name.removesuffix(".log")
                if number.isdecimal():
                    state = entry.stat(follow_symlinks=False)
                    found.append(StoredLog(int(number), state.st_size, state.st_mtime))
        return found

    def remove(self, deploy: int) -> None:
        """Delete a log; one that is not there is fine."""
        log = self._open.pop(deploy, None)
        if log is not None:
            log.close()
        self._path(deploy).unlink(missing_ok=True)

    def _path(self, deploy: int) -> Path:
        return self._folder / f"{deploy:d}.log"


class DeployLog:
    """One log that is being written. Where the disk fails, lines are lost, and the deploy goes on.

    All methods may be called from any thread.
    """

    def __init__(self, path: Path, redactor: Redactor, max_bytes: int) -> None:
        self._path = path
        self._redactor = redactor
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._followers: set[_Follower] = set()
        self._failing = False
        self.closed = False
        self._file = os.open(
            path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        # What a process that was killed left: perhaps half a line.
        self._size = os.fstat(self._file).st_size
        tail = os.pread(self._file, 1024, max(0, self._size - 1024))
        self._mid_line = bool(tail) and not tail.endswith(b"\n")
        self._full = _TRUNCATED.encode() in tail

    def write(self, step: str, text: str) -> None:
        """Add the lines of `text`: whole ones, the last one with or without its line break."""
        clean = _strip_controls(text)
        lines = self._redactor.redact(clean.removesuffix("\n")).split("\n")
        now = round(time.time(), 3)
        with self._lock:
            if self.closed or self._full:
                return
            data = bytearray()
            for line in lines:
                entry = _entry(now, step, _truncate(line))
                if self._size + len(data) + len(entry) > self._max_bytes:
                    self._full = True
                    data += _entry(now, step, _TRUNCATED)
                    break
                data += entry
            self._append(bytes(data))
            self._notify_followers()

    def close(self) -> None:
        """No more lines come: followers end."""
        with self._lock:
            if not self.closed:
                self.closed = True
                os.close(self._file)
                self._notify_followers()

    def add(self, follower: "_Follower") -> None:
        """Notify it whenever there is more."""
        with self._lock:
            self._followers.add(follower)

    def discard(self, follower: "_Follower") -> None:
        """Stop notifying it."""
        with self._lock:
            self._followers.discard(follower)

    def _append(self, data: bytes) -> None:
        if self._mid_line:
            data = b"\n" + data
        try:
            written = os.write(self._file, data)
        except OSError as error:
            self._report_lost_lines(error.strerror or str(error))
            return
        self._size += written
        self._mid_line = not data[:written].endswith(b"\n")
        if written < len(data):
            self._report_lost_lines("short write")
        else:
            self._failing = False

    def _report_lost_lines(self, reason: str) -> None:
        if not self._failing:
            self._failing = True
            logger.warning("cannot write deploy log %s, lines are lost: %s", self._path, reason)

    def _notify_followers(self) -> None:
        for follower in self._followers:
            follower.notify()


class _Follower:
    """Wakes a reader in its own loop, from any thread."""

    def __init__(self) -> None:
        self.more = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        # A build that says 100,000 lines at once must not queue as many calls in the loop.
        self._notified = False

    def rearm(self) -> None:
        """Be woken by what comes from now on."""
        self.more.clear()
        self._notified = False

    def notify(self) -> None:
        """Wake the reader: there is more."""
        if not self._notified:
            self._notified = True
            with suppress(RuntimeError):  # its loop has ended
                self._loop.call_soon_threadsafe(self.more.set)


class _Reader:
    """The whole lines of a file, from its beginning on."""

    # Whoever waits for a thread that reads may be cancelled, but the thread reads on: the file must
    # not be closed under it, for its number may be another file's by then.

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._number = 0
        self._buffer = b""
        self._lock = threading.Lock()

    def read_lines(self, limit: int) -> list[LogLine]:
        """The next lines, at most `limit` of them; none where there are none yet."""
        with self._lock:
            return self._read_lines(limit)

    def close(self) -> None:
        """Waits for a `read_lines` that runs."""
        with self._lock:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def _read_lines(self, limit: int) -> list[LogLine]:
        found: list[LogLine] = []
        while not found:
            pieces = self._buffer.split(b"\n", limit)
            if len(pieces) == 1:
                more = self._read()
                if not more:
                    return []
                self._buffer += more
                continue
            self._buffer = pieces.pop()
            for piece in pieces:
                self._number += 1
                line = _parse(self._number, piece)
                if line is not None:
                    found.append(line)
        return found

    def _read(self) -> bytes:
        if self._file is None:
            try:
                self._file = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                return b""
        return os.read(self._file, 64 * 1024)


def _strip_controls(text: str) -> str:
    """Without what would do something to a terminal; of a line that overwrites itself, the last."""
    text = _ESCAPE.sub("", text).replace("\r\n", "\n")
    if "\r" in text:
        text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))
    return _CONTROL.sub("", text)


def _truncate(line: str) -> str:
    if len(line) <= MAX_LINE:
        return line
    return f"{line[:MAX_LINE]}... ({len(line) - MAX_LINE} more characters)"


def _entry(moment: float, step: str, line: str) -> bytes:
    return orjson.dumps({"time": moment, "step": step, "line": line}) + b"\n"


def _parse(number: int, piece: bytes) -> LogLine | None:
    try:
        found = orjson.loads(piece)
        return LogLine(number, float(found["time"]), str(found["step"]), str(found["line"]))
    except (ValueError, KeyError, TypeError):
        return None  # half a line, of a process that was killed or a disk that was full

"""Owns the output of a container as lines for one reader, who may be slow: memory is bounded.

Secrets are redacted before lines are made: half a secret, at the end of a line that is cut, would
not be known again.
"""

import asyncio
import codecs
import contextlib
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Literal

from orchestrator.engine.engine import Engine
from orchestrator.engine.frames import STDERR, STDOUT
from orchestrator.security.redact import RedactedStream

# Characters of one line; what is longer is cut, and marked.
MAX_LINE_LENGTH: Final = 16 * 1024
TRUNCATED: Final = " [truncated]"
# Characters that wait for one reader.
MAX_BUFFERED_LENGTH: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One line, without its end."""

    line: str
    stream: Literal["stdout", "stderr"]


@dataclass(frozen=True, slots=True)
class DroppedLines:
    """So many lines were dropped here, because the reader was too slow."""

    count: int


async def follow(
    engine: Engine, container_id: str, tail: int = 100, max_lines: int = 1000
) -> AsyncGenerator[LogEvent | DroppedLines, None]:
    """The last `tail` lines, then what follows, until the container ends or the reader leaves.

    Of the lines that wait for a slow reader at most `max_lines` are kept, the newest. Raises
    EngineUnavailableError, or OrchestratorError if there is no such container.
    """
    waiting = _LineBuffer(max_lines)

    async def fetch() -> None:
        lines = {
            STDOUT: _LineSplitter("stdout", engine.redactor.stream()),
            STDERR: _LineSplitter("stderr", engine.redactor.stream()),
        }
        try:
            async with aclosing(engine.follow_logs(container_id, tail)) as pieces:
                async for stream, data in pieces:
                    for event in lines[stream].feed(data):
                        waiting.put(event)
            for unfinished in lines.values():
                for event in unfinished.flush():
                    waiting.put(event)
        finally:
            waiting.end()

    fetching = asyncio.create_task(fetch())
    try:
        while (event := await waiting.get()) is not None:
            yield event
        await fetching
    finally:
        fetching.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await fetching


class _LineBuffer:
    """The lines that wait for the reader. The oldest go first, and are counted."""

    def __init__(self, max_lines: int) -> None:
        self._max_lines = max_lines
        self._events: deque[LogEvent] = deque()
        self._size = 0
        self._dropped = 0
        self._ended = False
        self._available = asyncio.Event()

    def put(self, event: LogEvent) -> None:
        self._events.append(event)
        self._size += len(event.line)
        while len(self._events) > self._max_lines or self._size > MAX_BUFFERED_LENGTH:
            self._size -= len(self._events.popleft().line)
            self._dropped += 1
        self._available.set()

    def end(self) -> None:
        self._ended = True
        self._available.set()

    async def get(self) -> LogEvent | DroppedLines | None:
        """What is next; None after the end."""
        while not self._events:
            if self._ended:
                return None
            self._available.clear()
            await self._available.wait()
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            return DroppedLines(dropped)
        event = self._events.popleft()
        self._size -= len(event.line)
        return event


class _LineSplitter:
    """Makes lines of the pieces of one output."""

    def __init__(self, stream: Literal["stdout", "stderr"], redacted: RedactedStream) -> None:
        self._stream = stream
        self._redacted = redacted
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._unfinished = ""
        self._truncated = False  # the rest of a line that was too long is left out

    def feed(self, data: bytes) -> list[LogEvent]:
        return self._split(self._redacted.feed(self._decoder.decode(data)))

    def flush(self) -> list[LogEvent]:
        left = self._redacted.feed(self._decoder.decode(b"", final=True)) + self._redacted.flush()
        found = self._split(left)
        return [*found, self._event()] if self._unfinished else found

    def _split(self, text: str) -> list[LogEvent]:
        found = []
        *ended, rest = text.split("\n")
        for part in ended:
            self._take(part)
            found.append(self._event())
        self._take(rest)
        return found

    def _take(self, part: str) -> None:
        room = MAX_LINE_LENGTH - len(self._unfinished)
        self._truncated = self._truncated or len(part) > room
        self._unfinished += part[:room]

    def _event(self) -> LogEvent:
        text = self._unfinished.rstrip("\r")
        event = LogEvent(text + TRUNCATED if self._truncated else text, self._stream)
        self._unfinished, self._truncated = "", False
        return event

"""Owns the output of a container as lines for one reader, who may be slow: memory is bounded."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, Literal

from orchestrator.docker_engine import Engine
from orchestrator.output import STDERR, STDOUT

# Bytes of one line; what is longer is cut, and marked.
MOST_LINE: Final = 16 * 1024
CUT: Final = " [cut]"
# Bytes that wait for one reader.
MOST_WAITING: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One line, without its end."""

    line: str
    stream: Literal["stdout", "stderr"]


@dataclass(frozen=True, slots=True)
class Lost:
    """So many lines came too fast for the reader, and are left out here."""

    count: int


async def follow(
    engine: Engine, container_id: str, tail: int = 100, most_lines: int = 1000
) -> AsyncGenerator[LogEvent | Lost, None]:
    """The last `tail` lines, then what follows, until the container ends or the reader leaves.

    Of the lines that wait for a slow reader at most `most_lines` are kept, the newest. Raises
    EngineUnavailableError, or OrchestratorError if there is no such container.
    """
    waiting = _Waiting(most_lines)

    async def fetch() -> None:
        lines = {STDOUT: _Lines("stdout"), STDERR: _Lines("stderr")}
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


class _Waiting:
    """The lines that wait for the reader. The oldest go first, and are counted."""

    def __init__(self, most_lines: int) -> None:
        self._most_lines = most_lines
        self._events: deque[LogEvent] = deque()
        self._size = 0
        self._lost = 0
        self._ended = False
        self._news = asyncio.Event()

    def put(self, event: LogEvent) -> None:
        self._events.append(event)
        self._size += len(event.line)
        while len(self._events) > self._most_lines or self._size > MOST_WAITING:
            self._size -= len(self._events.popleft().line)
            self._lost += 1
        self._news.set()

    def end(self) -> None:
        self._ended = True
        self._news.set()

    async def get(self) -> LogEvent | Lost | None:
        """What is next; None after the end."""
        while not self._events:
            if self._ended:
                return None
            self._news.clear()
            await self._news.wait()
        if self._lost:
            lost, self._lost = self._lost, 0
            return Lost(lost)
        event = self._events.popleft()
        self._size -= len(event.line)
        return event


class _Lines:
    """Makes lines of the pieces of one output."""

    def __init__(self, stream: Literal["stdout", "stderr"]) -> None:
        self._stream = stream
        self._unfinished = b""
        self._cut = False  # the rest of a line that was too long is left out

    def feed(self, data: bytes) -> list[LogEvent]:
        found = []
        *ended, rest = data.split(b"\n")
        for part in ended:
            self._take(part)
            found.append(self._event())
        self._take(rest)
        return found

    def flush(self) -> list[LogEvent]:
        return [self._event()] if self._unfinished else []

    def _take(self, part: bytes) -> None:
        room = MOST_LINE - len(self._unfinished)
        self._cut = self._cut or len(part) > room
        self._unfinished += part[:room]

    def _event(self) -> LogEvent:
        text = self._unfinished.decode(errors="replace").rstrip("\r")
        event = LogEvent(text + CUT if self._cut else text, self._stream)
        self._unfinished, self._cut = b"", False
        return event

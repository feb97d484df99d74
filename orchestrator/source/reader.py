"""Owns how this process learns what is in a repository: from another one, within limits.

Whatever that one comes to, a loop without end, all the memory that it may have, or a crash, is the
error of the one deploy. Meanwhile the event loop does other work.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, Final

from orchestrator.errors import StepError
from orchestrator.source.detect import Detection

# Of CPU time, in seconds. The largest of 255 real applications takes 1 s to be detected.
DETECT_CPU: Final = 10
# A context of 100,000 files takes 5 s.
CONTEXT_CPU: Final = 60
# Seconds that a detection may take in all. A context has the time of the build.
DETECT_TIMEOUT: Final = 60.0
# Bytes of address space; Python itself takes 30 MiB of it.
MEMORY: Final = 512 * 2**20
# Bytes that are read at once.
CHUNK_BYTES: Final = 256 * 1024
# Bytes of all that the other process says, and characters of what it was not asked for.
MAX_SAID: Final = 8 * 2**20
MAX_SHOWN: Final = 1000

_MODULE: Final = "orchestrator.source.reader_process"


async def detect(folder: Path) -> Detection:
    """What is in the folder and how it is run. Raises StepError."""
    reading = _Reading(cpu_seconds=DETECT_CPU)
    try:
        async with asyncio.timeout(DETECT_TIMEOUT):
            async for _ in reading.pieces(work="detect", folder=str(folder)):
                pass
    except TimeoutError:
        raise StepError(
            "too_large", f"detection timed out after {DETECT_TIMEOUT:g} s{reading.where}"
        ) from None
    found = reading.result
    return Detection(found["runtime"], tuple(found["evidence"]), found["port"], found["options"])


async def context(
    folder: Path, *, dockerfile: str | None, max_bytes: int, on_warning: Callable[[str], None]
) -> AsyncGenerator[bytes, None]:
    """The tar of a build's context, as `build_context.tar_stream` makes it. Raises StepError."""
    reading = _Reading(cpu_seconds=CONTEXT_CPU, on_warning=on_warning)
    pieces = reading.pieces(
        work="context", folder=str(folder), dockerfile=dockerfile, max_bytes=max_bytes
    )
    try:
        async for piece in pieces:
            yield piece
    finally:
        await pieces.aclose()


class _Reading:
    """One process and what it has said. `result` is there once all pieces are."""

    def __init__(
        self, *, cpu_seconds: int, on_warning: Callable[[str], None] = lambda text: None
    ) -> None:
        self.result: Any = None
        self._cpu_seconds = cpu_seconds
        self._on_warning = on_warning
        self._path = ""
        self._is_done = False
        self._error: StepError | None = None
        self._other = ""  # what is no message of ours, such as a crash's last words

    @property
    def where(self) -> str:
        """What it looks at."""
        return f" in {self._path}" if self._path else ""

    async def pieces(self, **order: object) -> AsyncGenerator[bytes, None]:
        """What it writes. Raises StepError; however it ends, the process is gone."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", _MODULE),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            # What it reads is a stranger's: it has no secret of ours to lose.
            env={
                name: text
                for name, text in os.environ.items()
                if not name.startswith(("FAIRLEAD_", "DOCKER_"))
            },
            cwd="/",
            start_new_session=True,
        )
        assert process.stdin is not None  # noqa: S101  narrows a type
        assert process.stdout is not None  # noqa: S101  narrows a type
        listening = asyncio.create_task(self._listen(process))
        try:
            limits = {"cpu_seconds": self._cpu_seconds, "memory": MEMORY}
            process.stdin.write(json.dumps({**order, **limits}).encode())
            process.stdin.close()
            while piece := await process.stdout.read(CHUNK_BYTES):
                yield piece
            await listening
            self._check(await process.wait())
        finally:
            if process.returncode is None:
                process.kill()
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            await process.wait()

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None  # noqa: S101  narrows a type
        left = MAX_SAID
        rest = b""
        while data := await process.stderr.read(CHUNK_BYTES):
            left -= len(data)
            if left < 0:
                self._error = StepError(
                    "too_large",
                    f"reading the repository{self.where}: the"
                    f" answer is larger than {MAX_SAID // 2**20} MiB",
                )
                process.kill()
                return
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._hear(line)
        self._hear(rest)

    def _hear(self, line: bytes) -> None:
        try:
            message = json.loads(line)
            kind = next(iter(message))
        except (ValueError, TypeError, StopIteration, RecursionError):
            self._other = f"{self._other}{line.decode(errors='replace')}\n"[-MAX_SHOWN:]
            return
        match kind:
            case "reading":
                self._path = message["reading"]
            case "warning":
                self._on_warning(message["warning"])
            case "error":
                self._error = StepError(message["kind"], message["error"])
            case "done":
                self.result, self._is_done = message["done"], True

    def _check(self, code: int) -> None:
        if self._error is not None:
            raise self._error
        if code in (-signal.SIGXCPU, -signal.SIGKILL):
            raise StepError(
                "too_large",
                f"reading the repository took more than {self._cpu_seconds} s of CPU time, or all"
                f" memory{self.where}: make that file smaller, or exclude it",
            )
        if not self._is_done:
            raise StepError(
                "bad_file", f"reading the repository failed{self.where}: {self._other.strip()}"
            )

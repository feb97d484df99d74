"""Owns what the engine says while it builds: its lines, what failed, and why. Pure.

Its messages are those of `POST /build`: JSON objects with "stream", "status", "aux" or "error".
"""

import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from orchestrator.errors import MAKE_ROOM, StepError
from orchestrator.security.redact import RedactedStream

# Lines of output that an error shows.
LAST_LINES: Final = 50
# Characters of one line. A program that prints without line breaks must not fill the memory.
MAX_LINE_LENGTH: Final = 16 * 1024
# Stages that are remembered. What a program prints may look like what the engine says of one.
MAX_STAGES: Final = 200

_STEP: Final = re.compile(r"Step \d+/\d+ : (.*)")
_CACHED: Final = " ---> Using cache"
_LAYER: Final = re.compile(r" ---> ([0-9a-f]{12,64})")
_EXIT_CODE: Final = re.compile(r"returned a non-zero code: (\d+)")
# What the engine says where it cannot fetch an image.
_PULL_FAILED: Final = re.compile(
    r"pull access denied|manifest (?:unknown|for .* not found)|repository does not exist"
    r"|no such host|failed to resolve|server misbehaving|connection refused|i/o timeout"
    r"|TLS handshake timeout|x509:|unauthorized|denied:|toomanyrequests|no matching manifest"
    r"|network is unreachable|no route to host|Client\.Timeout|context deadline exceeded"
    r"|not found: does not exist|name unknown",
    re.IGNORECASE,
)


# What programs and the engine say where they cannot write.
_DISK_FULL: Final = re.compile(r"no space left on device|disk quota exceeded", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """An image that was built. `stages` are the last layers of the stages that it is no part of."""

    id: str
    stages: tuple[str, ...] = ()


class BuildOutput:
    """Takes messages, gives lines; knows the image's id at the end, or what went wrong.

    Secrets are redacted before lines are made: a line that is too long is cut, and so would be a
    secret in it, which nobody could know again.
    """

    def __init__(self, redacted: RedactedStream) -> None:
        self._redacted = redacted
        self.image_id = ""
        self.instruction = ""  # the one that is executed
        self.layers: list[str] = []  # images without a name that it made, the last of each stage
        self.stages: list[str] = []  # the last image of each stage, made now or before
        self.last: deque[str] = deque(maxlen=LAST_LINES)
        self._is_cached = False
        self._unfinished = ""

    def feed(self, message: Mapping[str, Any]) -> Iterator[str]:
        """The lines that a message completes. Raises StepError if it says that the build failed."""
        if "error" in message:
            yield from self.flush()
            raise self.failure(str(message["error"]))
        if "stream" in message:
            yield from self._lines(self._redacted.feed(str(message["stream"])))
        elif "status" in message and "progressDetail" not in message:
            # Those with details are the progress of a download: many a second.
            yield self._keep(str(message["status"]))
        elif "aux" in message:
            self.image_id = message["aux"].get("ID", self.image_id)

    def flush(self) -> Iterator[str]:
        """The line that has no end yet."""
        yield from self._lines(self._redacted.flush())
        if self._unfinished:
            yield self._end_line()

    def failure(self, reason: str) -> StepError:
        """The error of a build that ended for `reason`."""
        if any(_DISK_FULL.search(text) for text in (reason, *self.last)):
            return StepError(
                "disk_full",
                f"the disk of the Docker Engine was full at `{self.instruction}`: {reason}\n"
                f"{MAKE_ROOM}\n" + "\n".join(self.last_lines()),
                {"instruction": self.instruction, "reason": reason},
            )
        pulls = self.instruction.upper().startswith("FROM ") or "--from=" in self.instruction
        if pulls and _PULL_FAILED.search(reason):
            return StepError(
                "base_image_missing",
                f"cannot pull the base image of `{self.instruction}`: {reason}\n"
                "Check the name and tag of the image and the network access to its registry. A"
                " private image needs a `docker login` of the user that runs the Docker Engine",
                {"instruction": self.instruction, "reason": reason},
            )
        code = _EXIT_CODE.search(reason)
        lines = [
            f"the build failed at `{self.instruction}`: {reason}"
            if self.instruction
            else f"the build failed: {reason}"
        ]
        if code is not None and code[1] == "137":
            lines.append(
                "Exit code 137 means that it was killed: it probably exceeded the memory limit,"
                " FAIRLEAD_BUILD_MEMORY"
            )
        return StepError(
            "build_failed",
            "\n".join([*lines, *self.last_lines()]),
            {
                "instruction": self.instruction,
                "reason": reason,
                "exit_code": int(code[1]) if code else None,
            },
        )

    def last_lines(self) -> list[str]:
        """The last lines, under a heading."""
        return ["last lines:", *(f"  {line}" for line in self.last)] if self.last else []

    def _lines(self, text: str) -> Iterator[str]:
        *lines, rest = (self._unfinished + text).split("\n")
        self._unfinished = rest
        for line in lines:
            yield self._keep(line)
        if len(self._unfinished) > MAX_LINE_LENGTH:
            yield self._end_line()

    def _end_line(self) -> str:
        line, self._unfinished = self._unfinished, ""
        return self._keep(line)

    def _note_layer(self, image: str) -> None:
        if self.instruction.upper().startswith("FROM "):
            # A stage begins; the base image is not ours.
            if len(self.stages) < MAX_STAGES:
                self.layers.append("")
                self.stages.append("")
        elif self.layers:
            self.stages[-1] = image
            if not self._is_cached:
                self.layers[-1] = image

    def _keep(self, line: str) -> str:
        # A progress bar paints itself over: what is seen at the end is what follows the last \r.
        line = line.rstrip("\r").rpartition("\r")[2][:MAX_LINE_LENGTH]
        step = _STEP.fullmatch(line)
        layer = _LAYER.fullmatch(line)
        if step is not None:
            self.instruction, self._is_cached = step[1], False
        elif line == _CACHED:
            self._is_cached = True
        elif layer is not None:
            self._note_layer(layer[1])
        self.last.append(line)
        return line

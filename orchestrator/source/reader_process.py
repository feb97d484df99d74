"""Owns the process that reads a repository: the one place where what a stranger wrote is looked at.

It is started for one look and has limits of CPU time and memory, so that what goes wrong there ends
it and nothing else. The order, a JSON object, comes on stdin; a build context goes to stdout; what
there is to say goes to stderr, a JSON object a line:

    {"reading": PATH}  before a file is looked at
    {"warning": TEXT}
    {"error": TEXT, "kind": KIND}  it ends with this one, or the next one
    {"done": RESULT}
"""

import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from orchestrator.errors import StepError
from orchestrator.source.build_context import tar_stream
from orchestrator.source.detect import detect
from orchestrator.source.tree import read_tree, shown

# Warnings that are told one by one; a repository of pipes is told of in one more.
MAX_WARNINGS: Final = 100


class _Speaker:
    """What is said, and what is looked at while it is not over."""

    def __init__(self) -> None:
        self.path = ""
        self._warnings = 0

    def read(self, path: str) -> None:
        if path != self.path:
            self.path = path
            self.say(reading=shown(path))

    def warn(self, text: str) -> None:
        self._warnings += 1
        if self._warnings <= MAX_WARNINGS:
            self.say(warning=text)

    def finish(self, result: object) -> None:
        if self._warnings > MAX_WARNINGS:
            self.say(warning=f"and {self._warnings - MAX_WARNINGS} more of these")
        self.say(done=result)

    def say(self, **message: object) -> None:
        # No lone surrogate leaves here: neither the database nor a log could take it.
        data = json.dumps(message, ensure_ascii=False).encode(errors="replace")
        _write(sys.stderr.fileno(), data + b"\n")


def _detect(order: Mapping[str, Any], speaker: _Speaker) -> object:
    return asdict(detect(read_tree(Path(order["folder"]), speaker.read)))


def _send_context(order: Mapping[str, Any], speaker: _Speaker) -> object:
    pieces = tar_stream(
        Path(order["folder"]),
        dockerfile=order["dockerfile"],
        max_bytes=order["max_bytes"],
        on_warning=speaker.warn,
        on_read=speaker.read,
    )
    for piece in pieces:
        _write(sys.stdout.fileno(), piece)
    return None


_WORK: Final[dict[str, Callable[[Mapping[str, Any], _Speaker], object]]] = {
    "detect": _detect,
    "context": _send_context,
}


def main() -> None:
    """Do as stdin says. Whatever fails is told, with the file that was looked at."""
    order = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # At the first SIGXCPU it ends, whatever it does then.
    signal.signal(signal.SIGXCPU, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CPU, (order["cpu_seconds"], order["cpu_seconds"] + 1))
    resource.setrlimit(resource.RLIMIT_AS, (order["memory"], order["memory"]))
    speaker = _Speaker()
    try:
        speaker.finish(_WORK[order["work"]](order, speaker))
    except StepError as error:
        speaker.say(error=str(error), kind=error.kind)
    except BrokenPipeError:
        pass  # nobody wants the context any more
    except MemoryError:
        reason = f"it takes more than {order['memory'] // 2**20} MiB, or is nested too deeply"
        speaker.say(error=_failure(speaker, reason), kind="too_large")
    except RecursionError:
        speaker.say(error=_failure(speaker, "it is nested too deeply"), kind="bad_file")
    except OSError as error:
        path = shown(os.fsdecode(error.filename or speaker.path))
        speaker.say(error=f"cannot read {path}: {error.strerror}", kind="bad_file")
    except Exception as error:
        # A file of a form that nobody has thought of is the repository's fault, not the daemon's.
        speaker.say(error=_failure(speaker, f"{type(error).__name__}: {error}"), kind="bad_file")


def _failure(speaker: _Speaker, reason: str) -> str:
    return f"cannot read {shown(speaker.path) or 'the repository'}: {reason}"


def _write(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


if __name__ == "__main__":
    main()

"""Owns a split that is killed: `python -m tests.orchestrator.store.killed_split DB STATE FOLDER`.

The database DB, as it was before, is split in a process that kills itself at the n-th line of
`split`, for every n that it comes to; then once more, undisturbed. What each n has left is in
FOLDER/n. The number of lines is printed.
"""

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from orchestrator.store import split


def killed_at(line: int) -> Callable[[FrameType, str, Any], Any]:
    """A tracer that ends the process at the line of the module that is the so manieth to be run."""
    seen: set[int] = set()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if frame.f_code.co_filename != split.__file__:
            return None
        if event == "line":
            seen.add(frame.f_lineno)
            if len(seen) == line:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    return trace


def in_a_child(line: int | None, state: Path, db: Path) -> bool:
    """Split, up to that line; whether it came to an end."""
    pid = os.fork()
    if pid == 0:
        if line is not None:
            sys.settrace(killed_at(line))
        try:
            split.prepare(state, db)
        except BaseException as error:
            print(error, file=sys.stderr)
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return False
    assert status == 0, f"the split failed at line {line}"
    return True


def main() -> None:
    """Kill it at every line."""
    db, state, folder = map(Path, sys.argv[1:])
    line = 0
    is_whole = False
    while not is_whole:
        line += 1
        into = folder / str(line)
        into.mkdir()
        shutil.copy(db, into / db.name)  # with its mode
        is_whole = in_a_child(line, into / state.name, into / db.name)
        in_a_child(None, into / state.name, into / db.name)
    print(line)


if __name__ == "__main__":
    main()

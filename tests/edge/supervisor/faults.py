"""Owns code that hangs, in the real program: what an edge of it is started with can be switched to
stop, or to loop, in its supervisor or in its workers, before the first line of theirs is run.
"""

import os
import signal
import time
from pathlib import Path

from tests.harness import Conversation
from tests.process import LOOK_SECONDS, PATIENCE, Process, is_alive, processes_of

SITE = """
import os, signal, sys

here = os.path.dirname(__file__)

def loop(*_):
    while True:
        pass

def read(name):
    try:
        with open(f"{here}/{name}") as file:
            return file.read()
    except FileNotFoundError:
        return ""

def fail(role):
    if role == "worker":
        signal.signal(signal.SIGRTMIN, loop)
    who, _, how = read("fault").partition(" ")
    if who == role:
        with open(f"{here}/hanging", "a") as file:
            print(os.getpid(), file=file)
        if how == "stops":
            os.kill(os.getpid(), signal.SIGSTOP)
        else:
            loop()

def fork():
    pid = original_fork()
    if pid == 0:
        from edge.worker import process
        main = process.main
        process.main = lambda channel: fail("worker") or main(channel)
    return pid

role = "worker" if "edge.worker" in sys.orig_argv else "supervisor"
exec(read("patches"))
original_fork, os.fork = os.fork, fork
fail(role)
"""
"""Python runs it first of all (module `site`). SIGRTMIN has a worker loop from then on."""

LOOPS = signal.SIGRTMIN


class Faults:
    """What becomes of processes that start from now on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(SITE)
        self.environ = {"PYTHONPATH": str(folder)}

    def begin(self, role: str, how: str) -> None:
        """Each "supervisor" or "worker" that starts "stops" or "loops"."""
        (self._folder / "fault").write_text(f"{role} {how}")

    def end(self) -> None:
        """What starts from now on is well."""
        (self._folder / "fault").unlink()

    def patch(self, code: str) -> None:
        """Every process that starts runs this first."""
        (self._folder / "patches").write_text(code)

    def let(self) -> None:
        """Whatever waits for the file of this name goes on."""
        (self._folder / "let").write_text("go on")

    def hanging(self) -> set[int]:
        """The processes that have begun to hang."""
        path = self._folder / "hanging"
        return set(map(int, path.read_text().split())) if path.exists() else set()

    def until_hanging(self, count: int) -> set[int]:
        """As `hanging`, once there are so many."""
        deadline = time.monotonic() + PATIENCE
        while len(self.hanging()) < count:
            assert time.monotonic() < deadline, "nobody hangs"
            time.sleep(LOOK_SECONDS)
        return self.hanging()


def stop(pid: int) -> None:
    """Stop a process, and return when it is."""
    os.kill(pid, signal.SIGSTOP)
    deadline = time.monotonic() + PATIENCE
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < deadline, f"process {pid} does not stop"
        time.sleep(LOOK_SECONDS)


def until_none_is_left(db: Path, *but: int) -> None:
    """Returns when no process of any edge of this database is left, but those."""
    deadline = time.monotonic() + PATIENCE
    while left := {pid for pid in processes_of(db) if is_alive(pid)} - set(but):
        assert time.monotonic() < deadline, f"processes outlive their edge: {left}"
        time.sleep(LOOK_SECONDS)


def restarted(conversation: Conversation, process: Process) -> Process:
    """A new edge in the place of one that was killed: same database, same port."""
    return Process(conversation, process.db, http_addr=f"127.0.0.1:{process.port}")

"""Proves how a process of the supervisor begins and ends."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.supervisor.child import Child
from edge.supervisor.register import Register
from tests.process import LOOK_SECONDS, PATIENCE, is_alive

LOOP = "while True: pass"


@pytest.fixture
def register(tmp_path: Path) -> Iterator[Register]:
    register = Register.open(tmp_path / "edge.sock.lock")
    yield register
    os.close(register.descriptor)


@pytest.fixture
def start(register: Register) -> Callable[..., Child]:
    """Starts a Python that runs some code."""

    def start(code: str, **options: Any) -> Child:
        return Child.start((sys.executable, "-S", "-c", code), register, **options)

    return start


def within_patience(work: Awaitable[int]) -> int:
    async def run() -> int:
        return await asyncio.wait_for(work, PATIENCE)

    return asyncio.run(run())


def test_how_it_ended_is_known_also_when_it_is_signalled_in_that_moment(
    start: Callable[..., Child],
) -> None:
    async def run() -> int:
        child = start("raise SystemExit(7)")
        # It has ended, and the loop has had no turn to notice.
        has_ended(child.pid)
        child.signal(signal.SIGKILL)
        return await child.wait()

    assert within_patience(run()) == 7


def test_whoever_waits_is_told(start: Callable[..., Child]) -> None:
    async def run() -> int:
        child = start(LOOP)
        waiting = [asyncio.create_task(child.wait()) for _ in range(2)]
        child.signal(signal.SIGTERM)
        (code,) = set(await asyncio.gather(*waiting))
        child.signal(signal.SIGTERM)  # nobody's number any more
        child.kill_group()
        return code

    assert within_patience(run()) == -signal.SIGTERM


def test_one_that_shows_no_life_is_ended_by_the_kernel(start: Callable[..., Child]) -> None:
    async def run() -> int:
        return await start(LOOP, limit=0.05).wait()

    assert within_patience(run()) == -signal.SIGALRM


def test_its_group_ends_with_it_also_when_it_has_ended_before(
    start: Callable[..., Child],
) -> None:
    async def run() -> int:
        child = start("import os\nif os.fork() == 0:\n    while True: pass", own_group=True)
        has_ended(child.pid)
        (left,) = group_of(child.pid) - {child.pid}
        child.kill_group()
        code = await child.wait()
        await asyncio.to_thread(is_gone, left)
        return code

    assert within_patience(run()) == 0


def has_ended(pid: int) -> None:
    """Waits for that, and leaves it to be noticed by others."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def is_gone(pid: int) -> None:
    """Waits for that, of a process that is not ours."""
    while is_alive(pid):
        time.sleep(LOOK_SECONDS)


def group_of(leader: int) -> set[int]:
    """The processes in a group."""
    pids = {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    found = set()
    for pid in pids:
        try:
            if os.getpgid(pid) == leader:
                found.add(pid)
        except ProcessLookupError:
            continue
    return found


def test_it_is_on_the_register_while_it_runs(
    start: Callable[..., Child], register: Register
) -> None:
    async def run() -> int:
        child = start(LOOP)
        assert list(register.others()) == [child.pid]
        child.signal(signal.SIGKILL)
        await child.wait()
        assert not any(register.others())
        return 0

    assert within_patience(run()) == 0


def test_what_is_for_the_supervisor_does_not_end_it(start: Callable[..., Child]) -> None:
    numbers = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)

    async def run() -> int:
        child = start(LOOP, ignores=(signal.SIGINT,))
        for number in numbers:
            child.signal(number)
        child.signal(signal.SIGTERM)
        return await child.wait()

    # In the first instant of the process, before Python itself has started.
    assert within_patience(run()) == -signal.SIGTERM


def test_one_that_cannot_be_watched_is_not_left(
    start: Callable[..., Child], register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_pid: int) -> int:
        raise OSError(24, "too many open files")

    monkeypatch.setattr("os.pidfd_open", full)
    with pytest.raises(OSError, match="too many open files"):
        start(LOOP)
    assert not any(register.others())

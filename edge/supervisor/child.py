"""Owns one process that the supervisor starts: how it begins, is signalled and is waited for.

Whatever it runs, it is tied to this process before its first line is run: it is on the register,
it is resumed if it is stopped when this one ends, and it has a limit to show life within.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Final

from edge.control import lifeline
from edge.supervisor.forked import Forked
from edge.supervisor.register import Register

_FOR_SUPERVISORS: Final = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Child:
    """A process. Only `wait` takes note of its end, so until then its number is nobody else's."""

    def __init__(self, process: "subprocess.Popen[bytes] | Forked") -> None:
        """Raises OSError, and ends it then."""
        self.pid = process.pid
        self._process = process
        self._ended = asyncio.Event()
        try:
            self._descriptor = os.pidfd_open(process.pid)
        except OSError:
            process.kill()
            process.wait()
            raise
        asyncio.get_running_loop().add_reader(self._descriptor, self._on_end)

    def __repr__(self) -> str:
        return f"<Child {self.pid}>"

    @classmethod
    def start(
        cls,
        command: Sequence[str],
        register: Register,
        *,
        pass_fds: Sequence[int] = (),
        stdin: int = subprocess.DEVNULL,
        environ: Mapping[str, str] | None = None,
        own_group: bool = False,
        ignores: Sequence[signal.Signals] = (),
        limit: float = 0,
    ) -> "Child":
        """Start `command`. Raises OSError.

        It ignores what only a supervisor has a use for, and `ignores`, until it says otherwise.
        After `limit` seconds the kernel ends it, unless it calls `lifeline.limit`; 0: never.
        """
        tie = Tie(register, ignores, limit)
        # What comes between fork and exec would be taken by handlers that are still the parent's,
        # and wake that.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            popen = subprocess.Popen(  # noqa: S603  Python and its arguments
                command,
                stdin=stdin,
                env=environ,
                pass_fds=(*pass_fds, register.descriptor),
                process_group=0 if own_group else None,
                preexec_fn=tie,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return cls(popen)

    def signal(self, number: signal.Signals) -> None:
        """Send it `number`, if it still runs."""
        if self._process.returncode is None:
            os.kill(self.pid, number)

    def kill_group(self) -> None:
        """End it, and all that it has started and that is in its group, at once."""
        if self._process.returncode is None:
            os.killpg(self.pid, signal.SIGKILL)

    async def wait(self) -> int:
        """Its exit code, once it has ended; less than 0 is the signal that ended it."""
        await self._ended.wait()
        if self._process.returncode is None:
            self._process.wait()
            os.close(self._descriptor)
            if self._process.stdin is not None:
                with contextlib.suppress(OSError):
                    self._process.stdin.close()
        code = self._process.returncode
        assert code is not None  # noqa: S101  narrows a type
        return code

    def _on_end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        self._ended.set()


class Tie:
    """What is done in the new process before it runs anything of its own; an exec keeps it."""

    def __init__(self, register: Register, ignores: Sequence[signal.Signals], limit: float) -> None:
        self._register = register
        self._ignores = (*_FOR_SUPERVISORS, *ignores)
        self._limit = limit

    def __call__(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
            signal.signal(number, signal.SIG_DFL)
        for number in self._ignores:
            signal.signal(number, signal.SIG_IGN)
        lifeline.resume_with_parent()
        lifeline.limit(self._limit)
        self._register.enter()
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

"""A program under measurement: started on its cores, read while it runs, stopped in any case."""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from socket import create_server
from types import TracebackType

from bench.errors import BenchError
from bench.measure import parse_parent, parse_resident

START_SECONDS = 20.0
STOP_SECONDS = 10.0
# A new process answers within milliseconds; looking more often would take the core from the origin.
LOOK_SECONDS = 0.0005

# Should this program be killed, the kernel ends what it has started.
_ENDS_WITH_US = ("setpriv", "--pdeathsig", "TERM")

_libc = ctypes.CDLL(None, use_errno=True)


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on."""
    with create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads of a process, also of those that have ended.

    This is the time of /proc/PID/stat, read through the process's CPU clock
    (clock_getcpuclockid(3)), because stat counts in steps of 10 ms.
    """
    clock = ctypes.c_int()
    if _libc.clock_getcpuclockid(pid, ctypes.byref(clock)) != 0:
        raise BenchError(f"process {pid} has ended while it was measured")
    return time.clock_gettime(clock.value)


def family(pid: int) -> list[int]:
    """A process and all its descendants, as far as they live."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parent = parse_parent((entry / "stat").read_text(errors="replace"))
            except (FileNotFoundError, ProcessLookupError):
                continue  # ended since the folder was listed
            children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for member in found:
        found.extend(children.get(member, ()))
    return found


class Process:
    """A running program, pinned to its cores; also a context manager that stops it."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        cores: Sequence[int],
        folder: Path,
        port: int,
        environ: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self.port = port
        self.folder = folder
        self.log = folder / "output.log"
        self.started = time.monotonic()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603  a list of ours
                [*_ENDS_WITH_US, "taskset", "--cpu-list", ",".join(map(str, cores)), *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(environ) if environ is not None else None,
                cwd=cwd if cwd is not None else folder,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until_served(self, host: str, path: str) -> float:
        """Ask until the answer is 200; seconds since the program was started.

        Raises BenchError, with the end of the program's output, if it ends or stays silent.
        """
        while time.monotonic() - self.started < START_SECONDS:
            if self._process.poll() is not None:
                raise BenchError(f"{self.name} ended at start: {self._said()}")
            if self._answers(host, path):
                return time.monotonic() - self.started
            time.sleep(LOOK_SECONDS)
        raise BenchError(f"{self.name} served nothing in {START_SECONDS:.0f} s: {self._said()}")

    def _answers(self, host: str, path: str) -> bool:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", path, headers={"Host": host})
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()

    def _said(self) -> str:
        return self.log.read_text(errors="replace")[-2000:].strip() or "it printed nothing"

    def cpu_seconds(self) -> float:
        return sum(cpu_seconds(pid) for pid in family(self.pid))

    def busiest(self) -> int:
        """Of the program's processes the one that has had most of the CPU."""
        return max(family(self.pid), key=cpu_seconds)

    def resident_bytes(self) -> int:
        pages = 0
        for pid in family(self.pid):
            try:
                pages += parse_resident(Path(f"/proc/{pid}/status").read_text())
            except (FileNotFoundError, ProcessLookupError):
                continue  # a helper process that ended in between holds nothing
        return pages

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def stop(self) -> None:
        """End the program and everything that it has started."""
        members = family(self.pid)
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            for pid in members:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            self._process.wait()

    def __enter__(self) -> "Process":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

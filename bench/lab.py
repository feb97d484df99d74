"""The place of one run: a temporary folder, two cores, and the origin behind all proxies."""

import os
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.errors import BenchError
from bench.origin import start_origin
from bench.process import Process


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured: rounds of a load, its seconds, and how often a single event."""

    rounds: int
    seconds: int
    starts: int
    swaps: int
    changes: int


FULL = Effort(rounds=7, seconds=2, starts=10, swaps=20, changes=100)
QUICK = Effort(rounds=3, seconds=1, starts=3, swaps=5, changes=20)

# 10,000 clients in this program, and in a proxy as many again with their upstream connections.
OPEN_FILES = 40_000


@dataclass(frozen=True, slots=True)
class Lab:
    """What all measurements of a run share.

    The proxies have a core of their own; the load generator, the origin and this program share
    the other one, so that nothing but the proxy costs the proxy's core. A proxy with two workers
    has both cores, and shares one of them.
    """

    folder: Path
    proxy_core: int
    load_core: int
    origin: Process
    other_origin: int  # a second port of the same origin, as the target that a route changes to
    effort: Effort

    def cores_for(self, workers: int) -> list[int]:
        """The cores of a proxy: its own, and for more workers than one that of the load too."""
        return [self.proxy_core] if workers == 1 else [self.proxy_core, self.load_core]

    def new_folder(self, name: str) -> Path:
        """An empty folder that other users may enter: nginx gives its workers another user."""
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))
        folder.chmod(0o755)
        return folder


def raise_file_limit() -> None:
    """Let this program and what it starts open as many files as it may, OPEN_FILES if it can."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, max(hard, OPEN_FILES)))
    except (OSError, ValueError):  # not root: the hard limit is the end
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def open_lab(effort: Effort) -> Iterator[Lab]:
    """Pin this program, start the origin, and stop and remove all of it at the end.

    Raises BenchError on a machine with a single core.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise BenchError("the bench needs two cores: one for the proxy, one for load and origin")
    proxy_core, load_core = cores[:2]
    raise_file_limit()
    os.sched_setaffinity(0, {load_core})
    try:
        with tempfile.TemporaryDirectory(prefix="fairlead-bench-") as name:
            folder = Path(name)
            folder.chmod(0o755)
            origin, other_port = start_origin(folder, load_core)
            with origin:
                yield Lab(folder, proxy_core, load_core, origin, other_port, effort)
    finally:
        os.sched_setaffinity(0, cores)

"""Owns many deploys in a row on a small disk, and what is looked at while they go on."""

import shutil
import sqlite3
import statistics
import threading
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tests.orchestrator.daemon import Daemon
from tests.orchestrator.repository import Repository

NOTE = 64 * 1024
"""Characters in each webhook beside what it is about."""

LOOK_SECONDS = 0.1
MEMORY_SLACK = 8 * 2**20
DESCRIPTOR_SLACK = 8

_STAGES = """FROM busybox AS made
RUN head -c {half} /dev/zero > /payload && echo {number}
FROM busybox
COPY --from=made /payload /payload
RUN head -c {half} /dev/zero > /more && seq 2000 && mkdir /www && echo {number} && {last}
EXPOSE 8080
CMD ["httpd", "-f", "-p", "8080", "-h", "/www"]
"""


@dataclass(frozen=True)
class Sample:
    """The state after a deploy; sizes in bytes, `free` is the least since the one before."""

    deploy: int
    free: int
    resident: int
    descriptors: int
    database: int
    logs: int

    def __str__(self) -> str:
        return (
            f"{self.deploy:>5}  free {self.free / 2**20:7.1f} MiB  rss {self.resident / 2**20:6.1f}"
            f" MiB  fds {self.descriptors:>3}  db {self.database / 2**20:5.2f} MiB"
            f"  logs {self.logs / 2**20:5.2f} MiB"
        )


class FreeSpace:
    """The least free space of a disk since it was last asked for, looked at all the time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._least = shutil.disk_usage(path).free
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()

    def least(self) -> int:
        """And from now on it counts anew."""
        found, self._least = self._least, shutil.disk_usage(self._path).free
        return min(found, self._least)

    def ends(self) -> None:
        """The thread does."""
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            self._least = min(self._least, shutil.disk_usage(self._path).free)


def deploys_again_and_again(
    daemon: Daemon,
    repository: Repository,
    disk: Path,
    count: int,
    payload: int,
) -> list[Sample]:
    """Deploy so many times, one in ten of which fails late in its build; what was seen.

    Each image has so many bytes that no other has, and its build leaves a stage of half of them.
    """
    daemon.note = "x" * NOTE
    free = FreeSpace(disk)
    samples = []
    try:
        for number in range(1, count + 1):
            fails = number % 10 == 3
            repository.commits(
                {
                    "Dockerfile": _STAGES.format(
                        half=payload // 2,
                        number=number,
                        last="exit 3" if fails else "echo ok > /www/index.html",
                    )
                }
            )
            answer = daemon.is_pushed(repository, "app", domain="app.test", wait=0)
            record = daemon.ended(answer.json()["deploy_id"])
            assert record["state"] == ("failed" if fails else "live"), record
            samples.append(_sample(daemon, number, free.least()))
            if number % max(1, count // 20) == 0 or count < 20:
                print(samples[-1], flush=True)
    finally:
        free.ends()
    return samples


def levels_off(samples: list[Sample]) -> None:
    """Neither memory nor descriptors nor files of the daemon grow with the number of deploys: the
    last quarter of them is as the second one was."""
    quarter = len(samples) // 4
    second, last = samples[quarter : 2 * quarter], samples[-quarter:]

    def grown(of: Callable[[Sample], int]) -> tuple[float, float]:
        return _middle(map(of, second)), _middle(map(of, last))

    for name, of, slack in (
        ("resident memory", lambda each: each.resident, MEMORY_SLACK),
        ("descriptors", lambda each: each.descriptors, DESCRIPTOR_SLACK),
        ("database", lambda each: each.database, 2 * 2**20),
        ("logs", lambda each: each.logs, 2**20),
    ):
        before, after = grown(of)
        assert after <= before * 1.05 + slack, f"{name} grew from {before} to {after}"


def _middle(values: Iterable[int]) -> float:
    return statistics.median(values)


def _sample(daemon: Daemon, number: int, free: int) -> Sample:
    assert daemon.popen is not None
    process = Path(f"/proc/{daemon.popen.pid}")
    fields = dict(
        line.split(":", 1) for line in (process / "status").read_text().splitlines() if ":" in line
    )
    files = (daemon.state, daemon.state.with_name(f"{daemon.state.name}-wal"))
    return Sample(
        deploy=number,
        free=free,
        resident=int(fields["VmRSS"].split()[0]) * 1024,
        descriptors=sum(1 for _ in (process / "fd").iterdir()),
        database=sum(each.stat().st_size for each in files if each.exists()),
        logs=sum(each.stat().st_size for each in daemon.db.with_suffix(".deploys").glob("*.log")),
    )


def rows(daemon: Daemon, table: str) -> int:
    """In its database."""
    with closing(sqlite3.connect(daemon.state)) as connection:
        ((found,),) = connection.execute(f"SELECT count(*) FROM {table}")
    return int(found)

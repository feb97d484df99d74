"""Owns the memory of what waits for peers that read slowly: how much there may be in all, and who
is cut where it is more.
"""

import logging
import math
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Protocol

logger = logging.getLogger(__name__)

# The part of the machine's memory that may wait for slow peers, where nobody says how much: the
# rest is for what is alive, for the applications beside the edge, and for the kernel's own buffers.
SHARE: Final = 4
# Who holds less is cut last: a slow peer holds up to half a MiB, and nothing is gained by the rest.
WORTH_A_CUT: Final = 64 * 1024
LOG_INTERVAL: Final = 60.0

CUT_ERROR: Final = "memory limit"  # what the access log says of who was cut

_CGROUPS: Final = Path("/sys/fs/cgroup")
_OWN_CGROUP: Final = Path("/proc/self/cgroup")


class SlowPeer(Protocol):
    """A client's connection or a tunnel, with what waits on its way through the edge."""

    @property
    def deadline(self) -> float:
        """When its time is over if it takes nothing more."""

    @property
    def buffered(self) -> int:
        """Bytes that wait for one of its sides."""

    def cut(self, error: str) -> None:
        """Close at once, and let the log say why."""


class BufferLimit:
    """Bytes that may wait in one worker, `limit`, and that did when last looked, `used`."""

    def __init__(self) -> None:
        self.limit = sys.maxsize
        self.used = 0
        self.cut = 0  # how many peers
        self._logged = -math.inf

    def look(self, peers: Iterable[SlowPeer], now: float) -> None:
        """Count, and cut those that are nearest to their timeouts until the limit holds."""
        held = [(size, peer) for peer in peers if (size := peer.buffered)]
        self.used = sum(size for size, _ in held)
        if self.used <= self.limit:
            return
        cut = 0
        held.sort(key=lambda each: (each[0] < WORTH_A_CUT, each[1].deadline))
        for size, peer in held:
            peer.cut(CUT_ERROR)
            self.used -= size
            cut += 1
            if self.used <= self.limit:
                break
        self.cut += cut
        if now >= self._logged + LOG_INTERVAL:
            self._logged = now
            logger.warning(
                "more than %d MiB waited for clients and upstreams that read slowly: the %d that"
                " were nearest to their timeouts were cut; raise FAIRLEAD_MAX_BUFFERED, or lower"
                " FAIRLEAD_MAX_CONNECTIONS",
                self.limit / 2**20,
                cut,
            )


def share(workers: int) -> int:
    """Bytes for each of the workers where nothing else is said."""
    return total_memory() // SHARE // workers


def total_memory(cgroups: Path = _CGROUPS, own: Path = _OWN_CGROUP) -> int:
    """Bytes of the machine, or of the container or unit that this process is in.

    Those are limits of cgroups v2, and every one from the root to our own holds.
    """
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        path = own.read_text().rpartition("::")[2].strip().lstrip("/")
    except OSError:
        return total
    group = cgroups / path
    for folder in (group, *group.parents):
        if folder == cgroups.parent:
            break
        try:
            total = min(total, int((folder / "memory.max").read_text()))
        except (OSError, ValueError):
            continue  # the root has none, and "max" is no limit
    return total

"""Owns the file descriptors of a process: how many it may have, who shares them, and what is closed
first when they run short.

It only keeps the books. Clients come first, each with a connection to an upstream; idle connections
to upstreams have what is left over, and the one that was not used for longest makes room.
"""

import logging
import resource
import sys
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

logger = logging.getLogger(__name__)

# Descriptors for health checks, which are always to be had: a target's health must not depend on
# how busy its edge is.
RESERVED_FOR_CHECKS: Final = 16

# Descriptors that are not connections which are served: listeners, database, logs, the loop's own
# (about 30), the answers to clients that are one too many (64), health checks, and a few for what
# is closed in this turn of the loop and gone in the next.
RESERVED_DESCRIPTORS: Final = 144

# Descriptors for lookups of names, two for each: they are the resolver's, and in no book. Where the
# limit is low, an eighth of it.
RESERVED_FOR_LOOKUPS: Final = 128

# Idle connections that are closed at once where the kernel refuses a descriptor.
RELIEF: Final = 16


class Idle(Protocol):
    """What can be closed at any time, and nobody misses it."""

    def close(self) -> None:
        """Close at once."""


class ConnectionHolder(Protocol):
    """Who holds connections to an upstream, or connects."""

    def sweep(self, now: float) -> None:
        """Look at the deadlines of connections."""

    def abandon_attempt(self) -> bool:
        """Give up an attempt to connect that nobody waits for; whether there was one."""


def _no_clients() -> bool:
    """A process without clients has none to close."""
    return False


class Budget:
    """Who has which descriptors in one worker.

    `limit` is what the process may have, `room` the part of it that is for connections; beyond
    `comfortable` the oldest idle connection is closed for each new one. `max_lookups` lookups of
    names may be under way. `close_idle_client` closes clients that have nothing to do; whether
    there were any.
    """

    def __init__(self) -> None:
        self.limit = 0
        self.max_clients = sys.maxsize
        self.room = sys.maxsize
        self.comfortable = sys.maxsize
        self.max_lookups = RESERVED_FOR_LOOKUPS // 2
        self.close_idle_client: Callable[[], bool] = _no_clients
        # In use
        self.base = 0  # whatever else is open
        self.clients = 0
        self.upstreams = 0  # attempts to connect and health checks among them
        # What can be closed, the oldest first. Pools of all targets put in here what they keep.
        self.idle: OrderedDict[Idle, None] = OrderedDict()
        self.spare_attempts: OrderedDict[ConnectionHolder, None] = OrderedDict()
        self.reclaimed = 0  # how many were closed to make room
        # Whoever has at least one connection
        self.holders: set[ConnectionHolder] = set()

    def __repr__(self) -> str:
        return (
            f"<Budget clients={self.clients} upstreams={self.upstreams} idle={len(self.idle)}"
            f" room={self.room}>"
        )

    @property
    def used(self) -> int:
        """Descriptors that are open."""
        return self.base + self.clients + self.upstreams

    @property
    def is_exceeded(self) -> bool:
        """Whether more connections are open than there is room for."""
        return self.clients + self.upstreams > self.room + RESERVED_FOR_CHECKS

    def allot(self, limit: int, wanted: int, speaks: bool = True) -> None:
        """Share out `limit` descriptors, for `wanted` clients at most.

        `speaks`: a limit that allows fewer is told in the log.
        """
        self.limit = limit
        for_lookups = min(RESERVED_FOR_LOOKUPS, limit // 8)
        self.max_lookups = max(1, for_lookups // 2)
        self.room = room = max(limit - RESERVED_DESCRIPTORS - for_lookups, limit // 4)
        # Each client may need a second descriptor, towards its upstream.
        self.max_clients = max(1, min(wanted, room // 2))
        # Where descriptors abound, memory is the bound: some 5 KiB for each connection.
        self.comfortable = min(room, 3 * wanted)
        if self.max_clients < wanted and speaks:
            logger.warning(
                "at most %d client connections per worker, not %d: the limit of open files is %d;"
                " raise it with LimitNOFILE in the systemd unit or `ulimit -n`",
                self.max_clients,
                wanted,
                limit,
            )

    def make_room(self) -> None:
        """One more connection comes: close an idle one if it needs the place."""
        used = self.clients + self.upstreams
        if used >= self.comfortable and not self.reclaim() and used >= self.room:
            self.close_idle_client()

    def reclaim(self) -> bool:
        """Close the connection to an upstream that is idle for longest; whether there was one.

        If there is none, give up an attempt to connect that nobody waits for any more.
        """
        if self.idle:
            # It removes itself from here.
            next(iter(self.idle)).close()
            self.reclaimed += 1
            return True
        while self.spare_attempts:
            holder, _ = self.spare_attempts.popitem(last=False)
            if holder.abandon_attempt():
                return True
        return False

    def relieve(self) -> bool:
        """The kernel has refused a descriptor: close what is idle; whether there was anything."""
        relieved = sum(self.reclaim() for _ in range(RELIEF))
        return bool(relieved) or self.close_idle_client()

    def allows_check(self, running: int) -> bool:
        """Whether one more health check may begin while `running` are under way.

        Beyond those that always may, they leave each client its upstream.
        """
        return running < RESERVED_FOR_CHECKS or 2 * self.clients + running < self.room


def raise_limit(wanted: int) -> int:
    """Raise the limit of open files as far as this process may; what it is then.

    Where nothing limits it, it is what `wanted` clients and their upstreams need.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        hard = 3 * wanted + RESERVED_DESCRIPTORS + RESERVED_FOR_LOOKUPS
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def count_open() -> int:
    """How many descriptors this process has open. Costs a system call for every 1,000."""
    return sum(1 for _ in Path("/dev/fd").iterdir()) - 1  # the folder itself

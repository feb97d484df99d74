"""Owns how a target is emptied: how long what is in flight on it may take, what becomes of the
rest, and when tunnels are closed so that their clients do not all come back at once.
"""

import asyncio
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from edge.proxy.tunnel import CLOSE_TIMEOUT

if TYPE_CHECKING:
    from edge.proxy.client import ClientConnection
    from edge.proxy.tunnel import Tunnel
    from edge.upstream.target import Target

# Seconds that a tunnel to a draining target lives on, unless the caller says otherwise.
TUNNEL_DRAIN_TIMEOUT: Final = 30.0

# Seconds over which tunnels are closed, evenly: a thousand browsers that connect again in the same
# moment are a burst of a thousand handshakes, TLS included.
CLOSE_SPREAD: Final = 5.0

# Seconds that the close of a tunnel takes at most: each of its two deadlines can be a sweep late.
MAX_CLOSE_DURATION: Final = CLOSE_TIMEOUT + 1.0

# Seconds between two looks at what is left.
POLL_INTERVAL: Final = 0.02


@dataclass(frozen=True)
class DrainResult:
    """What became of a target's exchanges and tunnels in one worker.

    `finished` exchanges ended by themselves, `cut` ones were in flight when the time was over,
    `tunnels_closed` counts the tunnels that the edge closed. `left` are exchanges and tunnels that
    go on, because the drain was called off.
    """

    finished: int = 0
    cut: int = 0
    tunnels_closed: int = 0
    left: int = 0
    seconds: float = 0.0


class TargetDrain:
    """A drain of the targets of one address, from the call until nothing is in flight on them.

    They are several where the address has left the route table and has come back.
    """

    def __init__(
        self,
        targets: Collection["Target"],
        clients: Collection["ClientConnection"],
        tunnels: Collection["Tunnel"],
        clock: Callable[[], float],
    ) -> None:
        self.targets = frozenset(targets)
        self._clients = clients
        self._clock = clock
        self._exchanges = sum(target.in_flight - target.tunnels for target in targets)
        self._tunnels = [tunnel for tunnel in tunnels if tunnel.target in self.targets]
        self._tunnels_close_at = 0.0
        self._cancelled = False
        self._left = 0

    def __repr__(self) -> str:
        return f"<TargetDrain {sorted(map(repr, self.targets))}>"

    async def run(self, exchange_timeout: float, tunnel_timeout: float) -> DrainResult:
        """Wait; cut exchanges after the one time, close tunnels gently after the other."""
        started = self._clock()
        deadline = started + exchange_timeout
        self._tunnels_close_at = started + tunnel_timeout
        close_staggered(self._tunnels, self._tunnels_close_at, CLOSE_SPREAD)
        cut: int | None = None
        while not self._cancelled and self._in_flight(deadline):
            if cut is None and self._clock() >= deadline:
                cut = self._cut()
            else:
                await asyncio.sleep(POLL_INTERVAL)
        cut = cut or 0
        return DrainResult(
            finished=self._exchanges - cut - self._left,
            cut=cut,
            tunnels_closed=sum(tunnel.closing for tunnel in self._tunnels),
            left=self._left + sum(not tunnel.over for tunnel in self._tunnels),
            seconds=self._clock() - started,
        )

    def tunnel_opened(self, tunnel: "Tunnel") -> None:
        """An exchange has become a tunnel."""
        if tunnel.target in self.targets:
            self._exchanges -= 1
            self._tunnels.append(tunnel)
            tunnel.close_at(self._tunnels_close_at)

    def cancel(self) -> None:
        """The target is to go on serving."""
        self._cancelled = True
        self._left = sum(target.in_flight - target.tunnels for target in self.targets)
        for tunnel in self._tunnels:
            tunnel.cancel_close()

    def _in_flight(self, deadline: float) -> bool:
        """Whether there is anything to wait for; attempts to connect only until `deadline`."""
        connecting = self._clock() < deadline
        return any(
            target.in_flight or (connecting and target.connecting) for target in self.targets
        )

    def _cut(self) -> int:
        """End the exchanges in flight; how many."""
        cut = 0
        for client in list(self._clients):
            if client.exchange is not None and client.exchange.drain_timed_out(self.targets):
                cut += 1
        return cut


def close_staggered(tunnels: Collection["Tunnel"], start: float, seconds: float) -> None:
    """Have `tunnels` closed one after the other, the first at `start`, all within `seconds`."""
    for index, tunnel in enumerate(tunnels):
        tunnel.close_at(start + seconds * index / len(tunnels))


def tunnel_close_schedule(drain_timeout: float) -> tuple[float, float]:
    """When an edge that is drained begins to close tunnels, and over how many seconds.

    As late as possible, but so that the last one has been closed in order when the time is over.
    """
    latest = max(0.0, drain_timeout - MAX_CLOSE_DURATION)
    spread = min(CLOSE_SPREAD, latest)
    return min(TUNNEL_DRAIN_TIMEOUT, latest - spread), spread

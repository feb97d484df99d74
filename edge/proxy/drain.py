"""Owns how a target is emptied: how long what is in flight on it may take, what becomes of the
rest, and when tunnels are closed so that their clients do not all come back at once.
"""

import asyncio
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from edge.proxy.ports import Client, Tunnel
from edge.proxy.state import ServingState
from edge.proxy.tunnel import CLOSE_TIMEOUT
from edge.routing.route import parse_target
from edge.upstream.target import Target

logger = logging.getLogger(__name__)

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
        targets: Collection[Target],
        clients: Collection[Client],
        tunnels: Collection[Tunnel],
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

    def tunnel_opened(self, tunnel: Tunnel) -> None:
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
            target.in_flight or (connecting and target.pool.connecting) for target in self.targets
        )

    def _cut(self) -> int:
        """End the exchanges in flight; how many."""
        cut = 0
        for client in list(self._clients):
            if client.exchange is not None and client.exchange.drain_timed_out(self.targets):
                cut += 1
        return cut


class TargetDrains:
    """Which targets of a worker are drained, and the drains under way."""

    def __init__(self, state: ServingState) -> None:
        self._state = state

    def __repr__(self) -> str:
        return f"<TargetDrains ongoing={len(self._state.drains)} drained={self.addresses()}>"

    async def drain(
        self,
        address: str,
        timeout: float,  # noqa: ASYNC109  # on the worker's clock
        tunnel_timeout: float = TUNNEL_DRAIN_TIMEOUT,
    ) -> DrainResult:
        """Send nothing new to `address`, and return when nothing is in flight on it any more.

        Exchanges that take longer than `timeout` are cut, tunnels are closed gently after
        `tunnel_timeout`. Nothing new comes until `undrain`, or until the target has left the route
        table. Raises `RouteError` for what is no address.
        """
        state = self._state
        address = parse_target(address)
        if state.table is not None and address in state.table.target_counts:
            # It may not have had a request yet; the mark needs something to be on.
            state.target(address)
        targets = self._targets_at(address)
        for target in targets:
            target.retire()
        drain = TargetDrain(targets, state.clients, state.tunnels, state.clock)
        state.drains.add(drain)
        state.draining_targets = tuple(dict.fromkeys((*state.draining_targets, *targets)))
        try:
            result = await drain.run(timeout, tunnel_timeout)
        finally:
            state.drains.remove(drain)
            self.prune()
        return result

    def undrain(self, address: str) -> bool:
        """Let exchanges come to `address` again; whether it was drained.

        A drain that is under way ends here. Raises `RouteError` for what is no address.
        """
        state = self._state
        address = parse_target(address)
        drained = [target for target in state.draining_targets if target.address == address]
        for drain in state.drains:
            if any(target in drain.targets for target in drained):
                drain.cancel()
        for target in drained:
            if state.targets.get(address) is target:
                target.reinstate()
        state.draining_targets = tuple(
            target for target in state.draining_targets if target not in drained
        )
        if drained and state.leader:
            logger.info("target %s takes requests again", address)
        return bool(drained)

    def addresses(self) -> list[str]:
        """The targets that the table names and that get nothing new."""
        return [
            target.address
            for target in self._state.draining_targets
            if self._state.targets.get(target.address) is target
        ]

    def prune(self) -> None:
        """Forget that targets were drained that have left the table since, and are empty."""
        state = self._state
        active = {target for drain in state.drains for target in drain.targets}
        state.draining_targets = tuple(
            target
            for target in state.draining_targets
            if target in active or state.targets.get(target.address) is target
        )

    def _targets_at(self, address: str) -> list[Target]:
        """The target that the table names, and those that it named before."""
        targets = (*self._state.targets.values(), *self._state.retired)
        return [target for target in targets if target.address == address]


def close_staggered(tunnels: Collection[Tunnel], start: float, seconds: float) -> None:
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

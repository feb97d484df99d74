"""Owns one address that requests are forwarded to: what is in flight on it, and until when it is
passed over by balancers.
"""

from typing import Final

from edge.runtime import Runtime
from edge.upstream.pool import Pool
from edge.upstream.resolver import Resolver

# Seconds for which a target that cannot be connected to is passed over (back-off): doubled with
# each failure in a row. Short, because a deploy brings it back within seconds; growing, because a
# dead host costs a request the connect timeout each time.
INITIAL_BACKOFF: Final = 1.0
MAX_BACKOFF: Final = 30.0


class Target:
    """One `host:port`, shared by every route that names it."""

    __slots__ = (
        "_backoff_until",
        "_failures",
        "address",
        "ejected_until",
        "in_flight",
        "pool",
        "tunnels",
        "unavailable_until",
    )

    def __init__(self, address: str, runtime: Runtime, resolver: Resolver) -> None:
        self.address = address
        self.pool = Pool(address, runtime, resolver, self.reset_backoff, self._back_off)
        self.in_flight = 0  # exchanges, tunnels among them
        self.tunnels = 0
        self._failures = 0  # attempts to connect that failed in a row
        self._backoff_until = 0.0
        self.ejected_until = 0.0  # what health.py says; math.inf: until it says otherwise
        # The later of the two, for balancers; 0 while the target is available, or not known.
        self.unavailable_until = 0.0

    def __repr__(self) -> str:
        return f"<Target {self.address} in_flight={self.in_flight} {self.pool!r}>"

    @property
    def in_use(self) -> bool:
        """Whether an exchange is under way or an attempt to connect."""
        return bool(self.in_flight) or self.pool.connecting

    def retire(self) -> None:
        """Nothing new comes, because it is drained: what is in flight ends, nothing is kept."""
        self.pool.retire()

    def leave_table(self) -> None:
        """No route names it any more: as `retire`, for good."""
        self.pool.leave_table()

    def reinstate(self) -> None:
        """It is drained no longer: exchanges come again."""
        self.pool.reinstate()

    def eject_until(self, until: float) -> None:
        """Be passed over until then, whatever becomes of connections; 0: no longer."""
        self.ejected_until = until
        self.unavailable_until = max(self._backoff_until, until)

    def reset_backoff(self) -> None:
        """It can be connected to: the back-off is over."""
        self._failures = 0
        self._backoff_until = 0.0
        self.unavailable_until = self.ejected_until

    def _back_off(self, now: float) -> None:
        # A burst of attempts that fail together is one failure.
        if self._backoff_until <= now:
            backoff = min(INITIAL_BACKOFF * 2**self._failures, MAX_BACKOFF)
            self._failures = min(self._failures + 1, 10)
            self._backoff_until = now + backoff
            self.unavailable_until = max(self._backoff_until, self.ejected_until)

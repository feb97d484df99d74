"""Owns how often each client may come. Pure: the caller has the clock.

A token bucket is kept as the moment at which it will be full again (the generic cell rate algorithm
of ITU-T I.371), so that a client is one number and nothing needs to be filled up over time.
"""

from collections import OrderedDict
from typing import Final

from edge.rules.client_ip import client_name

# Seconds that sums of floats may be off.
_ROUNDING: Final = 1e-6


class RateLimiter:
    """Lets each client in `rate` times per second, and up to `burst` times at once.

    Knows at most `max_clients`; the one that was silent the longest is forgotten for a new one,
    and then begins with a full bucket again.
    """

    def __init__(self, rate: float, burst: int, max_clients: int = 10_000) -> None:
        self._interval = 1.0 / rate
        self._depth = max(1, burst) * self._interval
        self._max_clients = max_clients
        self._full_at: OrderedDict[bytes, float] = OrderedDict()

    def __len__(self) -> int:
        """How many clients are known."""
        return len(self._full_at)

    def retry_after(self, client: str, now: float) -> float:
        """0.0 if the client at that address is let in; else the seconds until it would be.

        `now` is of a clock that never goes back, in seconds.
        """
        name = client_key(client)
        full_at = max(self._full_at.pop(name, now), now) + self._interval
        excess = full_at - now - self._depth
        refused = excess > _ROUNDING
        self._full_at[name] = full_at - self._interval if refused else full_at
        if len(self._full_at) > self._max_clients:
            self._full_at.popitem(last=False)
        return excess if refused else 0.0


def client_key(client: str) -> bytes:
    """What is counted as one: an IPv4 address, also in IPv6, a /64 of IPv6, or any other text."""
    try:
        return client_name(client)
    except ValueError:
        return client.encode("utf-8", "replace")

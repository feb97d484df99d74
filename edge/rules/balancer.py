"""Owns the choice of a target among several. Pure: it knows targets only by what `Choice` says,
and requests by what `LoadBalancerContext` says.
"""

from collections.abc import Collection, Mapping, Sequence
from hashlib import blake2b
from math import gcd, log
from operator import itemgetter
from typing import Final, Generic, Protocol, TypeVar

from edge.rules.affinity_cookie import cookie_line, cookie_value, cookie_values


class Choice(Protocol):
    """What a balancer has to know of a target."""

    address: str
    in_flight: int  # exchanges under way on it
    unavailable_until: float  # on the clock that `pick` is given; 0 if it is available


class LoadBalancerContext(Protocol):
    """What a balancer may ask of the request that a target is picked for."""

    @property
    def client_address(self) -> str:
        """The client's address, whatever proxies are between."""

    def cookies(self) -> bytes:
        """The Cookie field, empty if there is none."""

    def set_cookie(self, line: bytes) -> None:
        """Have the response carry this line, or none if it is empty."""


T = TypeVar("T", bound=Choice)

# Clients whose order of targets is remembered, per route: at ten targets 1.5 MiB.
MAX_ORDERS: Final = 4096

_MASK: Final = 2**64 - 1


class RoundRobin(Generic[T]):
    """Each in turn, in proportion to its weight, as evenly spread as can be."""

    __slots__ = ("_next", "_turns")

    def __init__(self, targets: Sequence[T], weights: Sequence[int]) -> None:
        self._turns = spread(targets, weights)
        self._next = 0

    def pick(self, now: float, tried: Collection[T], context: LoadBalancerContext) -> T | None:
        """The next available target that was not tried; failing that, one that was not tried."""
        turns = self._turns
        second_choice: T | None = None
        for _ in turns:
            target = turns[self._next]
            self._next = (self._next + 1) % len(turns)
            if target in tried:
                continue
            if target.unavailable_until <= now:
                return target
            second_choice = second_choice or target
        # A whole turn has led back to where it began; in a panic, too, each target gets its share.
        self._next = (self._next + 1) % len(turns)
        return second_choice


class LeastInFlight(Generic[T]):
    """The one with the fewest exchanges under way for its weight; in turn among equals."""

    __slots__ = ("_next", "_targets")

    def __init__(self, targets: Sequence[T], weights: Sequence[int]) -> None:
        self._targets = list(zip(targets, weights, strict=True))
        self._next = 0

    def pick(self, now: float, tried: Collection[T], context: LoadBalancerContext) -> T | None:
        """The least busy available target that was not tried; failing that, one not tried."""
        targets = self._targets
        best: T | None = None
        best_load = (True, 0.0)
        for offset in range(len(targets)):
            target, weight = targets[(self._next + offset) % len(targets)]
            load = (target.unavailable_until > now, target.in_flight / weight)
            if target not in tried and (best is None or load < best_load):
                best, best_load = target, load
        self._next = (self._next + 1) % len(targets)
        return best


class ClientHash(Generic[T]):
    """The same one for each client, as long as it is available.

    Weighted rendezvous hashing (Schindelhauer and Schomaker 2005): each target has a score for each
    client, and the highest counts. So a target that is ejected, leaves or is new moves the clients
    that are its own and no others; and every process, here or on another machine, picks alike.
    """

    __slots__ = ("_orders", "_targets")

    def __init__(self, targets: Sequence[T], weights: Sequence[int]) -> None:
        self._targets = [
            (target, _hash(target.address), weight)
            for target, weight in zip(targets, weights, strict=True)
        ]
        # For the clients of late: 2 us for each target, once, and not for each request
        self._orders: dict[str, list[T]] = {}

    def pick(self, now: float, tried: Collection[T], context: LoadBalancerContext) -> T | None:
        """The client's target of those that are available; failing that, of those not tried."""
        client = context.client_address
        second_choice: T | None = None
        for target in self._orders.get(client) or self._order(client):
            if target in tried:
                continue
            if target.unavailable_until <= now:
                return target
            second_choice = second_choice or target
        return second_choice

    def _order(self, client: str) -> list[T]:
        """All targets, the highest score first."""
        number = _hash(client)
        scores = [
            # The logarithm of a number between 0 and 1, evenly spread.
            (log((_mixed(number ^ seed) + 1) / 2**64) / weight, target)
            for target, seed, weight in self._targets
        ]
        scores.sort(key=itemgetter(0), reverse=True)
        if len(self._orders) >= MAX_ORDERS:
            self._orders.clear()
        order = self._orders[client] = [target for _, target in scores]
        return order


class CookieAffinity(Generic[T]):
    """The one that the client's cookie stands for, as long as it is available; else in turn."""

    __slots__ = ("_by_value", "_in_turn", "_lines")

    def __init__(
        self, targets: Sequence[T], weights: Sequence[int], values: Sequence[bytes], prefix: bytes
    ) -> None:
        self._in_turn = RoundRobin(targets, weights)
        self._by_value: Mapping[bytes, T] = dict(zip(values, targets, strict=True))
        self._lines: Mapping[T, bytes] = {
            target: cookie_line(value, prefix) for value, target in self._by_value.items()
        }

    def pick(self, now: float, tried: Collection[T], context: LoadBalancerContext) -> T | None:
        """The client's target if available and not tried; else another, with a cookie for it."""
        for value in cookie_values(context.cookies()):
            held = self._by_value.get(value)
            if held is not None and held.unavailable_until <= now and held not in tried:
                context.set_cookie(b"")
                return held
        target = self._in_turn.pick(now, tried, context)
        if target is not None:
            context.set_cookie(self._lines[target])
        return target


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


def _mixed(value: int) -> int:
    """64 bits, each of which depends on all of `value` (the last steps of splitmix64)."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


def spread(targets: Sequence[T], weights: Sequence[int]) -> tuple[T, ...]:
    """One period of nginx's smooth weighted round robin: 3 to 1 gives a a b a, never a a a b.

    Worked out once, so that a pick is an index.
    """
    divisor = gcd(*weights)
    shares = [weight // divisor for weight in weights]
    total = sum(shares)
    credit = [0] * len(shares)
    turns = []
    for _ in range(total):
        for index, share in enumerate(shares):
            credit[index] += share
        chosen = max(range(len(shares)), key=credit.__getitem__)
        credit[chosen] -= total
        turns.append(targets[chosen])
    return tuple(turns)


Balancer = RoundRobin[T] | LeastInFlight[T] | ClientHash[T] | CookieAffinity[T]


def make_balancer(
    name: str,
    targets: Sequence[T],
    weights: Sequence[int],
    key: str = "",
    prefix: bytes = b"",
    secret: str = "",
) -> Balancer[T]:
    """The balancer that a route names in `RouteOptions.balance`.

    `key` and `prefix` are the route's, `secret` is `Settings.affinity_secret`: for cookies.
    """
    if name == "cookie":
        values = [cookie_value(key, target.address, secret) for target in targets]
        return CookieAffinity(targets, weights, values, prefix)
    if name == "client_hash":
        return ClientHash(targets, weights)
    return (LeastInFlight if name == "least_in_flight" else RoundRobin)(targets, weights)

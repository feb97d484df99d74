"""Owns the choice of a target among several. Pure: it knows targets only by what `Choice` says."""

from collections.abc import Collection, Sequence
from math import gcd
from typing import Generic, Protocol, TypeVar


class Choice(Protocol):
    """What a balancer has to know of a target."""

    in_flight: int  # exchanges under way on it
    passed_over_until: float  # on the clock that `pick` is given; 0 if it is well


T = TypeVar("T", bound=Choice)


class RoundRobin(Generic[T]):
    """Each in turn, in proportion to its weight, as evenly spread as can be."""

    __slots__ = ("_next", "_turns")

    def __init__(self, targets: Sequence[T], weights: Sequence[int]) -> None:
        self._turns = spread(targets, weights)
        self._next = 0

    def pick(self, now: float, tried: Collection[T]) -> T | None:
        """The next target that is well and was not tried; failing that, one that was not tried."""
        turns = self._turns
        second_choice: T | None = None
        for _ in turns:
            target = turns[self._next]
            self._next = (self._next + 1) % len(turns)
            if target in tried:
                continue
            if target.passed_over_until <= now:
                return target
            second_choice = second_choice or target
        # A whole turn has led back to where it began; of targets that are all out, too, each gets
        # its share.
        self._next = (self._next + 1) % len(turns)
        return second_choice


class LeastInFlight(Generic[T]):
    """The one with the fewest exchanges under way for its weight; in turn among equals."""

    __slots__ = ("_next", "_targets")

    def __init__(self, targets: Sequence[T], weights: Sequence[int]) -> None:
        self._targets = list(zip(targets, weights, strict=True))
        self._next = 0

    def pick(self, now: float, tried: Collection[T]) -> T | None:
        """The least busy target that is well and was not tried; failing that, one not tried."""
        targets = self._targets
        best: T | None = None
        best_load = (True, 0.0)
        for offset in range(len(targets)):
            target, weight = targets[(self._next + offset) % len(targets)]
            load = (target.passed_over_until > now, target.in_flight / weight)
            if target not in tried and (best is None or load < best_load):
                best, best_load = target, load
        self._next = (self._next + 1) % len(targets)
        return best


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


Balancer = RoundRobin[T] | LeastInFlight[T]


def make_balancer(name: str, targets: Sequence[T], weights: Sequence[int]) -> Balancer[T]:
    """The balancer that a route names in `RouteOptions.balance`."""
    return (LeastInFlight if name == "least_in_flight" else RoundRobin)(targets, weights)

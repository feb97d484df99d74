"""Owns what a route gathers while it serves: its targets' balancer and its counters.

A `Route` is a value in an immutable table; this is its counterpart in one worker.
"""

from collections.abc import Callable

from edge.balancer import make_balancer
from edge.metrics import RouteCounters
from edge.routes import Route
from edge.target import Target


class LiveRoute:
    """A route that has had a request. `max_body` is in bytes, `max_fails` failures in a row of a
    target; 0 for no limit of either.
    """

    __slots__ = ("balancer", "counters", "max_body", "max_fails", "plain", "route", "sole_target")

    def __init__(
        self,
        route: Route,
        target: Callable[[str], Target],
        counters: RouteCounters,
        max_body: int,
    ) -> None:
        targets = [target(address) for address in route.targets]
        self.route = route
        self.counters = counters
        options = route.options
        self.max_body = max_body if options.max_body is None else options.max_body
        self.max_fails = options.health_fails
        # The head goes on as the connection has prepared it.
        self.plain = not options.strip and options.host == "client"
        self.sole_target = targets[0] if len(targets) == 1 else None
        self.balancer = make_balancer(options.balance, targets, route.weights)

    def __repr__(self) -> str:
        return f"<LiveRoute {self.route.domain}>"

"""Owns what a route gathers while it serves: its targets' balancer and its counters.

A `Route` is a value in an immutable table; this is its counterpart in one worker.
"""

from collections.abc import Callable

from edge.admission import Admission
from edge.balancer import make_balancer
from edge.metrics import RouteCounters
from edge.routes import Route
from edge.target import Target


class LiveRoute:
    """A route that has had a request. `max_body` is in bytes, 0 for no limit.

    `admission` is None where every request may go on as it comes.
    """

    __slots__ = ("admission", "balancer", "counters", "max_body", "plain", "route", "sole_target")

    def __init__(
        self,
        route: Route,
        target: Callable[[str], Target],
        counters: RouteCounters,
        max_body: int,
        admission: Admission | None = None,
    ) -> None:
        targets = [target(address) for address in route.targets]
        self.route = route
        self.counters = counters
        self.admission = admission
        options = route.options
        self.max_body = max_body if options.max_body is None else options.max_body
        # The head goes on as the connection has prepared it.
        self.plain = not options.strip and options.host == "client" and not options.basic_auth
        self.sole_target = targets[0] if len(targets) == 1 else None
        self.balancer = make_balancer(options.balance, targets, route.weights)

    def __repr__(self) -> str:
        return f"<LiveRoute {self.route.domain}>"

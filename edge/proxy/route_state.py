"""Owns what a route gathers while it serves: its targets' balancer and its counters.

A `Route` is a value in an immutable table; this is its counterpart in one worker.
"""

from collections.abc import Callable
from typing import TypeVar

from edge.proxy.admission import Admission
from edge.routing.route import Route
from edge.rules.balancer import make_balancer
from edge.rules.response_fields import ResponseFields
from edge.settings.settings import Settings
from edge.telemetry.metrics import RouteCounters
from edge.upstream.target import Target

T = TypeVar("T")


class RouteState:
    """A route that has had a request, with what its options and the settings come to.

    `max_body` is in bytes, 0 for no limit; timeouts are in seconds. `retries` is how many further
    targets a request may be tried on. `admission` is None where every request may go on as it
    comes. `max_fails` failures in a row eject a target, 0 for never.
    """

    __slots__ = (
        "admission",
        "balancer",
        "body_timeout",
        "connect_timeout",
        "counters",
        "head_unchanged",
        "max_body",
        "max_fails",
        "response_fields",
        "response_timeout",
        "retries",
        "route",
        "send_timeout",
        "sole_target",
        "stream_timeout",
        "tunnel_timeout",
    )

    def __init__(
        self,
        route: Route,
        target: Callable[[str], Target],
        counters: RouteCounters,
        settings: Settings,
        admission: Admission | None = None,
    ) -> None:
        targets = [target(address) for address in route.targets]
        self.route = route
        self.counters = counters
        self.admission = admission
        options = route.options
        self.max_body = _or_default(options.max_body, settings.max_body)
        self.body_timeout = _or_default(options.body_timeout, settings.body_timeout)
        self.connect_timeout = _or_default(options.connect_timeout, settings.connect_timeout)
        self.response_timeout = _or_default(options.response_timeout, settings.response_timeout)
        self.send_timeout = settings.send_timeout
        self.stream_timeout = _or_default(options.stream_timeout, settings.stream_timeout)
        self.tunnel_timeout = _or_default(options.tunnel_timeout, settings.tunnel_timeout)
        self.retries = _or_default(options.retries, len(targets))
        self.max_fails = options.max_fails
        # The head goes on as the connection has prepared it.
        self.head_unchanged = not (
            options.strip
            or options.normalize_path
            or options.host != "client"
            or options.basic_auth
        )
        self.sole_target = targets[0] if len(targets) == 1 else None
        self.balancer = make_balancer(
            options.balance,
            targets,
            route.weights,
            route.key,
            route.prefix,
            settings.affinity_secret,
        )
        self.response_fields = (
            ResponseFields(options.set_fields, options.remove_fields)
            if options.set_fields or options.remove_fields
            else None
        )

    def __repr__(self) -> str:
        return f"<RouteState {self.route.key}>"


def _or_default(option: T | None, otherwise: T) -> T:
    return otherwise if option is None else option

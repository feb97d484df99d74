"""Owns which active checks the routes ask for. Pure.

The options of a route say what to check; checks that are the same are one, whoever asked for them.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from edge.errors import RouteError
from edge.rules.health_check import HealthCheck

if TYPE_CHECKING:
    from edge.routing.options import RouteOptions
    from edge.routing.route import Route

# What says something only about a check, and so needs `health_path`.
_CHECK_OPTIONS: Final = (
    "health_interval",
    "health_timeout",
    "health_status",
    "health_host",
    "health_rise",
    "health_fall",
)


def reject_unused_options(options: "RouteOptions", defaults: "RouteOptions") -> None:
    """Raise RouteError for an option of checks where there is no check."""
    if options.health_path is None:
        for name in _CHECK_OPTIONS:
            if getattr(options, name) != getattr(defaults, name):
                raise RouteError(
                    f"option '{name}' needs a health check: add --health-path, or leave it out"
                )


def check_of(options: "RouteOptions") -> HealthCheck | None:
    """The check that a route asks for, if it does."""
    if options.health_path is None:
        return None
    return HealthCheck(
        options.health_path,
        options.health_host,
        options.health_interval,
        options.health_timeout,
        options.health_status,
        options.health_rise,
        options.health_fall,
    )


def checks_by_target(routes: Iterable["Route"]) -> dict[str, frozenset[HealthCheck]]:
    """What each target is checked for; a target that no route checks is not in it."""
    found: dict[str, frozenset[HealthCheck]] = {}
    for route in routes:
        check = check_of(route.options)
        if check is not None:
            alone = frozenset((check,))
            for address in route.targets:
                found[address] = found.get(address, frozenset()) | alone
    return found

"""What the tests of route tables share."""

from edge.routing.table import Normalized, RouteTable


def table_of(*domains: str) -> RouteTable:
    """Every domain leads to a target whose port is its place in the list, from 1."""
    rows = {domain: f"127.0.0.1:{port}" for port, domain in enumerate(domains, start=1)}
    return RouteTable().changed(1, rows)


def domain_for(table: RouteTable, host: str, path: bytes = b"/") -> str | None:
    route = table.match(host, path)
    if isinstance(route, Normalized):
        route = route.route
    return None if route is None else route.key

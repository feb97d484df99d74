"""Owns what is known of the rules of apps' routes: they outlive whatever becomes of the apps."""

from collections.abc import Iterable, Mapping

from edge.routing.table import Normalized, RouteTable

# What the orchestrator says of a route's target, and no rule.
_OF_THE_TARGET = frozenset({"boot", "unavailable"})


class Rules:
    """Of the routes of one database, whose versions count."""

    def __init__(self) -> None:
        self._changes: dict[str, list[tuple[int, dict[str, object]]]] = {}
        self._first_seen: dict[str, int] = {}  # by host: the version that a route was seen in

    def changed(self, host: str, version: int, rules: Mapping[str, object]) -> None:
        """An operator has given the route these, and it keeps those that it had."""
        changes = self._changes.setdefault(host, [(0, {})])
        changes.append((version, {**changes[-1][1], **rules}))

    def fault_of(self, table: RouteTable, hosts: Iterable[str]) -> str:
        """Which host has lost its route, or its route a rule; empty if none."""
        for host in hosts:
            route = table.match(host, b"/")
            assert not isinstance(route, Normalized)  # the path is clean
            if route is None or route.key != host:
                if table.version >= self._first_seen.get(host, table.version + 1):
                    return f"{host} had a route, and falls to {route} in version {table.version}"
                continue
            first = self._first_seen.get(host, table.version)
            self._first_seen[host] = min(first, table.version)
            kept = {
                name: value
                for name, value in route.options.non_default().items()
                if name not in _OF_THE_TARGET
            }
            if kept != self._in_version(host, table.version):
                return f"{host} has the rules {kept} in version {table.version}"
        return ""

    def _in_version(self, host: str, version: int) -> dict[str, object]:
        changes = self._changes.get(host, [(0, {})])
        return next(rules for since, rules in reversed(changes) if since <= version)

"""Owns how a table of routes is made: rows that come, change and go. Pure.

A new table is made from the old one and a difference, so that one changed row among 100,000 costs a
copy of a few dicts and not 100,000 parsed rows.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from edge.errors import RouteError
from edge.hosts import MAX_HOST
from edge.routing.route import (
    Route,
    is_normal_name,
    is_normal_target,
    parse_key,
    parse_route,
    placeholder,
)

# A route that nobody has asked for yet is its text: `targets` or `targets NUL options`. Text is
# nothing to the garbage collector and is freed fast; 100,000 Route objects would stop the loop for
# tens of milliseconds at a full collection, and again when a replaced table is let go.
Entry = str | Route


class Paths:
    """The routes of one host that has a prefix on any of them."""

    __slots__ = ("longest", "routes")

    def __init__(self, routes: dict[bytes, Entry]) -> None:
        self.routes = routes
        self.longest = 0  # bytes of the longest prefix

    def find(self, path: bytes) -> bytes | None:
        """The longest prefix that `path` begins with, on a border of segments.

        The steps are bounded by the deepest prefix here, never by the length of the path.
        """
        end = path.find(b"?", 0, self.longest + 1)
        head = path[: end if end >= 0 else self.longest + 1]
        while head not in self.routes:
            if not head:
                return None
            head = head[: max(head.rfind(b"/"), 0)]
        return head


@dataclass(slots=True)
class Contents:
    """What a table is made of; it only ever changes by an entry that becomes its route.

    `hosts` are the routes by host, or by prefix where the host has several. `invalid` are the rows
    that are no valid route, and what follows; what stands in their place is not counted.
    `duplicates` are the rows that are skipped, by the key of the route that they spell. `checked`
    are the routes with health checks, `managed` those that the orchestrator has confirmed or found
    unavailable, or that are not valid.
    """

    count: int = 0
    wildcards: int = 0  # hosts that are `*.name`
    hosts: dict[str, Entry | Paths] = field(default_factory=dict)
    invalid: dict[str, str] = field(default_factory=dict)
    duplicates: dict[str, dict[str, Entry]] = field(default_factory=dict)
    target_counts: dict[str, int] = field(default_factory=dict)
    checked: dict[tuple[str, bytes], Route] = field(default_factory=dict)
    managed: dict[tuple[str, bytes], Route] = field(default_factory=dict)


class TableBuilder:
    """A table in the making: copies of the old one's dicts, changed row by row."""

    def __init__(self, base: Contents) -> None:
        self._count = base.count
        self._wildcards = base.wildcards
        self._hosts = base.hosts.copy()
        self._invalid = base.invalid.copy()
        self._duplicates = {key: rows.copy() for key, rows in base.duplicates.items()}
        # dict() would insert one by one after a removal.
        self._target_counts = base.target_counts.copy()
        self._checked = base.checked.copy()
        self._managed = base.managed.copy()
        self._own: dict[str, Paths] = {}  # those that belong to this builder alone

    def put(self, row: str, target: str, options: str | None) -> None:
        """Insert or replace a row."""
        if (
            options is None
            and row not in self._duplicates
            and row not in self._invalid
            and len(row) <= MAX_HOST
            and len(target) <= MAX_HOST
            and is_normal_name(row)
            and is_normal_target(target)
        ):
            self._insert(row, b"", target)
            return
        self.remove(row)
        entry: Entry
        try:
            route = parse_route(row, target, options)
            entry = ",".join(route.targets) + ("" if options is None else f"\0{options}")
        except RouteError as error:
            try:
                route = entry = placeholder(row, str(error))
            except RouteError:
                self._invalid[row] = f"is skipped: {error}"  # Nobody knows whose route it is.
                return
            self._invalid[row] = f"is answered 503: {error}"
        key = route.key
        if row != key or key in self._duplicates:
            rows = self._duplicates.get(key)
            if rows is None:
                # Only a row in normal form stands in the table without a claim.
                held = self._delete(route.host, route.prefix)
                rows = self._duplicates[key] = {} if held is None else {key: held}
            rows[row] = entry
            self._choose_duplicate(key, route.host, route.prefix)
        else:
            self._insert(route.host, route.prefix, entry)

    def remove(self, row: str) -> None:
        """Delete a row if it is there."""
        self._invalid.pop(row, None)
        try:
            host, prefix = parse_key(row)
        except RouteError:
            return
        key = host + prefix.decode("ascii")
        rows = self._duplicates.get(key)
        if rows is not None:
            rows.pop(row, None)
            self._choose_duplicate(key, host, prefix)
        elif row == key:
            self._delete(host, prefix)

    def finish(self) -> Contents:
        """What the new table is made of; the builder is not used after it."""
        for paths in self._own.values():
            paths.longest = max(map(len, paths.routes), default=0)
        return Contents(
            self._count,
            self._wildcards,
            self._hosts,
            self._invalid,
            self._duplicates,
            self._target_counts,
            self._checked,
            self._managed,
        )

    def _choose_duplicate(self, key: str, host: str, prefix: bytes) -> None:
        rows = self._duplicates[key]
        if rows:
            self._insert(host, prefix, rows[winner(key, rows)])
        else:
            self._delete(host, prefix)
        if not rows.keys() - {key}:
            del self._duplicates[key]

    def _insert(self, host: str, prefix: bytes, entry: Entry) -> None:
        held = self._hosts.get(host)
        old: Entry | None = None
        if held is None:
            self._wildcards += host.startswith("*.")
            if prefix:
                self._hosts[host] = self._own[host] = Paths({prefix: entry})
            else:
                self._hosts[host] = entry
        elif isinstance(held, Paths):
            routes = self._copy_on_write(host, held).routes
            old = routes.get(prefix)
            routes[prefix] = entry
        elif prefix:
            self._hosts[host] = self._own[host] = Paths({b"": held, prefix: entry})
        else:
            old = held
            self._hosts[host] = entry
        self._count += is_served(entry)
        if old is not None:
            self._count -= is_served(old)
            self._forget(host, prefix, old)
        if _may_be_listed(entry):
            route = parse_entry(host, prefix, entry)
            if route.options.health_path is not None:
                self._checked[host, prefix] = route
            if route.options.boot or route.options.unavailable:
                self._managed[host, prefix] = route
        for target in _targets(entry):
            self._target_counts[target] = self._target_counts.get(target, 0) + 1

    def _delete(self, host: str, prefix: bytes) -> Entry | None:
        held = self._hosts.get(host)
        if held is None:
            return None
        if isinstance(held, Paths):
            routes = self._copy_on_write(host, held).routes
            entry = routes.pop(prefix, None)
            if routes.keys() == {b""}:
                self._hosts[host] = routes[b""]
                del self._own[host]
            elif not routes:
                del self._hosts[host], self._own[host]
        elif prefix:
            entry = None
        else:
            entry = held
            del self._hosts[host]
        if host not in self._hosts:
            self._wildcards -= host.startswith("*.")
        if entry is not None:
            self._count -= is_served(entry)
            self._forget(host, prefix, entry)
        return entry

    def _copy_on_write(self, host: str, held: Paths) -> Paths:
        owned = self._own.get(host)
        if owned is None:
            owned = self._hosts[host] = self._own[host] = Paths(held.routes.copy())
        return owned

    def _forget(self, host: str, prefix: bytes, entry: Entry) -> None:
        self._checked.pop((host, prefix), None)
        self._managed.pop((host, prefix), None)
        for target in _targets(entry):
            left = self._target_counts[target] - 1
            if left:
                self._target_counts[target] = left
            else:
                del self._target_counts[target]


def winner(key: str, rows: Collection[str]) -> str:
    """Of rows that spell one key, the one that is served."""
    return key if key in rows else min(rows)


def _targets(entry: Entry) -> Iterable[str]:
    return entry.partition("\0")[0].split(",") if isinstance(entry, str) else entry.targets


def is_served(entry: Entry) -> bool:
    """Whether it leads anywhere: what stands in the place of an invalid row has no targets."""
    return isinstance(entry, str) or bool(entry.targets)


def _may_be_listed(entry: Entry) -> bool:
    """Whether a row has an option that `Contents` lists, or could: JSON may escape any letter."""
    if isinstance(entry, Route):
        return True
    options = entry.partition("\0")[2]
    return any(sign in options for sign in ("health_path", "boot", "unavailable", "\\"))


def parse_entry(host: str, prefix: bytes, entry: Entry) -> Route:
    """The route that an entry is, or is the text of."""
    if isinstance(entry, Route):
        return entry
    targets, _, options = entry.partition("\0")
    return parse_route(host + prefix.decode("ascii"), targets, options or None)

"""Owns what is counted.

The path of a request counts in plain integers (0.2 us, where prometheus-client's own counters take
over 1 us); how they read for Prometheus is a matter of `prometheus.py`, which workers never load.

A worker tells its supervisor what has changed (`changes`), which keeps a `Metrics` per worker up to
date (`apply`) and shows their sum (`add`).
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

# Upper bounds in seconds. From a hop inside one machine to the response timeout's default.
BUCKETS: tuple[float, ...] = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    60.0,
)


# What a worker tells of itself beside the routes. Sums over workers make sense of all of these;
# those of `_GAUGES` end with the worker, the others stay in the sum when it dies.
_COUNTERS = (
    "retries",
    "pool_hits",
    "pool_misses",
    "connections_accepted",
    "connections_rejected",
    "access_log_dropped",
    "log_dropped",
    "proxy_protocol_errors",
    "idle_clients_closed",
    "idle_upstreams_closed",
    "slow_peers_cut",
)
_GAUGES = (
    "connections_open",
    "tunnels_open",
    "upstream_connections_open",
    "upstream_connections_idle",
    "descriptors_used",
    "descriptors_limit",
    "buffered",
    "buffered_limit",
)
_TABLES = ("upstream_errors", "reloads", "health_checks", "shortages")
# What describes the route table, which is the same in all workers.
_STATES = ("table_version", "table_routes", "routes_invalid", "routes_unavailable", "reload_ok")

Changes = dict[str, Any]


class RouteCounters:
    """The counters of one route; only the loop's thread changes them.

    `requests` is indexed by status // 100 (up to 9: an upstream may answer 999); `buckets` holds,
    not cumulative, the requests up to each of `BUCKETS` and those beyond; `seconds` is their sum;
    bytes are those of bodies: received from clients, sent to clients. `paused` requests wait for a
    paused route; they are in flight too. `panic_picks` are the requests that were sent to a
    target that was not available, because none was.
    """

    __slots__ = (
        "_reported",
        "buckets",
        "bytes_received",
        "bytes_sent",
        "in_flight",
        "panic_picks",
        "paused",
        "requests",
        "seconds",
    )

    def __init__(self) -> None:
        self._reported = (0.0, 0, 0)
        self.panic_picks = 0
        self.requests = [0] * 10
        self.buckets = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0
        self.in_flight = 0
        self.paused = 0
        self.bytes_received = 0
        self.bytes_sent = 0

    def record(self, status: int, seconds: float) -> None:
        """Count a finished request that was answered with `status` after `seconds`."""
        self.requests[status // 100] += 1
        self.buckets[bisect_left(BUCKETS, seconds)] += 1
        self.seconds += seconds

    def has_changed(self) -> bool:
        """Whether anything was counted since the last time that this was asked."""
        reported, self._reported = self._reported, (self.seconds, self.in_flight, self.paused)
        return reported != self._reported

    def values(self) -> list[float]:
        """All of them in one list, for `load`."""
        return [
            self.seconds,
            self.bytes_received,
            self.bytes_sent,
            self.in_flight,
            self.paused,
            self.panic_picks,
            *self.requests,
            *self.buckets,
        ]

    def load(self, values: list[float]) -> None:
        """Take over what `values` gave in another process."""
        self.seconds, received, sent, in_flight, paused, panic_picks = values[:6]
        self.bytes_received, self.bytes_sent = int(received), int(sent)
        self.in_flight, self.paused = int(in_flight), int(paused)
        self.panic_picks = int(panic_picks)
        self.requests = [int(count) for count in values[6:16]]
        self.buckets = [int(count) for count in values[16:]]

    def add(self, other: "RouteCounters", with_gauges: bool) -> None:
        """Count in what `other` has counted."""
        self.seconds += other.seconds
        self.panic_picks += other.panic_picks
        self.bytes_received += other.bytes_received
        self.bytes_sent += other.bytes_sent
        if with_gauges:
            self.in_flight += other.in_flight
            self.paused += other.paused
        self.requests = [a + b for a, b in zip(self.requests, other.requests, strict=True)]
        self.buckets = [a + b for a, b in zip(self.buckets, other.buckets, strict=True)]


class Metrics:
    """All counters of a worker.

    `routes` has a key (Route.key) only for configured routes that had a request, so that what
    clients send never makes a label. `unrouted` counts requests that were answered before their
    route was known. `upstream_errors` counts by kind of failure, `reloads` by "ok" and "failed",
    `health_checks` by "passed" and "failed". `upstream_up` is 1 or 0 for each target whose checks
    have said something. `shortages` counts what the kernel refused us, by the name of the error;
    `idle_clients_closed` and `idle_upstreams_closed` made room for others. `buffered` bytes wait
    for peers that read slowly, of which `slow_peers_cut` were cut.
    """

    def __init__(self) -> None:
        self.routes: dict[str, RouteCounters] = {}
        self.unrouted = RouteCounters()
        self.upstream_errors: dict[str, int] = defaultdict(int)
        self.upstream_up: dict[str, int] = {}
        self.health_checks = {"passed": 0, "failed": 0}
        self.retries = 0
        self.pool_hits = 0
        self.pool_misses = 0
        self.connections_accepted = 0
        self.connections_rejected = 0
        self.connections_open = 0
        self.tunnels_open = 0
        self.table_version = 0
        self.table_routes = 0
        self.routes_invalid = 0
        self.routes_unavailable = 0
        self.reload_ok = False
        self.reloads = {"ok": 0, "failed": 0}
        self.access_log_dropped = 0
        self.log_dropped = 0
        self._dropped: list[str] = []
        self.proxy_protocol_errors = 0
        self.upstream_connections_open = 0
        self.upstream_connections_idle = 0
        self.descriptors_used = 0
        self.descriptors_limit = 0
        self.idle_clients_closed = 0
        self.idle_upstreams_closed = 0
        self.slow_peers_cut = 0
        self.buffered = 0
        self.buffered_limit = 0
        self.shortages: dict[str, int] = {}

    def route(self, key: str) -> RouteCounters:
        """The counters of the configured route `key`."""
        counters = self.routes.get(key)
        if counters is None:
            counters = self.routes[key] = RouteCounters()
        return counters

    def drop(self, keys: Iterable[str]) -> None:
        """Drop the counters of routes that are gone.

        A request in flight on such a route counts on into an object that nobody shows.
        """
        for key in keys:
            if self.routes.pop(key, None) is not None:
                self._dropped.append(key)

    def changes(self) -> Changes:
        """What has changed since the last call, as JSON can carry it, for `apply`."""
        routes = {
            key: counters.values()
            for key, counters in self.routes.items()
            if counters.has_changed()
        }
        dropped, self._dropped = self._dropped, []
        reported: Changes = {name: getattr(self, name) for name in (*_COUNTERS, *_GAUGES, *_STATES)}
        reported |= {name: dict(getattr(self, name)) for name in (*_TABLES, "upstream_up")}
        return reported | {"routes": routes, "dropped": dropped, "unrouted": self.unrouted.values()}

    def apply(self, changes: Changes) -> None:
        """Bring these counters to where those of another process are."""
        for name in (*_COUNTERS, *_GAUGES, *_STATES):
            setattr(self, name, changes[name])
        for name in _TABLES:
            getattr(self, name).update(changes[name])
        self.upstream_up = changes["upstream_up"]
        # A route that was dropped can be back already.
        self.drop(changes["dropped"])
        self._dropped.clear()
        for key, values in changes["routes"].items():
            self.route(key).load(values)
        self.unrouted.load(changes["unrouted"])

    def add(self, other: "Metrics", with_gauges: bool = True) -> None:
        """Count in what `other` has counted; without gauges if it counts no more."""
        for name in (*_COUNTERS, *(_GAUGES if with_gauges else ())):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in _TABLES:
            mine = getattr(self, name)
            for key, count in getattr(other, name).items():
                mine[key] = mine.get(key, 0) + count
        for key, counters in other.routes.items():
            self.route(key).add(counters, with_gauges)
        self.unrouted.add(other.unrouted, with_gauges)

    def merge_states(self, others: Sequence["Metrics"]) -> None:
        """Say of the route table and its targets what holds for all of `others`."""
        for name in _STATES:
            setattr(self, name, min((getattr(each, name) for each in others), default=0))
        for each in others:
            for target, up in each.upstream_up.items():
                self.upstream_up[target] = min(up, self.upstream_up.get(target, 1))

"""Owns what is counted, and how it reads in the Prometheus text format.

The path of a request counts in plain integers (0.2 us, where prometheus-client's own counters take
over 1 us); prometheus-client sees them only when somebody scrapes, through `_Collector`.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import accumulate

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.utils import floatToGoString

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
_BUCKET_LABELS = (*map(floatToGoString, BUCKETS), "+Inf")
# These classes exist from a route's first request on, so that a rate over its first error is seen.
_USUAL_CLASSES = range(2, 6)


class RouteCounters:
    """The counters of one route; only the loop's thread changes them.

    `requests` is indexed by status // 100 (up to 9: an upstream may answer 999); `buckets` holds,
    not cumulative, the requests up to each of `BUCKETS` and those beyond; `seconds` is their sum;
    bytes are those of bodies: received from clients, sent to clients; `all_out` are the requests
    for which no target was well, and one was tried nevertheless.
    """

    __slots__ = (
        "all_out",
        "buckets",
        "bytes_received",
        "bytes_sent",
        "in_flight",
        "requests",
        "seconds",
    )

    def __init__(self) -> None:
        self.all_out = 0
        self.requests = [0] * 10
        self.buckets = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0
        self.in_flight = 0
        self.bytes_received = 0
        self.bytes_sent = 0

    def record(self, status: int, seconds: float) -> None:
        """Count a finished request that was answered with `status` after `seconds`."""
        self.requests[status // 100] += 1
        self.buckets[bisect_left(BUCKETS, seconds)] += 1
        self.seconds += seconds


class Metrics:
    """All counters of a worker.

    `routes` has a key (Route.domain) only for configured routes that had a request, so that what
    clients send never makes a label. `unrouted` counts requests that were answered before their
    route was known. `upstream_errors` counts by kind of failure, `reloads` by "ok" and "failed",
    `health_checks` by "passed" and "failed". `upstream_up` is 1 or 0 for each target whose checks
    have said something.
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
        self.connections_refused = 0
        self.connections_open = 0
        self.tunnels_open = 0
        self.table_version = 0
        self.table_routes = 0
        self.routes_refused = 0
        self.reload_ok = False
        self.reloads = {"ok": 0, "failed": 0}
        self.access_log_dropped = 0
        self._registry = CollectorRegistry()
        self._registry.register(_Collector(self))
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def route(self, domain: str) -> RouteCounters:
        """The counters of the configured route `domain`."""
        counters = self.routes.get(domain)
        if counters is None:
            counters = self.routes[domain] = RouteCounters()
        return counters

    def drop(self, domains: Iterable[str]) -> None:
        """Drop the counters of routes that are gone.

        A request in flight on such a route counts on into an object that nobody shows.
        """
        for domain in domains:
            self.routes.pop(domain, None)

    def render(self) -> bytes:
        """Everything in the Prometheus text format. May run beside the loop, in a thread."""
        return generate_latest(self._registry)


@cache
def _version() -> str:
    try:
        return version("fairlead")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "unknown"


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value)


def _counters(name: str, text: str, label: str, values: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    # list() of a view is one step of the interpreter: the loop cannot add a key in between.
    for key, value in list(values.items()):
        family.add_metric([key], value)
    return family


class _Collector:
    """Turns the plain counters into prometheus-client's families, for one scrape."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        m = self._metrics
        routes = [("", m.unrouted), *list(m.routes.items())]
        yield from _collect_requests(routes)
        yield _counters(
            "fairlead_upstream_errors",
            "Failures of upstreams, by kind.",
            "kind",
            m.upstream_errors,
        )
        yield _counter(
            "fairlead_upstream_retries",
            "Requests passed on to the next target, or sent a second time.",
            m.retries,
        )
        yield _counter(
            "fairlead_upstream_pool_hits",
            "Exchanges that found an idle connection to their target.",
            m.pool_hits,
        )
        yield _counter(
            "fairlead_upstream_pool_misses",
            "Exchanges that needed a new connection to their target.",
            m.pool_misses,
        )
        yield from _collect_health(m)
        yield _gauge(
            "fairlead_client_connections_open", "Client connections now.", m.connections_open
        )
        yield _counter(
            "fairlead_client_connections_accepted",
            "Client connections accepted.",
            m.connections_accepted,
        )
        yield _counter(
            "fairlead_client_connections_refused",
            "Client connections closed at once, because there were too many.",
            m.connections_refused,
        )
        yield _gauge("fairlead_tunnels_open", "Tunnels (after a 101) now.", m.tunnels_open)
        yield _gauge(
            "fairlead_routes_version", "Version of the route table that is served.", m.table_version
        )
        yield _gauge("fairlead_routes", "Routes that are served.", m.table_routes)
        yield _gauge(
            "fairlead_routes_refused", "Rows that were skipped as no route.", m.routes_refused
        )
        yield _gauge(
            "fairlead_routes_last_reload_successful",
            "1 if the last look at the route database succeeded.",
            m.reload_ok,
        )
        yield _counters(
            "fairlead_routes_reloads", "Loads of the route table, by result.", "result", m.reloads
        )
        yield _counter(
            "fairlead_access_log_dropped",
            "Lines of the access log that could not be written.",
            m.access_log_dropped,
        )
        build = GaugeMetricFamily("fairlead_build_info", "The running version.", labels=["version"])
        build.add_metric([_version()], 1)
        yield build


def _collect_health(m: Metrics) -> Iterator[Metric]:
    up = GaugeMetricFamily(
        "fairlead_upstream_up",
        "1 if a target that is checked gets requests, 0 if it is out.",
        labels=["target"],
    )
    for address, value in list(m.upstream_up.items()):
        up.add_metric([address], value)
    yield up
    yield _counters(
        "fairlead_health_checks", "Active checks of targets, by result.", "result", m.health_checks
    )
    all_out = {domain: counters.all_out for domain, counters in list(m.routes.items())}
    yield _counters(
        "fairlead_upstream_all_out",
        "Requests for which all targets were out, so that one was tried nevertheless.",
        "route",
        all_out,
    )


def _collect_requests(routes: Iterable[tuple[str, RouteCounters]]) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "fairlead_http_requests",
        "Requests answered, by route and class of status.",
        labels=["route", "code"],
    )
    duration = HistogramMetricFamily(
        "fairlead_http_request_duration_seconds",
        "Seconds from the head of a request to the end of its response.",
        labels=["route"],
    )
    in_flight = GaugeMetricFamily(
        "fairlead_http_requests_in_flight", "Requests that are being served.", labels=["route"]
    )
    received = CounterMetricFamily(
        "fairlead_http_request_body_bytes", "Bytes of request bodies.", labels=["route"]
    )
    sent = CounterMetricFamily(
        "fairlead_http_response_body_bytes", "Bytes of response bodies.", labels=["route"]
    )
    for domain, counters in routes:
        label = [domain]
        for code, count in enumerate(counters.requests):
            if count or code in _USUAL_CLASSES:
                requests.add_metric([domain, f"{code}xx"], count)
        buckets = list(zip(_BUCKET_LABELS, accumulate(counters.buckets), strict=True))
        duration.add_metric(label, buckets, counters.seconds)
        in_flight.add_metric(label, counters.in_flight)
        received.add_metric(label, counters.bytes_received)
        sent.add_metric(label, counters.bytes_sent)
    yield from (requests, duration, in_flight, received, sent)

"""Owns how the counters read in the Prometheus text format: prometheus-client sees them only when
somebody scrapes, through `_Collector`.
"""

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
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from edge.metrics import BUCKETS, Metrics, RouteCounters

_BUCKET_LABELS = (*map(floatToGoString, BUCKETS), "+Inf")
# These classes exist from a route's first request on, so that a rate over its first error is seen.
_USUAL_CLASSES = range(2, 6)


def render(metrics: Metrics, *others: Collector) -> bytes:
    """Everything in the Prometheus text format, and what `others` collect.

    May run beside the loop that counts, in a thread.
    """
    registry = CollectorRegistry()
    for collector in (_Collector(metrics), *others):
        registry.register(collector)
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    return generate_latest(registry)


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


class _Collector(Collector):
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
        yield _counter(
            "fairlead_proxy_protocol_errors",
            "Connections of trusted proxies closed for want of a sound PROXY header.",
            m.proxy_protocol_errors,
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
    panic_picks = {domain: counters.panic_picks for domain, counters in list(m.routes.items())}
    yield _counters(
        "fairlead_upstream_all_out",
        "Requests for which all targets were out, so that one was tried nevertheless.",
        "route",
        panic_picks,
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
    held = GaugeMetricFamily(
        "fairlead_http_requests_held", "Requests that wait for a paused route.", labels=["route"]
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
        held.add_metric(label, counters.held)
        received.add_metric(label, counters.bytes_received)
        sent.add_metric(label, counters.bytes_sent)
    yield from (requests, duration, in_flight, held, received, sent)

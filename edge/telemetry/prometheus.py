"""Owns how the counters read in the Prometheus text format: prometheus-client sees them only when
somebody scrapes, through `_Collector`.
"""

from collections.abc import Iterable, Iterator
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

from edge.telemetry.metrics import BUCKETS, Metrics, RouteCounters

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
            "Upstream failures by kind.",
            "kind",
            m.upstream_errors,
        )
        yield _counter(
            "fairlead_upstream_retries",
            "Requests retried on another target or sent a second time.",
            m.retries,
        )
        yield _counter(
            "fairlead_upstream_pool_hits",
            "Requests sent on an idle pooled connection.",
            m.pool_hits,
        )
        yield _counter(
            "fairlead_upstream_pool_misses",
            "Requests that needed a new upstream connection.",
            m.pool_misses,
        )
        yield from _collect_health(m)
        yield _gauge(
            "fairlead_client_connections_open",
            "Client connections currently open.",
            m.connections_open,
        )
        yield _counter(
            "fairlead_client_connections_accepted",
            "Client connections accepted.",
            m.connections_accepted,
        )
        yield _counter(
            "fairlead_client_connections_rejected",
            "Client connections rejected because of FAIRLEAD_MAX_CONNECTIONS or few descriptors.",
            m.connections_rejected,
        )
        yield _counter(
            "fairlead_proxy_protocol_errors",
            "Connections closed because of a missing or invalid PROXY header.",
            m.proxy_protocol_errors,
        )
        yield _gauge(
            "fairlead_tunnels_open",
            "Tunnels (WebSocket and other upgrades) currently open.",
            m.tunnels_open,
        )
        yield from _collect_budget(m)
        yield _gauge(
            "fairlead_route_table_version",
            "Version of the route table being served.",
            m.table_version,
        )
        yield _gauge("fairlead_routes", "Routes being served.", m.table_routes)
        yield _gauge(
            "fairlead_routes_invalid",
            "Invalid rows of the route database, which are answered 503 or skipped.",
            m.routes_invalid,
        )
        yield _gauge(
            "fairlead_routes_unavailable",
            "Routes answered 503 because the orchestrator has withdrawn or not yet confirmed their"
            " targets.",
            m.routes_unavailable,
        )
        yield _gauge(
            "fairlead_routes_last_reload_successful",
            "Whether the route database could be read the last time, 1 or 0.",
            m.reload_ok,
        )
        yield _counters(
            "fairlead_routes_reloads", "Loads of the route table by result.", "result", m.reloads
        )
        yield _counter(
            "fairlead_access_log_dropped_lines",
            "Access log lines dropped because they could not be written.",
            m.access_log_dropped,
        )
        yield _counter(
            "fairlead_log_dropped_lines",
            "Log lines dropped because standard error was not read.",
            m.log_dropped,
        )


def _collect_budget(m: Metrics) -> Iterator[Metric]:
    yield _gauge(
        "fairlead_upstream_connections_open",
        "Upstream connections currently open, idle ones and attempts among them.",
        m.upstream_connections_open,
    )
    yield _gauge(
        "fairlead_upstream_connections_idle",
        "Idle upstream connections of all pools.",
        m.upstream_connections_idle,
    )
    yield _gauge(
        "fairlead_descriptors_used", "File descriptors in use by workers.", m.descriptors_used
    )
    yield _gauge(
        "fairlead_descriptors_limit",
        "File descriptors that workers may have (LimitNOFILE, ulimit -n).",
        m.descriptors_limit,
    )
    yield _counter(
        "fairlead_idle_clients_closed",
        "Idle client connections closed early to make room for others.",
        m.idle_clients_closed,
    )
    yield _counter(
        "fairlead_idle_upstreams_closed",
        "Idle upstream connections closed early to make room for others.",
        m.idle_upstreams_closed,
    )
    yield _gauge(
        "fairlead_buffered_bytes",
        "Bytes that wait for slow clients and upstreams.",
        m.buffered,
    )
    yield _gauge(
        "fairlead_buffered_limit_bytes",
        "Bytes that may wait for slow clients and upstreams.",
        m.buffered_limit,
    )
    yield _counter(
        "fairlead_slow_peers_cut",
        "Client connections and tunnels cut because too many bytes waited for slow peers.",
        m.slow_peers_cut,
    )
    yield _counters(
        "fairlead_shortages",
        "System calls refused because a limit of the process or the machine was reached.",
        "error",
        m.shortages,
    )


def _collect_health(m: Metrics) -> Iterator[Metric]:
    up = GaugeMetricFamily(
        "fairlead_upstream_up",
        "1 if a checked target is healthy, 0 if it is unhealthy or ejected.",
        labels=["target"],
    )
    for address, value in list(m.upstream_up.items()):
        up.add_metric([address], value)
    yield up
    yield _counters(
        "fairlead_health_checks", "Active health checks by result.", "result", m.health_checks
    )
    panic_picks = {key: counters.panic_picks for key, counters in list(m.routes.items())}
    yield _counters(
        "fairlead_upstream_panic_picks",
        "Requests sent to an unavailable target because no target was available.",
        "route",
        panic_picks,
    )


def _collect_requests(routes: Iterable[tuple[str, RouteCounters]]) -> Iterator[Metric]:
    requests = CounterMetricFamily(
        "fairlead_http_requests",
        "Requests by route and status class.",
        labels=["route", "code"],
    )
    duration = HistogramMetricFamily(
        "fairlead_http_request_duration_seconds",
        "Time from the request head to the end of the response.",
        labels=["route"],
    )
    in_flight = GaugeMetricFamily(
        "fairlead_http_requests_in_flight", "Requests in flight.", labels=["route"]
    )
    paused = GaugeMetricFamily(
        "fairlead_http_requests_paused", "Requests waiting for a paused route.", labels=["route"]
    )
    received = CounterMetricFamily(
        "fairlead_http_request_body_bytes",
        "Request body bytes received from clients.",
        labels=["route"],
    )
    sent = CounterMetricFamily(
        "fairlead_http_response_body_bytes",
        "Response body bytes sent to clients.",
        labels=["route"],
    )
    for key, counters in routes:
        label = [key]
        for code, count in enumerate(counters.requests):
            if count or code in _USUAL_CLASSES:
                requests.add_metric([key, f"{code}xx"], count)
        buckets = list(zip(_BUCKET_LABELS, accumulate(counters.buckets), strict=True))
        duration.add_metric(label, buckets, counters.seconds)
        in_flight.add_metric(label, counters.in_flight)
        paused.add_metric(label, counters.paused)
        received.add_metric(label, counters.bytes_received)
        sent.add_metric(label, counters.bytes_sent)
    yield from (requests, duration, in_flight, paused, received, sent)

"""Proves the counters and their Prometheus text, as Prometheus's own parser reads it."""

from prometheus_client.parser import text_string_to_metric_families

from edge.telemetry.metrics import BUCKETS, Metrics, RouteCounters
from edge.telemetry.prometheus import render

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(metrics: Metrics) -> Samples:
    """What a scrape sees: (name, labels) to value."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(render(metrics).decode())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """One sample of a scrape; None where it is missing."""
    return scrape(metrics).get((name, frozenset(labels.items())))


class TestRouteCounters:
    def test_a_request_counts_in_its_class_its_bucket_and_the_sum_of_seconds(self) -> None:
        counters = RouteCounters()
        counters.record(204, 0.003)
        assert counters.requests[2] == 1
        assert counters.buckets[BUCKETS.index(0.005)] == 1
        assert counters.seconds == 0.003
        assert sum(counters.requests) == sum(counters.buckets) == 1

    def test_a_bound_belongs_to_its_own_bucket(self) -> None:
        counters = RouteCounters()
        counters.record(200, 0.005)
        assert counters.buckets[BUCKETS.index(0.005)] == 1

    def test_what_is_beyond_the_last_bound_counts_in_the_last_bucket(self) -> None:
        counters = RouteCounters()
        counters.record(200, BUCKETS[-1] + 1)
        assert counters.buckets[-1] == 1

    def test_a_status_that_http_does_not_define_is_counted_all_the_same(self) -> None:
        counters = RouteCounters()
        counters.record(999, 0.1)
        assert counters.requests[9] == 1


class TestRoutes:
    def test_a_route_keeps_its_counters(self) -> None:
        metrics = Metrics()
        assert metrics.route("app.test") is metrics.route("app.test")
        assert metrics.route("app.test") is not metrics.route("other.test")

    def test_the_counters_of_a_route_that_is_gone_can_be_dropped(self) -> None:
        metrics = Metrics()
        metrics.route("kept.test").record(200, 0.1)
        metrics.route("gone.test").record(200, 0.1)
        metrics.drop(["gone.test"])
        assert list(metrics.routes) == ["kept.test"]
        assert b"gone.test" not in render(metrics)

    def test_a_route_that_was_dropped_already_can_be_dropped(self) -> None:
        metrics = Metrics()
        metrics.drop(["never.test"])
        assert metrics.routes == {}


class TestText:
    def test_requests_are_shown_by_route_and_class_of_status(self) -> None:
        metrics = Metrics()
        metrics.route("app.test/api").record(200, 0.1)
        metrics.route("app.test/api").record(503, 0.1)
        metrics.unrouted.record(404, 0.1)
        name = "fairlead_http_requests_total"
        assert value(metrics, name, route="app.test/api", code="2xx") == 1
        assert value(metrics, name, route="app.test/api", code="5xx") == 1
        assert value(metrics, name, route="", code="4xx") == 1

    def test_the_usual_classes_are_shown_before_their_first_request(self) -> None:
        metrics = Metrics()
        metrics.route("app.test")
        shown = {
            dict(labels)["code"]: sample
            for (name, labels), sample in scrape(metrics).items()
            if name == "fairlead_http_requests_total" and ("route", "app.test") in labels
        }
        assert shown == {"2xx": 0, "3xx": 0, "4xx": 0, "5xx": 0}

    def test_an_unusual_class_is_shown_from_its_first_request_on(self) -> None:
        metrics = Metrics()
        metrics.unrouted.record(101, 0.1)
        assert value(metrics, "fairlead_http_requests_total", route="", code="1xx") == 1

    def test_the_histogram_is_cumulative_and_ends_with_the_count(self) -> None:
        metrics = Metrics()
        for seconds in (0.0005, 0.002, 0.002, 100.0):
            metrics.route("app.test").record(200, seconds)
        name = "fairlead_http_request_duration_seconds"
        assert value(metrics, f"{name}_bucket", route="app.test", le="0.001") == 1
        assert value(metrics, f"{name}_bucket", route="app.test", le="0.0025") == 3
        assert value(metrics, f"{name}_bucket", route="app.test", le="60.0") == 3
        assert value(metrics, f"{name}_bucket", route="app.test", le="+Inf") == 4
        assert value(metrics, f"{name}_count", route="app.test") == 4
        assert value(metrics, f"{name}_sum", route="app.test") == 100.0045

    def test_what_is_in_flight_and_the_bytes_are_shown_by_route(self) -> None:
        metrics = Metrics()
        counters = metrics.route("app.test")
        counters.in_flight = 3
        counters.bytes_received = 10
        counters.bytes_sent = 20
        assert value(metrics, "fairlead_http_requests_in_flight", route="app.test") == 3
        assert value(metrics, "fairlead_http_request_body_bytes_total", route="app.test") == 10
        assert value(metrics, "fairlead_http_response_body_bytes_total", route="app.test") == 20

    def test_upstream_errors_are_shown_by_kind(self) -> None:
        metrics = Metrics()
        metrics.upstream_errors["connect_timeout"] += 1
        assert value(metrics, "fairlead_upstream_errors_total", kind="connect_timeout") == 1

    def test_reloads_are_shown_by_result_also_before_the_first(self) -> None:
        metrics = Metrics()
        metrics.reloads["ok"] += 2
        assert value(metrics, "fairlead_routes_reloads_total", result="ok") == 2
        assert value(metrics, "fairlead_routes_reloads_total", result="failed") == 0

    def test_every_single_counter_and_gauge_has_its_name(self) -> None:
        metrics = Metrics()
        metrics.retries = 1
        metrics.pool_hits = 2
        metrics.pool_misses = 3
        metrics.connections_open = 4
        metrics.connections_accepted = 5
        metrics.connections_rejected = 6
        metrics.tunnels_open = 7
        metrics.table_version = 8
        metrics.table_routes = 9
        metrics.routes_invalid = 10
        metrics.access_log_dropped = 11
        metrics.proxy_protocol_errors = 12
        metrics.routes_unavailable = 19
        metrics.upstream_connections_open = 13
        metrics.upstream_connections_idle = 14
        metrics.descriptors_used = 15
        metrics.descriptors_limit = 16
        metrics.idle_clients_closed = 17
        metrics.idle_upstreams_closed = 18
        metrics.buffered = 41
        metrics.buffered_limit = 42
        metrics.slow_peers_cut = 43
        metrics.log_dropped = 20
        metrics.reload_ok = True
        samples = scrape(metrics)
        shown = {
            name.removeprefix("fairlead_"): sample
            for (name, labels), sample in samples.items()
            if name.startswith("fairlead_") and not labels
        }
        assert shown == {
            "upstream_retries_total": 1,
            "upstream_pool_hits_total": 2,
            "upstream_pool_misses_total": 3,
            "client_connections_open": 4,
            "client_connections_accepted_total": 5,
            "client_connections_rejected_total": 6,
            "tunnels_open": 7,
            "route_table_version": 8,
            "routes": 9,
            "routes_invalid": 10,
            "routes_unavailable": 19,
            "access_log_dropped_lines_total": 11,
            "proxy_protocol_errors_total": 12,
            "upstream_connections_open": 13,
            "upstream_connections_idle": 14,
            "descriptors_used": 15,
            "descriptors_limit": 16,
            "idle_clients_closed_total": 17,
            "idle_upstreams_closed_total": 18,
            "buffered_bytes": 41,
            "buffered_limit_bytes": 42,
            "slow_peers_cut_total": 43,
            "log_dropped_lines_total": 20,
            "routes_last_reload_successful": 1,
        }

    def test_the_last_reload_is_not_successful_before_it_was(self) -> None:
        assert value(Metrics(), "fairlead_routes_last_reload_successful") == 0

    def test_a_domain_with_quotes_cannot_break_out_of_its_label(self) -> None:
        metrics = Metrics()
        domain = 'a"} 1\nb\\'
        metrics.route(domain)
        assert value(metrics, "fairlead_http_requests_in_flight", route=domain) == 0

    def test_the_process_and_the_garbage_collector_are_shown(self) -> None:
        text = render(Metrics()).decode()
        assert "process_resident_memory_bytes" in text
        assert "python_gc_collections_total" in text

    def test_every_worker_has_metrics_of_its_own(self) -> None:
        first, second = Metrics(), Metrics()
        first.retries = 1
        assert value(second, "fairlead_upstream_retries_total") == 0


def test_a_request_that_is_held_no_longer_is_told_while_it_is_in_flight() -> None:
    counted, shown = Metrics(), Metrics()
    route = counted.route("app.test")
    route.in_flight, route.paused = 1, 1
    shown.apply(counted.changes())
    route.paused = 0
    shown.apply(counted.changes())
    assert (shown.route("app.test").in_flight, shown.route("app.test").paused) == (1, 0)

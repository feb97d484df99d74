"""Owns the Prometheus metrics: deploys, their steps, webhooks, the queue, the engine, the disk."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

# The version of the text format that every Prometheus reads, and that the edge writes too.
METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
# Apps that have lines of their own; all others share one, so that a scrape stays bounded.
MAX_APPS: Final = 1000
OTHER_APPS: Final = "other"
# Seconds. A switch takes milliseconds, a build many minutes.
_BUCKETS: Final = (0.01, 0.05, 0.15, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)


class _DroppedLines(Collector):
    """What is counted elsewhere."""

    def __init__(self, dropped: Callable[[], int]) -> None:
        self._dropped = dropped

    def collect(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily(
            "fairlead_log_dropped_lines",
            "Log lines dropped because standard error was not read.",
            value=self._dropped(),
        )


class Metrics:
    """The metrics of one orchestrator."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._apps: set[str] = set()
        self._deploys = Counter(
            "fairlead_deploys",
            "Deploys finished, by result.",
            ["app", "result"],
            registry=self._registry,
        )
        self._steps = Histogram(
            "fairlead_deploy_step_duration_seconds",
            "Duration of deploy steps in seconds.",
            ["step", "result"],
            registry=self._registry,
            buckets=_BUCKETS,
        )
        self._webhooks = Counter(
            "fairlead_webhook_deliveries",
            "Webhook deliveries received, by provider and decision.",
            ["provider", "decision"],
            registry=self._registry,
        )
        self._pruned = Counter(
            "fairlead_pruned_items",
            "What was removed because it was too old or too much, by kind.",
            ["kind"],
            registry=self._registry,
        )
        self._pruned_bytes = Counter(
            "fairlead_pruned_bytes",
            "Bytes of what was removed, by kind.",
            ["kind"],
            registry=self._registry,
        )
        self._free = Gauge(
            "fairlead_disk_free_bytes",
            "Free bytes of the disks of the database and of the engine.",
            ["disk"],
            registry=self._registry,
        )
        self._written = Gauge(
            "fairlead_app_written_bytes",
            "Bytes that the app's containers have written, while the engine's disk has less free"
            " than FAIRLEAD_MIN_FREE.",
            ["app"],
            registry=self._registry,
        )
        self._queued = self._gauge("fairlead_deploys_queued", "Deploys waiting in the queue.")
        self._running = self._gauge("fairlead_deploys_running", "Deploys currently running.")
        self._engine_up = self._gauge(
            "fairlead_docker_engine_up", "1 if the Docker Engine answers, 0 if it does not."
        )
        self._pause = self._gauge(
            "fairlead_orchestrator_loop_pause_max_seconds",
            "Longest pause of the event loop in the last one to two minutes, in seconds.",
        )

    def watch(
        self,
        queued: Callable[[], int],
        running: Callable[[], int],
        engine_up: Callable[[], bool],
        longest_pause: Callable[[], float],
        log_dropped: Callable[[], int],
    ) -> None:
        """Ask these at every scrape."""
        self._queued.set_function(queued)
        self._running.set_function(running)
        self._engine_up.set_function(engine_up)
        self._pause.set_function(longest_pause)
        self._registry.register(_DroppedLines(log_dropped))

    def deploy_finished(self, app: str, result: str) -> None:
        """A deploy ended; `result` is its state."""
        if app not in self._apps:
            if len(self._apps) >= MAX_APPS:
                app = OTHER_APPS
            else:
                self._apps.add(app)
        self._deploys.labels(app, result).inc()

    def step_finished(self, step: str, result: str, seconds: float) -> None:
        """A step ended; `result` is "done" or "failed"."""
        self._steps.labels(step, result).observe(seconds)

    def delivery_decided(self, provider: str, decision: str) -> None:
        """A delivery was decided; both are words of our own, never of the sender."""
        self._webhooks.labels(provider, decision).inc()

    def pruned(self, kind: str, count: int, size: int) -> None:
        """So many of a kind were removed, and so many bytes with them."""
        self._pruned.labels(kind).inc(count)
        self._pruned_bytes.labels(kind).inc(size)

    def disk_free(self, disk: str, size: int) -> None:
        """So many bytes were free at the last look."""
        self._free.labels(disk).set(size)

    def written(self, sizes: Mapping[str, int]) -> None:
        """Bytes by app, of the apps that have written most; of no other one."""
        self._written.clear()
        for app, size in sorted(sizes.items(), key=lambda each: -each[1])[:MAX_APPS]:
            self._written.labels(app).set(size)

    def render(self) -> bytes:
        """All metrics in the Prometheus text format."""
        return generate_latest(self._registry)

    def _gauge(self, name: str, meaning: str) -> Gauge:
        return Gauge(name, meaning, registry=self._registry)

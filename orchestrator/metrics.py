"""Owns the numbers for Prometheus: deploys, their steps, webhooks, the queue and the engine."""

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

# The version of the text format that every Prometheus reads, and that the edge writes too.
METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
# Apps that have lines of their own; all others share one, so that a scrape stays bounded.
MAX_APPS: Final = 1000
OTHER_APPS: Final = "other"
# Seconds. A switch takes milliseconds, a build many minutes.
_BUCKETS: Final = (0.01, 0.05, 0.15, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)


class Metrics:
    """The numbers of one daemon."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._apps: set[str] = set()
        self._deploys = Counter(
            "fairlead_deploys", "Deploys that ended.", ["app", "result"], registry=self._registry
        )
        self._steps = Histogram(
            "fairlead_deploy_step_seconds",
            "How long the steps of deploys took.",
            ["step", "result"],
            registry=self._registry,
            buckets=_BUCKETS,
        )
        self._webhooks = Counter(
            "fairlead_webhooks",
            "Webhook deliveries.",
            ["provider", "decision"],
            registry=self._registry,
        )
        self._waiting = self._gauge("fairlead_deploys_waiting", "Deploys that wait in the queue.")
        self._running = self._gauge("fairlead_deploys_running", "Deploys that run now.")
        self._reachable = self._gauge(
            "fairlead_engine_reachable", "Whether the Docker Engine can be reached (1) or not (0)."
        )

    def watch(
        self, queued: Callable[[], int], running: Callable[[], int], reachable: Callable[[], bool]
    ) -> None:
        """Ask these at every scrape."""
        self._waiting.set_function(queued)
        self._running.set_function(running)
        self._reachable.set_function(reachable)

    def deploy_finished(self, app: str, result: str) -> None:
        """A deploy ended; `result` is its state."""
        if app not in self._apps:
            if len(self._apps) >= MAX_APPS:
                app = OTHER_APPS
            else:
                self._apps.add(app)
        self._deploys.labels(app, result).inc()

    def step_took(self, step: str, result: str, seconds: float) -> None:
        """A step ended; `result` is "done", "failed" or "undone"."""
        self._steps.labels(step, result).observe(seconds)

    def webhook(self, provider: str, decision: str) -> None:
        """A delivery was decided; both are words of our own, never of the sender."""
        self._webhooks.labels(provider, decision).inc()

    def render(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self._registry)

    def _gauge(self, name: str, meaning: str) -> Gauge:
        return Gauge(name, meaning, registry=self._registry)

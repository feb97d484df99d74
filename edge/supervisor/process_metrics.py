"""Owns what a scrape says of the worker processes, and of upgrades."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from edge.supervisor.slot import Slot


class WorkerCollector(Collector):
    """What is known of each worker's process, and of the upgrades."""

    def __init__(self, slots: Sequence[Slot], upgrades: Mapping[str, int]) -> None:
        self._slots = slots
        self._upgrades = upgrades

    def collect(self) -> Iterator[Metric]:
        serving = sum(slot.serving.is_set() for slot in self._slots)
        yield GaugeMetricFamily(
            "fairlead_workers_serving", "Worker processes that are serving.", serving
        )
        restarts = CounterMetricFamily(
            "fairlead_worker_restarts", "Restarts of worker processes.", labels=["worker"]
        )
        for slot in self._slots:
            restarts.add_metric([str(slot.number)], slot.restarts)
        yield restarts
        upgrades = CounterMetricFamily(
            "fairlead_upgrades",
            "Upgrades by result since the edge was first started.",
            labels=["result"],
        )
        for result, count in self._upgrades.items():
            upgrades.add_metric([result], count)
        yield upgrades
        build = GaugeMetricFamily(
            "fairlead_build_info",
            "Version of Fairlead, and what of a worker is compiled; the value is always 1.",
            labels=["version", "worker", "codec", "conversation"],
        )
        for slot in self._slots:
            build.add_metric(
                [
                    _version(),
                    str(slot.number),
                    slot.codec or "unknown",
                    slot.conversation or "unknown",
                ],
                1,
            )
        yield build
        yield from self._processes()

    def _processes(self) -> Iterator[Metric]:
        """What the standard process collector says, per worker."""
        families: dict[str, Metric] = {}
        for slot in self._slots:
            for metric in ProcessCollector(pid=_pid_of(slot), registry=None).collect():
                name = metric.name.replace("process_", "fairlead_worker_", 1)
                family = families.setdefault(name, Metric(name, metric.documentation, metric.type))
                for sample in metric.samples:
                    sample_name = sample.name.replace("process_", "fairlead_worker_", 1)
                    family.add_sample(sample_name, {"worker": str(slot.number)}, sample.value)
        yield from families.values()


@cache
def _version() -> str:
    try:
        return version("fairlead")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "unknown"


def _pid_of(slot: Slot) -> Callable[[], int]:
    return lambda: slot.pid

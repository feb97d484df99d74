"""Owns what a scrape says of the worker processes, and of upgrades."""

from collections.abc import Callable, Iterator, Mapping, Sequence

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


def _pid_of(slot: Slot) -> Callable[[], int]:
    return lambda: slot.pid

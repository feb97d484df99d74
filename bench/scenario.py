"""What a scenario is, and how one is run."""

from collections.abc import Callable
from dataclasses import dataclass, field

from bench.errors import BenchError
from bench.lab import Lab
from bench.load import rounds_in_turn
from bench.measure import Series, Verdict
from bench.peers import Contender
from bench.requests import Request

Special = Callable[[Lab, tuple[Contender, ...]], tuple[Series, dict[str, str]]]


@dataclass(frozen=True, slots=True)
class Quantity:
    """A reading that tables and plots show: its name in the rounds, and how to print it."""

    reading: str
    label: str
    unit: str
    decimals: int

    def text(self, value: float) -> str:
        return f"{value:.{self.decimals}f} {self.unit}".rstrip()


CPU = Quantity("cpu_us", "CPU per request", "µs", 1)
CPU_TRANSFER = Quantity("cpu_us", "CPU per transfer", "µs", 0)
LATENCY = Quantity("p50_us", "Latency p50", "µs", 1)
TAIL = Quantity("p99_us", "Latency p99", "µs", 0)
MEMORY = Quantity("added_mb", "Resident memory over the empty worker", "MB", 1)
START = Quantity("seconds", "Exec to first answer", "s", 3)
WAIT = Quantity("ms", "Time", "ms", 1)


@dataclass(frozen=True, slots=True)
class Target:
    """What this release wants to reach: a number made from the series, and its limit."""

    what: str
    verdict: Verdict
    limit: float
    unit: str = ""
    at_least: bool = False

    def reached(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit


@dataclass(frozen=True, slots=True)
class Load:
    """Requests of wrk over some connections; `others` overrides the request by contender."""

    request: Request
    connections: int = 64
    others: dict[str, Request] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Scenario:
    """One thing to measure, for all contenders beside each other."""

    name: str
    title: str
    quantity: Quantity
    contenders: tuple[Contender, ...]
    run: Load | Special
    targets: tuple[Target, ...] = ()
    baseline: str | None = "nginx"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The rounds of all contenders that could be measured, and why the others could not."""

    series: Series
    failures: dict[str, str]


def measure(lab: Lab, scenario: Scenario) -> Outcome:
    """Run a scenario; a contender that fails is reported in the outcome, not raised."""
    try:
        if isinstance(scenario.run, Load):
            load = scenario.run
            requests = {c.name: load.others.get(c.name, load.request) for c in scenario.contenders}
            return Outcome(*rounds_in_turn(lab, scenario.contenders, requests, load.connections))
        return Outcome(*scenario.run(lab, scenario.contenders))
    except BenchError as error:
        return Outcome({}, {contender.name: str(error) for contender in scenario.contenders})

"""The arithmetic of the bench: pure functions from raw readings to ratios and verdicts.

A series is what a scenario measured: for each contender its rounds, in the order in which they
were taken; a round maps the names of readings to numbers. Round n of one contender was taken
beside round n of every other, so ratios are made within a round and only then summed up: the
noise of the machine moves both sides of a ratio.
"""

import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.errors import BenchError

Round = dict[str, float]
Series = dict[str, list[Round]]


@dataclass(frozen=True, slots=True)
class WrkResult:
    """One run of wrk, as `bench.load` has it printed: times in the unit that the name says."""

    requests: int
    seconds: float
    bytes: int
    p50_us: float
    p99_us: float
    socket_errors: int
    bad_statuses: int


def parse_wrk(output: str) -> WrkResult:
    """Read the JSON line that the `done` function of our wrk scripts prints.

    Raises BenchError if there is none: wrk prints no summary when it could not connect.
    """
    for line in output.splitlines():
        if line.startswith("{"):
            return WrkResult(**json.loads(line))
    raise BenchError(f"wrk gave no summary; it said: {output.strip()!r}")


def parse_parent(stat: str) -> int:
    """The parent's process id out of /proc/PID/stat (proc(5)).

    The second field, the name, stands in parentheses and may itself hold blanks and parentheses.
    """
    return int(stat.rpartition(")")[2].split()[1])


def parse_resident(status: str) -> int:
    """Bytes of resident memory out of /proc/PID/status, 0 for a process that has none."""
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    return 0


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some values and how far they went to both sides."""

    median: float
    low: float
    high: float

    @classmethod
    def over(cls, values: Sequence[float]) -> "Spread":
        return cls(statistics.median(values), min(values), max(values))


def readings(series: Series, contender: str, reading: str) -> list[float]:
    """One reading of one contender, round by round."""
    return [taken[reading] for taken in series[contender]]


def ratios(series: Series, contender: str, baseline: str, reading: str) -> list[float]:
    """The contender's reading over the baseline's, each within one round."""
    pairs = zip(
        readings(series, contender, reading), readings(series, baseline, reading), strict=True
    )
    return [ours / theirs for ours, theirs in pairs]


Verdict = Callable[[Series], float]


def median_ratio(contender: str, baseline: str, reading: str) -> Verdict:
    """The median over the rounds of contender / baseline."""
    return lambda series: statistics.median(ratios(series, contender, baseline, reading))


def outside_range(pair: tuple[str, str], reference: tuple[str, str], reading: str) -> Verdict:
    """How far the median ratio of a pair (contender, baseline) lies outside the reference's range.

    0 for one within it.
    """

    def verdict(series: Series) -> float:
        median = statistics.median(ratios(series, *pair, reading))
        spread = Spread.over(ratios(series, *reference, reading))
        return max(0.0, spread.low - median, median - spread.high)

    return verdict


def added_ratio(contender: str, baseline: str, direct: str, reading: str) -> Verdict:
    """What the contender adds to the way without a proxy, over what the baseline adds to it."""

    def verdict(series: Series) -> float:
        rows = zip(
            readings(series, contender, reading),
            readings(series, baseline, reading),
            readings(series, direct, reading),
            strict=True,
        )
        return statistics.median((ours - bare) / (theirs - bare) for ours, theirs, bare in rows)

    return verdict


def median_of(contender: str, reading: str) -> Verdict:
    return lambda series: statistics.median(readings(series, contender, reading))


def worst_of(contender: str, reading: str) -> Verdict:
    return lambda series: max(readings(series, contender, reading))


def p99_of(contender: str, reading: str) -> Verdict:
    """The value that 99 of 100 do not exceed (nearest rank)."""

    def verdict(series: Series) -> float:
        values = sorted(readings(series, contender, reading))
        return values[math.ceil(0.99 * len(values)) - 1]

    return verdict

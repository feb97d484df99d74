"""What a long run says of a program: memory and open files of its processes, and the verdict.

Pure: samples in, text and verdicts out.
"""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from bench.report import table

BAR_MINUTES = 30.0
WARM_MINUTES = 5.0
WARM_SHARE = 1 / 6  # of a run that is shorter than BAR_MINUTES
WINDOW_SHARE = 1 / 30  # one sample can fall into a burst: the median of this part of a run counts
GROWTH_LIMIT = 1.05


@dataclass(frozen=True, slots=True)
class Sample:
    """One look: bytes of resident memory, and open file descriptors, by process."""

    seconds: float
    memory: dict[str, int]
    files: dict[str, int]


def warm_seconds(minutes: float) -> float:
    """When the memory is first judged, from the start of the load."""
    return 60 * (WARM_MINUTES if minutes >= BAR_MINUTES else minutes * WARM_SHARE)


def _around(samples: Sequence[Sample], process: str, begin: float, end: float) -> float:
    inside = [one.memory[process] for one in samples if begin <= one.seconds <= end]
    nearest = min(samples, key=lambda one: abs(one.seconds - begin))
    return statistics.median(inside or [nearest.memory[process]])


@dataclass(frozen=True, slots=True)
class Growth:
    """The memory of one process when it was warm and at the end, in bytes."""

    process: str
    warm: float
    end: float

    @property
    def ratio(self) -> float:
        return self.end / self.warm

    @property
    def passes(self) -> bool:
        return self.ratio <= GROWTH_LIMIT


def growths(samples: Sequence[Sample], minutes: float) -> list[Growth]:
    """How much each process has grown over a run of some minutes; `samples` are in order."""
    window = 60 * minutes * WINDOW_SHARE
    warm, last = warm_seconds(minutes), samples[-1].seconds
    return [
        Growth(
            process,
            _around(samples, process, warm, warm + window),
            _around(samples, process, last - window, last),
        )
        for process in samples[0].memory
    ]


def leaks(before: Sample, after: Sample) -> dict[str, int]:
    """How many descriptors each process has kept that it did not have before."""
    kept = {name: after.files[name] - count for name, count in before.files.items()}
    return {name: more for name, more in kept.items() if more > 0}


def samples_text(before: Sample, samples: Sequence[Sample], after: Sample, minutes: float) -> str:
    """A row for each process: memory before, warm and at the end; descriptors on the way."""
    rows = [
        [
            "",
            *("MB before", "MB warm", "MB at the end", "ratio"),
            *("files before", "files at most", "files after"),
        ]
    ]
    for growth in growths(samples, minutes):
        name = growth.process
        rows.append(
            [
                name,
                f"{before.memory[name] / 1e6:.1f}",
                f"{growth.warm / 1e6:.1f}",
                f"{growth.end / 1e6:.1f}",
                f"{growth.ratio:.3f}",
                str(before.files[name]),
                str(max(one.files[name] for one in samples)),
                str(after.files[name]),
            ]
        )
    return table(rows)

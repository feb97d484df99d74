"""Where the edge's time goes under varied load, seen from below and from above.

perf samples the process with the kernel in it and says which library the time is in; it cannot
name Python functions (CPython 3.11 leaves no trace of them on the stack). py-spy names them, but
counts a call into C as time of its caller. It is used in its non-blocking mode: when it stops the
process for each sample, the samples gather at system calls.
"""

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from bench.errors import BenchError
from bench.lab import Lab
from bench.load import background_load, measure_round
from bench.peers import Contender, running
from bench.report import table
from bench.requests import VARIED

CONNECTIONS = 64
SAMPLE_SECONDS = 5
SAMPLES_PER_SECOND = 999
SHOWN = 30  # rows of a table
KERNEL = "[kernel.kallsyms]"


def parse_perf(report: str) -> list[tuple[float, str, str]]:
    """Percent, library and symbol of each row of `perf report --field-separator=;`."""
    rows = []
    for line in report.splitlines():
        cells = [cell.strip() for cell in line.split(";")]
        if len(cells) >= 3 and cells[0].endswith("%"):
            symbol = cells[2].removeprefix("[k]").removeprefix("[.]").strip()
            rows.append((float(cells[0].rstrip("%")), cells[1], symbol))
    return rows


def parse_stacks(raw: str) -> tuple[Counter[str], Counter[str]]:
    """Samples by function out of py-spy's raw format: in the function itself, and below it too."""
    own: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        own[frames[-1]] += int(count)
        for frame in set(frames):
            whole[frame] += int(count)
    return own, whole


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  a list of ours
    if done.returncode != 0:
        raise BenchError(f"{command[0]} failed: {done.stderr.strip()[-500:]}")
    return done.stdout


def _perf(lab: Lab, pid: int) -> str:
    data = str(lab.folder / "perf.data")
    rate = f"--freq={SAMPLES_PER_SECOND}"
    record = ["perf", "record", rate, f"--pid={pid}", f"--output={data}"]
    _run([*record, "--", "sleep", str(SAMPLE_SECONDS)])
    report = ["perf", "report", f"--input={data}", "--stdio", "--sort=dso,symbol"]
    return _run([*report, "--field-separator=;"])


def _py_spy(lab: Lab, pid: int) -> str:
    raw = lab.folder / "stacks.txt"
    beside = Path(sys.executable).with_name("py-spy")
    _run(
        [
            str(beside) if beside.exists() else "py-spy",
            "record",
            "--nonblocking",
            "--function",
            "--format=raw",
            f"--rate={SAMPLES_PER_SECOND}",
            f"--duration={SAMPLE_SECONDS}",
            f"--output={raw}",
            f"--pid={pid}",
        ]
    )
    return raw.read_text()


def _share(percent: float, request_us: float) -> list[str]:
    return [f"{percent:.1f} %", f"{percent / 100 * request_us:.2f}"]


def _from_below(report: str, request_us: float) -> str:
    rows = parse_perf(report)
    libraries: dict[str, float] = {}
    for percent, library, _ in rows:
        libraries[library] = libraries.get(library, 0.0) + percent
    largest = sorted(libraries.items(), key=lambda item: -item[1])[:SHOWN]
    by_library = [[library, *_share(percent, request_us)] for library, percent in largest]
    by_symbol = [
        [f"{symbol} ({library})", *_share(percent, request_us)]
        for percent, library, symbol in rows
        if library != KERNEL
    ]
    head = ["share", "µs per request"]
    libraries_table = table([["library", *head], *by_library])
    symbols_table = table([["function outside the kernel", *head], *by_symbol[:SHOWN]])
    return f"{libraries_table}\n\n{symbols_table}"


def _from_above(raw: str, request_us: float) -> str:
    own, whole = parse_stacks(raw)
    total = own.total()
    rows = [["Python function", "own share", "µs per request", "with callees", "µs per request"]]
    for function, count in own.most_common(SHOWN):
        rows.append(
            [
                function,
                *_share(100 * count / total, request_us),
                *_share(100 * whole[function] / total, request_us),
            ]
        )
    return table(rows)


def profile_edge(lab: Lab) -> str:
    """Load the edge with varied requests and say where the time goes.

    Raises BenchError if perf is not installed or either profiler fails.
    """
    if shutil.which("perf") is None:
        raise BenchError("perf is missing. Install it: sudo apt-get install linux-perf")
    with running(lab, Contender("fairlead", "fairlead")) as process:
        measured = measure_round(lab, process, VARIED, CONNECTIONS, SAMPLE_SECONDS)
        request_us = measured["cpu_us"]
        with background_load(lab, VARIED, process.port, CONNECTIONS):
            # The supervisor serves nobody.
            worker = process.busiest()
            report, raw = _perf(lab, worker), _py_spy(lab, worker)
    return (
        f"Varied heads, {CONNECTIONS} connections: {request_us:.1f} µs of CPU per request\n\n"
        f"By perf, kernel included\n{_from_below(report, request_us)}\n\n"
        f"By py-spy; calls into C count for the function that makes them\n"
        f"{_from_above(raw, request_us)}\n"
    )

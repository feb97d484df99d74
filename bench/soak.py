"""The command `python -m bench.soak`: an edge with two workers under mixed load for half an hour.

It fails if a process has grown, keeps descriptors, was replaced, or failed somebody.
"""

import asyncio
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click

from bench.errors import BenchError
from bench.lab import QUICK, Lab, open_lab
from bench.machine import ensure_programs
from bench.measure import parse_resident
from bench.mixed_load import MixedLoad
from bench.peers import Contender, launch
from bench.process import Process, family, free_port
from bench.requests import HOST
from bench.samples import (
    BAR_MINUTES,
    GROWTH_LIMIT,
    Sample,
    growths,
    leaks,
    samples_text,
    warm_seconds,
)

WORKERS = 2
SAMPLES = 360  # over the run: one every 5 s of half an hour
SHOWN_FAILURES = 10
POOL_IDLE_SECONDS = 2
# Connections to upstreams, and what is left of clients, end within this time after the load.
QUIET_SECONDS = 4.0 * POOL_IDLE_SECONDS
RETURN_SECONDS = 60.0
LOOK_SECONDS = 0.5


class _Family:
    """The processes of one edge, by name; none of them may end."""

    def __init__(self, process: Process) -> None:
        members = family(process.pid)
        if len(members) != 1 + WORKERS:
            raise BenchError(f"the edge has {len(members)} processes, not {1 + WORKERS}")
        names = ["supervisor", *(f"worker {number}" for number in range(WORKERS))]
        self._folders = {
            name: Path(f"/proc/{pid}") for name, pid in zip(names, sorted(members), strict=True)
        }

    def sample(self, seconds: float) -> Sample:
        """Raises BenchError for a process that has ended."""
        try:
            return Sample(
                seconds,
                {
                    name: parse_resident((folder / "status").read_text())
                    for name, folder in self._folders.items()
                },
                {
                    name: sum(1 for _ in (folder / "fd").iterdir())
                    for name, folder in self._folders.items()
                },
            )
        except (FileNotFoundError, ProcessLookupError) as error:
            raise BenchError(f"a process of the edge has ended: {error}") from error


async def _sampled(
    load: MixedLoad, sample: Callable[[float], Sample], seconds: float
) -> list[Sample]:
    """Run a load; what was seen while it lasted."""
    taken = []
    begun = time.monotonic()
    loading = asyncio.create_task(load.run(seconds))
    try:
        while (passed := time.monotonic() - begun) < seconds and not loading.done():
            taken.append(sample(passed))
            await asyncio.sleep(seconds / SAMPLES)
    except BaseException:
        loading.cancel()
        await asyncio.gather(loading, return_exceptions=True)
        raise
    await loading
    return taken


def _returned(sample: Callable[[float], Sample], before: Sample) -> Sample:
    """The edge after the load, once its descriptors are those of before, or time is over."""
    begun = time.monotonic()
    while True:
        now = sample(time.monotonic() - begun)
        if not leaks(before, now) or now.seconds > RETURN_SECONDS:
            return now
        time.sleep(LOOK_SECONDS)


def _run(lab: Lab, minutes: float) -> list[str]:
    """Measure and print; what is wrong."""
    admin_port = free_port()
    contender = Contender(
        "fairlead",
        "fairlead",
        workers=WORKERS,
        settings=(
            ("FAIRLEAD_POOL_IDLE", str(POOL_IDLE_SECONDS)),
            ("FAIRLEAD_ADMIN_ADDR", f"127.0.0.1:{admin_port}"),
        ),
    )
    process = launch(lab, contender)
    try:
        with process:
            process.wait_until_served(HOST, "/small")
            edge = _Family(process)
            load = MixedLoad(lab, process, admin_port)
            # What is opened once, and stays, is open after a little of everything.
            asyncio.run(load.run(QUIET_SECONDS))
            time.sleep(QUIET_SECONDS)
            before = edge.sample(0.0)
            samples = asyncio.run(_sampled(load, edge.sample, 60 * minutes))
            after = _returned(edge.sample, before)
            said = process.log.read_text(errors="replace")
    finally:
        shutil.rmtree(process.folder)
    click.echo(samples_text(before, samples, after, minutes))
    click.echo("\n" + "\n".join(f"  {count:>12,} {what}" for what, count in load.counts.items()))
    wrong = [
        f"{growth.process} has grown to {growth.ratio:.3f} times its memory after"
        f" {warm_seconds(minutes):.0f} s; {GROWTH_LIMIT:g} is the limit"
        for growth in growths(samples, minutes)
        if not growth.passes
    ]
    wrong += [f"{name} keeps {more} descriptors" for name, more in leaks(before, after).items()]
    wrong += load.failures[:SHOWN_FAILURES]
    if len(load.failures) > SHOWN_FAILURES:
        wrong.append(f"and {len(load.failures) - SHOWN_FAILURES} more failures")
    wrong += [f"the edge said: {line}" for line in said.splitlines() if "Traceback" in line]
    return wrong


@click.command()
@click.option(
    "--minutes",
    type=click.FloatRange(0.5),
    envvar="SOAK_MINUTES",
    default=BAR_MINUTES,
    show_default=True,
    help="How long the load lasts; SOAK_MINUTES says it too.",
)
def main(minutes: float) -> None:
    """Load an edge with everything at once, and fail if memory or descriptors leak."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that all servers are stopped
    click.echo(f"{minutes:g} minutes of mixed load on an edge with {WORKERS} workers")
    if minutes < BAR_MINUTES:
        click.echo(
            f"memory counts from {warm_seconds(minutes):.0f} s on: shorter than"
            f" {BAR_MINUTES:g} minutes, this is not the real bar"
        )
    try:
        ensure_programs()
        with open_lab(QUICK) as lab:
            wrong = _run(lab, minutes)
    except BenchError as error:
        click.echo(f"soak: {error}", err=True)
        sys.exit(1)
    for line in wrong:
        click.echo(f"FAILED: {line}", err=True)
    if wrong:
        sys.exit(1)
    click.echo("memory and descriptors are as they should be")


if __name__ == "__main__":
    main(prog_name="python -m bench.soak")

"""How long a proxy takes from its exec to its first answer."""

import shutil

from bench.errors import BenchError
from bench.lab import Lab
from bench.measure import Series
from bench.peers import Contender, launch
from bench.requests import HOST


def _start_once(lab: Lab, contender: Contender) -> float:
    process = launch(lab, contender)
    try:
        with process:
            return process.wait_until_served(HOST, "/small")
    finally:
        shutil.rmtree(process.folder)


def start_times(lab: Lab, contenders: tuple[Contender, ...]) -> tuple[Series, dict[str, str]]:
    """Seconds from exec to the first 200, in turn."""
    series: Series = {}
    failures: dict[str, str] = {}
    for _ in range(lab.effort.starts):
        for contender in contenders:
            if contender.name not in failures:
                try:
                    taken = {"seconds": _start_once(lab, contender)}
                except BenchError as error:
                    failures[contender.name] = str(error)
                    series.pop(contender.name, None)
                else:
                    series.setdefault(contender.name, []).append(taken)
    return series, failures

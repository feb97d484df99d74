"""The command `python -m bench`: choose scenarios, measure them, write what came out."""

import signal
import sys
import time
from pathlib import Path

import click

from bench.catalogue import SCENARIOS
from bench.errors import BenchError
from bench.hotspots import profile_edge
from bench.lab import FULL, QUICK, Lab, open_lab
from bench.machine import describe, ensure_programs
from bench.peers import Contender, running
from bench.plots import plot
from bench.report import report_text, scenario_text, summary_text
from bench.results import Results
from bench.scenario import Scenario, measure

ROOT = Path(__file__).resolve().parent
RESULTS = ROOT / "results"
SERVED_ROUTES = 10  # what bench/locustfile.py asks for


def _measure(lab: Lab, chosen: tuple[Scenario, ...]) -> Results:
    results = Results(describe())
    for scenario in chosen:
        outcome = measure(lab, scenario)
        results.outcomes[scenario.name] = outcome
        click.echo(scenario_text(scenario, outcome) + "\n")
    click.echo(summary_text(chosen, results))
    return results


def _save(results: Results, folder: Path) -> None:
    """Write the report and the plots; scenarios that were not run now are kept."""
    document = folder / "performance-results.json"
    if document.exists() and set(results.outcomes) != {one.name for one in SCENARIOS}:
        results.adopt(Results.load(document))
    plots = folder / "plots"
    plots.mkdir(parents=True, exist_ok=True)
    document.write_text(results.dump())
    (folder / "performance-results.txt").write_text(report_text(SCENARIOS, results))
    for scenario in SCENARIOS:
        outcome = results.outcomes.get(scenario.name)
        if outcome is not None and outcome.series:
            plot(scenario, outcome, plots / f"{scenario.name}.svg")


def _profile(lab: Lab, folder: Path | None) -> None:
    text = profile_edge(lab)
    click.echo(text)
    if folder is not None:
        (folder / "performance-profile.txt").write_text(text)


def _serve(lab: Lab) -> None:
    with running(lab, Contender("fairlead", "fairlead", routes=SERVED_ROUTES)) as edge:
        click.echo(f"the edge serves on http://127.0.0.1:{edge.port}; end with Ctrl-C")
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            click.echo("stopped")


@click.command()
@click.option("--only", multiple=True, metavar="NAME", help="Measure this scenario (repeatable).")
@click.option("--quick", is_flag=True, help="Fewer and shorter rounds, to see that it works.")
@click.option("--list", "listing", is_flag=True, help="Print the scenarios and end.")
@click.option(
    "--save",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the report and the plots into this folder.",
)
@click.option("--profile", is_flag=True, help="Show where the edge's time goes instead.")
@click.option("--serve", is_flag=True, help="Run origin and edge until Ctrl-C, for Locust.")
def main(
    only: tuple[str, ...],
    quick: bool,
    listing: bool,
    save: Path | None,
    profile: bool,
    serve: bool,
) -> None:
    """Measure the edge against nginx, HAProxy and Caddy on this machine."""
    known = {scenario.name: scenario for scenario in SCENARIOS}
    if listing:
        for scenario in SCENARIOS:
            click.echo(f"{scenario.name:12} {scenario.title}")
        return
    for name in only:
        if name not in known:
            raise click.UsageError(f"no scenario {name!r}; --list prints them")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that all servers are stopped
    chosen = tuple(one for one in SCENARIOS if not only or one.name in only)
    try:
        ensure_programs()
        with open_lab(QUICK if quick else FULL) as lab:
            if serve:
                _serve(lab)
                return
            if profile:
                _profile(lab, save)
                return
            results = _measure(lab, chosen)
        RESULTS.mkdir(exist_ok=True)
        document = RESULTS / time.strftime("%Y-%m-%d-%H%M%S.json")
        document.write_text(results.dump())
        click.echo(f"\nall rounds: {document}")
        if save is not None:
            _save(results, save)
    except BenchError as error:
        click.echo(f"bench: {error}", err=True)
        sys.exit(1)
    if any(outcome.failures for outcome in results.outcomes.values()):
        sys.exit(1)


if __name__ == "__main__":
    main(prog_name="python -m bench")

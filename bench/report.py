"""Results as text: a table for each scenario, and one of all targets."""

from collections.abc import Iterable, Sequence

from bench.measure import Series, Spread, ratios, readings
from bench.results import Results
from bench.scenario import Outcome, Quantity, Scenario, Target


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows as aligned columns: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        first, *others = (
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(["  " + first, *others]).rstrip())
    return "\n".join(lines)


def _spread(values: Sequence[float], decimals: int) -> str:
    spread = Spread.over(values)
    text = f"{spread.median:.{decimals}f}"
    if len(values) == 1:
        return text
    return f"{text} ({spread.low:.{decimals}f}..{spread.high:.{decimals}f})"


def _columns(series: Series, quantity: Quantity, baseline: str | None) -> list[list[str]]:
    with_ratio = baseline in series
    with_load = all("requests_per_second" in rounds[0] for rounds in series.values())
    header = ["", f"{quantity.label}, {quantity.unit}: median (range)"]
    if with_ratio:
        header.append(f"ratio to {baseline}")
    if with_load:
        header += ["requests/s", "p50 µs", "p99 µs"]
    rows = [header]
    for name in series:
        row = [name, _spread(readings(series, name, quantity.reading), quantity.decimals)]
        if with_ratio and baseline is not None:
            row.append(_spread(ratios(series, name, baseline, quantity.reading), 2))
        if with_load:
            row += [
                f"{Spread.over(readings(series, name, reading)).median:,.0f}"
                for reading in ("requests_per_second", "p50_us", "p99_us")
            ]
        rows.append(row)
    return rows


def judge(target: Target, outcome: Outcome) -> tuple[str, str]:
    """What was measured for a target, and whether it was reached."""
    try:
        value = target.verdict(outcome.series)
    except KeyError:
        return "-", "not measured"
    text = f"{value:.2f} {target.unit}".rstrip()
    return text, "reached" if target.reached(value) else "MISSED"


def _goal(target: Target) -> str:
    return f"{'>=' if target.at_least else '<='} {target.limit:g} {target.unit}".rstrip()


def scenario_text(scenario: Scenario, outcome: Outcome) -> str:
    """One scenario: its title, a row for each contender, its failures and its targets."""
    lines = [f"{scenario.name}: {scenario.title}"]
    if outcome.series:
        lines.append(table(_columns(outcome.series, scenario.quantity, scenario.baseline)))
    lines += [f"  FAILED {name}: {reason}" for name, reason in outcome.failures.items()]
    for target in scenario.targets:
        value, verdict = judge(target, outcome)
        lines.append(f"  target {_goal(target)}, {target.what}: {value}, {verdict}")
    return "\n".join(lines)


def summary_text(scenarios: Iterable[Scenario], results: Results) -> str:
    """All targets of this release in one table."""
    rows = [["target", "scenario", "this release", "measured", "verdict"]]
    for scenario in scenarios:
        outcome = results.outcomes.get(scenario.name, Outcome({}, {}))
        rows += [
            [target.what, scenario.name, _goal(target), *judge(target, outcome)]
            for target in scenario.targets
        ]
    return table(rows)


def report_text(scenarios: Sequence[Scenario], results: Results) -> str:
    """The whole report: the machine, all scenarios that were measured, and the targets."""
    machine = table([[name, value] for name, value in results.machine.items()])
    parts = [
        scenario_text(scenario, results.outcomes[scenario.name])
        for scenario in scenarios
        if scenario.name in results.outcomes
    ]
    return "\n\n".join([f"Machine\n{machine}", *parts, summary_text(scenarios, results)]) + "\n"

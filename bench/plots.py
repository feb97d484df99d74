"""One plot for each scenario: bars of the medians, and a dot for each round.

The files are the same to the byte for the same results: they carry no date, and the names inside
them are made from a fixed salt.
"""

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from bench.measure import Spread, ratios, readings
from bench.scenario import Outcome, Scenario

mpl.rcParams.update(
    {
        "svg.hashsalt": "fairlead",
        "svg.fonttype": "none",  # text stays text: small files, and readers can search in them
        "font.family": "sans-serif",
        "font.size": 10,
    }
)

_OURS = "#c2570c"
_OTHERS = "#8a9bb0"
_DOTS = "#22303c"


def plot(scenario: Scenario, outcome: Outcome, path: Path) -> None:
    """Write the plot of a scenario; the suffix of `path` says which kind of file."""
    series, quantity = outcome.series, scenario.quantity
    names = list(series)
    figure = Figure(figsize=(8, 1.6 + 0.5 * len(names)), layout="constrained")
    axes = figure.add_subplot()
    values = [readings(series, name, quantity.reading) for name in names]
    medians = [Spread.over(taken).median for taken in values]
    colours = [_OURS if _is_ours(name, scenario) else _OTHERS for name in names]
    places = range(len(names))
    axes.barh(places, medians, color=colours, height=0.62)
    for place, taken in zip(places, values, strict=True):
        # Rounds are drawn one below the other, in their order, so that equal ones stay visible.
        step = 0.4 / max(len(taken) - 1, 1)
        heights = [place - 0.2 + step * number for number in range(len(taken))]
        axes.plot(taken, heights, "o", color=_DOTS, markersize=2.5, linestyle="none")
    edge = max(max(taken) for taken in values)
    for place, name in zip(places, names, strict=True):
        label = quantity.text(medians[place])
        if scenario.baseline in series and name != scenario.baseline:
            ratio = Spread.over(ratios(series, name, scenario.baseline, quantity.reading)).median
            label += f"  ({ratio:.2f} ×)"
        axes.text(edge * 1.02, place, label, va="center")
    axes.set_xlim(0, edge * 1.3)
    axes.set_yticks(list(places), names)
    axes.invert_yaxis()
    axes.set_xlabel(f"{quantity.label} ({quantity.unit}); bar: median, dots: rounds")
    axes.set_title(scenario.title, loc="left", fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _is_ours(name: str, scenario: Scenario) -> bool:
    return name.startswith("fairlead") or scenario.baseline is None

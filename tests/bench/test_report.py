"""Results as text and as JSON."""

from pathlib import Path

import pytest

from bench.catalogue import SCENARIOS
from bench.errors import BenchError
from bench.hotspots import parse_perf, parse_stacks
from bench.idle import clients_for
from bench.measure import median_ratio
from bench.peers import Contender
from bench.report import judge, report_text, scenario_text, table
from bench.requests import SMALL
from bench.results import Results
from bench.scenario import CPU, Load, Outcome, Scenario, Target

TARGET = Target("CPU, ratio to nginx", median_ratio("fairlead", "nginx", "cpu_us"), 1.6)
SCENARIO = Scenario(
    "small",
    "Small heads",
    CPU,
    (Contender("nginx", "nginx"), Contender("fairlead", "fairlead")),
    Load(SMALL),
    (TARGET,),
)


def outcome(fairlead: float) -> Outcome:
    return Outcome(
        {
            "nginx": [
                {"cpu_us": 10.0, "requests_per_second": 60000.0, "p50_us": 900.0, "p99_us": 1800.0}
            ],
            "fairlead": [
                {"cpu_us": fairlead, "requests_per_second": 4e4, "p50_us": 1e3, "p99_us": 2e3}
            ],
        },
        {},
    )


def test_columns_are_aligned_the_first_to_the_left() -> None:
    assert table([["", "µs"], ["nginx", "9.5"], ["caddy", "120.0"]]) == (
        "            µs\n  nginx    9.5\n  caddy  120.0"
    )


def test_a_scenario_shows_cost_ratio_and_rate_of_each_contender() -> None:
    text = scenario_text(SCENARIO, outcome(15.0))
    assert [line.split() for line in text.splitlines()[2:4]] == [
        ["nginx", "10.0", "1.00", "60,000", "900", "1,800"],
        ["fairlead", "15.0", "1.50", "40,000", "1,000", "2,000"],
    ]
    assert text.endswith("target <= 1.6, CPU, ratio to nginx: 1.50, reached")


def test_a_contender_that_failed_is_named_with_the_reason() -> None:
    kept = outcome(15.0).series
    del kept["fairlead"]
    text = scenario_text(SCENARIO, Outcome(kept, {"fairlead": "it ended at start"}))
    assert "FAILED fairlead: it ended at start" in text
    assert text.endswith("not measured")


@pytest.mark.parametrize(
    ("fairlead", "verdict"),
    [(16.0, ("1.60", "reached")), (16.2, ("1.62", "MISSED"))],
)
def test_a_limit_is_reached_up_to_itself(fairlead: float, verdict: tuple[str, str]) -> None:
    assert judge(TARGET, outcome(fairlead)) == verdict


def test_a_floor_is_reached_from_itself_on() -> None:
    floor = Target("times as cheap", TARGET.verdict, 3.0, at_least=True)
    assert [floor.reached(value) for value in (2.9, 3.0, 3.1)] == [False, True, True]


def test_every_scenario_has_a_name_of_its_own() -> None:
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)


def test_the_report_holds_the_machine_each_scenario_and_the_targets() -> None:
    results = Results({"cores": "2"})
    results.outcomes["small"] = outcome(15.0)
    text = report_text([SCENARIO], results)
    assert [part.splitlines()[0].split()[0] for part in text.split("\n\n")] == [
        "Machine",
        "small:",
        "target",
    ]


def test_results_come_back_from_their_file_as_they_were(tmp_path: Path) -> None:
    results = Results({"cores": "2"})
    results.outcomes["small"] = outcome(15.0)
    file = tmp_path / "results.json"
    file.write_text(results.dump())
    again = Results.load(file)
    assert (again.machine, again.outcomes) == (results.machine, results.outcomes)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"machine": {}, "scenarios": {"a": {"b": 1}}}'])
def test_a_file_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "results.json"
    file.write_text(text)
    with pytest.raises(BenchError, match="no results of the bench"):
        Results.load(file)


def test_a_partial_run_replaces_its_scenarios_and_keeps_the_others() -> None:
    earlier, now = Results({"cores": "2"}), Results({"cores": "2"})
    earlier.outcomes = {"small": outcome(15.0), "idle": outcome(1.0)}
    now.outcomes = {"small": outcome(12.0)}
    now.adopt(earlier)
    assert now.outcomes == {"small": outcome(12.0), "idle": outcome(1.0)}


def test_results_of_another_machine_are_not_mixed_in() -> None:
    with pytest.raises(BenchError, match="another machine"):
        Results({"cores": "2"}).adopt(Results({"cores": "8"}))


def test_idle_clients_are_as_many_as_the_open_files_allow() -> None:
    assert [clients_for(files) for files in (20_000, 40_000)] == [9_800, 10_000]


def test_rows_of_perf_are_read_and_its_remarks_are_not() -> None:
    report = (
        "# Overhead;Shared Object;Symbol\n\n"
        "    10.53%;[kernel.kallsyms];[k] tcp_ack\n"
        "     1.29%;libc.so.6;[.] read\n"
    )
    assert parse_perf(report) == [
        (10.53, "[kernel.kallsyms]", "tcp_ack"),
        (1.29, "libc.so.6", "read"),
    ]


def test_a_function_that_calls_itself_is_counted_once_per_sample() -> None:
    own, whole = parse_stacks("run;a;b 3\nrun;a;a 2\nrun 5\n")
    assert own == {"b": 3, "a": 2, "run": 5}
    assert whole == {"run": 10, "a": 5, "b": 3}

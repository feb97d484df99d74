"""The arithmetic of the bench: from what programs print to ratios."""

import os

import pytest

from bench.errors import BenchError
from bench.measure import (
    Series,
    Spread,
    WrkResult,
    added_ratio,
    median_of,
    median_ratio,
    p99_of,
    parse_parent,
    parse_resident,
    parse_wrk,
    ratios,
    worst_of,
)
from bench.process import cpu_seconds, family

WRK = """\
Running 2s test @ http://127.0.0.1:9000/
  1 threads and 64 connections
  Latency     1.35ms    1.02ms  20.11ms   91.30%
Requests/sec:  45703.72
{"requests": 91859, "seconds": 2.009880, "bytes": 133561986, "p50_us": 1362.0, \
"p99_us": 2555.0, "socket_errors": 3, "bad_statuses": 0}
"""

SERIES: Series = {
    "direct": [{"us": 10.0}, {"us": 12.0}, {"us": 10.0}],
    "nginx": [{"us": 20.0}, {"us": 40.0}, {"us": 20.0}],
    "fairlead": [{"us": 30.0}, {"us": 40.0}, {"us": 25.0}],
}


def test_the_summary_of_wrk_is_read_from_among_its_other_lines() -> None:
    assert parse_wrk(WRK) == WrkResult(
        requests=91859,
        seconds=2.00988,
        bytes=133561986,
        p50_us=1362.0,
        p99_us=2555.0,
        socket_errors=3,
        bad_statuses=0,
    )


def test_wrk_without_a_summary_is_an_error_that_quotes_it() -> None:
    with pytest.raises(BenchError, match="unable to connect"):
        parse_wrk("unable to connect to 127.0.0.1:9000 Connection refused\n")


@pytest.mark.parametrize("name", ["nginx", "a b", "x) S 7 (y", "(sd-pam)"])
def test_the_parent_is_found_whatever_the_process_is_called(name: str) -> None:
    assert parse_parent(f"4711 ({name}) S 4242 4711 4711 0 -1 4194560 30728") == 4242


def test_resident_memory_is_given_in_bytes() -> None:
    assert parse_resident("Name:\tnginx\nVmHWM:\t  9000 kB\nVmRSS:\t    5300 kB\n") == 5300 * 1024


def test_a_process_without_memory_has_none() -> None:
    assert parse_resident("Name:\tkworker/0:1\nState:\tI (idle)\n") == 0


def test_a_family_begins_with_the_process_itself_and_holds_no_stranger() -> None:
    members = family(os.getpid())
    assert members[0] == os.getpid()
    assert os.getppid() not in members


def test_the_cpu_time_of_a_process_grows_while_it_works() -> None:
    before = cpu_seconds(os.getpid())
    sum(range(200_000))
    assert before < cpu_seconds(os.getpid()) < before + 60


def test_the_cpu_time_of_a_process_that_is_gone_is_an_error() -> None:
    with pytest.raises(BenchError, match="has ended"):
        cpu_seconds(2**22 + 1)  # above the largest process id that Linux gives


def test_a_spread_has_the_median_and_both_ends() -> None:
    assert Spread.over([5.0, 1.0, 3.0]) == Spread(median=3.0, low=1.0, high=5.0)


def test_ratios_are_made_within_a_round() -> None:
    assert ratios(SERIES, "fairlead", "nginx", "us") == [1.5, 1.0, 1.25]


def test_rounds_that_are_missing_on_one_side_make_no_ratio() -> None:
    with pytest.raises(ValueError, match="longer"):
        ratios({"nginx": [{"us": 1.0}] * 2, "fairlead": [{"us": 1.0}]}, "fairlead", "nginx", "us")


def test_the_median_ratio_is_that_of_the_rounds_and_not_of_the_medians() -> None:
    # The ratio of the medians would be 30 / 20.
    assert median_ratio("fairlead", "nginx", "us")(SERIES) == 1.25


def test_added_latency_leaves_out_what_the_way_costs_without_a_proxy() -> None:
    # Round by round: 20 / 10, 28 / 28, 15 / 10.
    assert added_ratio("fairlead", "nginx", "direct", "us")(SERIES) == 1.5


def test_a_verdict_over_a_contender_that_failed_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        median_ratio("caddy", "nginx", "us")(SERIES)


def test_single_events_are_judged_by_their_median_or_by_the_worst() -> None:
    assert median_of("fairlead", "us")(SERIES) == 30.0
    assert worst_of("fairlead", "us")(SERIES) == 40.0


def test_the_99th_percentile_is_what_99_of_100_do_not_exceed() -> None:
    series: Series = {"fairlead": [{"ms": float(number)} for number in range(100, 0, -1)]}
    assert p99_of("fairlead", "ms")(series) == 99.0


def test_of_few_the_99th_percentile_is_the_worst() -> None:
    assert p99_of("fairlead", "us")(SERIES) == 40.0

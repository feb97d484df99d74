"""The verdict on a long run: memory that grows, descriptors that stay."""

import pytest

from bench.samples import Sample, growths, leaks, samples_text, warm_seconds


def run_of(minutes: float, *memory: int) -> list[Sample]:
    """A run in which a worker's memory was looked at in even steps."""
    step = 60 * minutes / (len(memory) - 1)
    return [Sample(step * n, {"worker 0": size}, {"worker 0": 9}) for n, size in enumerate(memory)]


@pytest.mark.parametrize(
    ("minutes", "seconds"), [(30.0, 300.0), (60.0, 300.0), (3.0, 30.0), (29.0, 290.0)]
)
def test_memory_counts_from_five_minutes_on_or_from_a_sixth_of_a_shorter_run(
    minutes: float, seconds: float
) -> None:
    assert warm_seconds(minutes) == pytest.approx(seconds)


def test_what_is_taken_before_the_run_is_warm_is_no_growth() -> None:
    (growth,) = growths(run_of(30, 10, *[100] * 6), 30)
    assert (growth.process, growth.ratio, growth.passes) == ("worker 0", 1.0, True)


@pytest.mark.parametrize(("end", "passes"), [(105, True), (106, False), (60, True)])
def test_a_process_may_grow_by_five_percent(end: int, passes: bool) -> None:
    (growth,) = growths(run_of(30, *[100] * 6, end), 30)
    assert growth.passes is passes


def test_one_sample_in_a_burst_is_no_growth() -> None:
    calm = [100] * 300
    (growth,) = growths(run_of(30, *calm, 900), 30)
    assert growth.ratio == 1.0


def test_each_process_is_judged_by_itself() -> None:
    samples = [
        Sample(seconds, {"supervisor": small, "worker 0": 10_000}, {})
        for seconds, small in ((0.0, 100), (30.0, 100), (180.0, 200))
    ]
    assert [(one.process, one.passes) for one in growths(samples, 3)] == [
        ("supervisor", False),
        ("worker 0", True),
    ]


def test_descriptors_that_stay_are_leaks_and_fewer_are_none() -> None:
    before = Sample(0, {}, {"supervisor": 10, "worker 0": 20, "worker 1": 20})
    after = Sample(9, {}, {"supervisor": 10, "worker 0": 22, "worker 1": 19})
    assert leaks(before, after) == {"worker 0": 2}


def test_the_table_has_a_row_for_each_process() -> None:
    samples = run_of(30, *[2_000_000] * 7)
    text = samples_text(samples[0], samples, samples[-1], 30)
    assert [line.split() for line in text.splitlines()[1:]] == [
        ["worker", "0", "2.0", "2.0", "2.0", "1.000", "9", "9", "9"]
    ]

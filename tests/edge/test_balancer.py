"""Proves `edge.balancer`."""

import pytest

from edge.balancer import make_balancer, spread


class Box:
    def __init__(self, in_flight: int = 0, passed_over_until: float = 0.0) -> None:
        self.in_flight = in_flight
        self.passed_over_until = passed_over_until


def test_weights_are_spread_and_not_bunched() -> None:
    a, b = Box(), Box()
    assert spread([a, b], [30, 10]) == (a, a, b, a)


@pytest.mark.parametrize("name", ["round_robin", "least_in_flight"])
def test_a_target_at_rest_is_only_the_second_choice(name: str) -> None:
    resting, well = Box(passed_over_until=5.0), Box(in_flight=9)
    balancer = make_balancer(name, [resting, well], [1, 1])
    assert [balancer.pick(1.0, ()) for _ in range(3)] == [well] * 3
    assert balancer.pick(1.0, (well,)) is resting
    assert balancer.pick(1.0, (well, resting)) is None


def test_the_least_busy_for_its_weight_is_chosen() -> None:
    light, heavy = Box(in_flight=2), Box(in_flight=3)
    assert make_balancer("least_in_flight", [light, heavy], [1, 2]).pick(0.0, ()) is heavy

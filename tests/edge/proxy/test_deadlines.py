"""Proves `edge.proxy.deadlines`."""

import pytest

from edge.proxy.deadlines import DRAIN_EXPIRY, EXPIRY, LOOKS, TIMEOUT, Phase
from edge.proxy.route_state import RouteState
from edge.settings.settings import Settings


@pytest.mark.parametrize("phase", Phase)
def test_every_phase_has_a_timeout_and_its_end_or_is_a_look(phase: Phase) -> None:
    assert (phase in TIMEOUT) is (phase in EXPIRY) is (phase not in LOOKS)


@pytest.mark.parametrize("name", TIMEOUT.values())
def test_every_timeout_is_a_setting_that_a_route_has_too(name: str) -> None:
    assert getattr(Settings(), name) > 0
    assert hasattr(RouteState, name)


@pytest.mark.parametrize(
    ("phase", "status", "upstream_fault"),
    [
        (Phase.CLIENT_WRITE, 504, False),
        (Phase.RESPONSE_BODY, 504, True),
        (Phase.REQUEST_BODY, 408, False),
        (Phase.RESPONSE_HEAD, 504, True),
    ],
)
def test_the_client_gets_the_status_that_says_whose_time_is_over(
    phase: Phase, status: int, upstream_fault: bool
) -> None:
    assert EXPIRY[phase].status == status
    assert EXPIRY[phase].upstream_fault is upstream_fault


def test_each_end_can_be_told_from_the_others_in_the_log() -> None:
    expiries = [*EXPIRY.values(), DRAIN_EXPIRY]
    assert len({expiry.error for expiry in expiries}) == len(expiries)

"""Proves `edge.flow.ReadGate`: several reasons to pause, each with its own end."""

import asyncio

import pytest

from edge.net.read_gate import PauseReason, ReadGate


class Transport(asyncio.ReadTransport):
    """Notes what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.told.append("pause")

    def resume_reading(self) -> None:
        self.told.append("resume")


@pytest.fixture
def transport() -> Transport:
    return Transport()


def test_reading_goes_on_when_the_last_reason_is_gone(transport: Transport) -> None:
    gate = ReadGate(transport)
    gate.pause(PauseReason.BACKPRESSURE)
    gate.pause(PauseReason.PIPELINED)
    gate.resume(PauseReason.BACKPRESSURE)
    assert gate.paused
    assert transport.told == ["pause"]
    gate.resume(PauseReason.NO_UPSTREAM)
    assert gate.paused
    gate.resume(PauseReason.PIPELINED)
    assert not gate.paused
    assert transport.told == ["pause", "resume"]


def test_opening_drops_every_reason_and_resumes_once(transport: Transport) -> None:
    gate = ReadGate(transport)
    gate.pause(PauseReason.BACKPRESSURE)
    gate.pause(PauseReason.PIPELINED)
    assert repr(gate) == "<ReadGate ['BACKPRESSURE', 'PIPELINED']>"
    gate.clear()
    assert not gate.paused
    assert transport.told == ["pause", "resume"]
    gate.pause(PauseReason.NO_UPSTREAM)
    assert gate.paused

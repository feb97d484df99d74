"""Proves `edge.flow.ReadGate`: several reasons to pause, each with its own end."""

import asyncio

import pytest

from edge.flow import Pause, ReadGate


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
    gate.pause(Pause.PEER_FULL)
    gate.pause(Pause.PIPELINED)
    gate.resume(Pause.PEER_FULL)
    assert gate.paused
    assert transport.told == ["pause"]
    gate.resume(Pause.NO_UPSTREAM)
    assert gate.paused
    gate.resume(Pause.PIPELINED)
    assert not gate.paused
    assert transport.told == ["pause", "resume"]


def test_opening_drops_every_reason_and_resumes_once(transport: Transport) -> None:
    gate = ReadGate(transport)
    gate.pause(Pause.PEER_FULL)
    gate.pause(Pause.PIPELINED)
    assert repr(gate) == "<ReadGate ['PEER_FULL', 'PIPELINED']>"
    gate.open()
    assert not gate.paused
    assert transport.told == ["pause", "resume"]
    gate.pause(Pause.NO_UPSTREAM)
    assert gate.paused

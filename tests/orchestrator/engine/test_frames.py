"""Frames of the engine, whole, in pieces and byte by byte."""

import struct

import pytest

from orchestrator.engine.frames import STDERR, STDOUT, Demultiplexer


def frame(stream: int, data: bytes) -> bytes:
    """As the engine sends it."""
    return struct.pack(">BxxxL", stream, len(data)) + data


WHOLE = frame(STDOUT, b"one\n") + frame(STDERR, b"two\n") + frame(STDOUT, b"") + frame(STDOUT, b"3")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, len(WHOLE)])
def test_data_is_given_with_its_stream_however_it_comes(size: int) -> None:
    demultiplexer = Demultiplexer()
    found = {STDOUT: b"", STDERR: b""}
    for start in range(0, len(WHOLE), size):
        for stream, piece in demultiplexer.feed(WHOLE[start : start + size]):
            found[stream] += piece
    assert found == {STDOUT: b"one\n3", STDERR: b"two\n"}


def test_data_is_given_before_its_frame_is_whole() -> None:
    assert list(Demultiplexer().feed(frame(STDERR, b"much more")[:12])) == [(STDERR, b"much")]

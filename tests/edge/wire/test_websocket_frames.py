"""Proves `edge.wire.websocket_frames`: where a gap is does not depend on how the bytes were cut."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from edge.wire.websocket_frames import GOING_AWAY, SERVICE_RESTART, FrameTracker, close_frame

SMALL = settings(max_examples=200, derandomize=True, deadline=None)

# Around every border between two forms of the length (RFC 6455 section 5.2).
SIZES = st.sampled_from([0, 1, 2, 5, 124, 125, 126, 127, 300, 65535, 65536, 70000])


def frame(size: int, masked: bool, opcode: Opcode = Opcode.BINARY, fin: bool = True) -> bytes:
    """What the websockets library makes of it."""
    return Frame(opcode, b"\x88" * size, fin).serialize(mask=masked)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    borders = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(borders)]


class TestGapsRfc6455Section52:
    @SMALL
    @given(st.lists(SIZES, max_size=6), st.booleans(), st.lists(st.integers(0), max_size=12))
    def test_any_cut_gives_the_same_gaps(
        self, sizes: list[int], masked: bool, places: list[int]
    ) -> None:
        frames = [frame(size, masked) for size in sizes]
        gaps = {0}
        for each in frames:
            gaps.add(max(gaps) + len(each))
        follower, position = FrameTracker(masked), 0
        for piece in cut(b"".join(frames), places):
            follower.feed(piece)
            position += len(piece)
            assert follower.at_frame_boundary is (position in gaps)
        assert not follower.broken

    @pytest.mark.parametrize("masked", [False, True])
    @pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536])
    def test_a_header_may_come_byte_by_byte(self, size: int, masked: bool) -> None:
        follower = FrameTracker(masked)
        wire = frame(size, masked)
        gaps = []
        for byte in wire:
            follower.feed(bytes((byte,)))
            gaps.append(follower.at_frame_boundary)
        assert gaps == [False] * (len(wire) - 1) + [True]

    @SMALL
    @given(st.lists(SIZES, max_size=5), st.booleans(), st.integers(0), st.integers(0))
    def test_the_next_gap_is_the_same_from_anywhere(
        self, sizes: list[int], masked: bool, start: int, end: int
    ) -> None:
        frames = [frame(size, masked) for size in sizes]
        wire = b"".join(frames)
        start, end = sorted((start % (len(wire) + 1), end % (len(wire) + 1)))
        gaps = [0]
        for each in frames:
            gaps.append(gaps[-1] + len(each))
        next_gap = min(gap for gap in gaps if gap >= start)
        follower = FrameTracker(masked)
        follower.feed(wire[:start])
        assert follower.feed_to_frame_boundary(wire[start:end]) == min(next_gap, end) - start
        assert follower.at_frame_boundary is (next_gap <= end)

    def test_a_gap_inside_a_fragmented_message_is_a_gap(self) -> None:
        """Section 5.4: control frames may be injected in the middle of a fragmented message."""
        follower = FrameTracker(False)
        follower.feed(frame(5, False, Opcode.TEXT, fin=False))
        assert follower.at_frame_boundary

    def test_a_frame_may_be_longer_than_any_memory(self) -> None:
        follower = FrameTracker(False)
        follower.feed(b"\x82\x7f\x7f" + b"\xff" * 7 + b"x")
        assert not follower.at_frame_boundary
        assert not follower.broken


class TestCloseRfc6455Section551:
    @pytest.mark.parametrize("masked", [False, True])
    def test_a_close_frame_is_noticed(self, masked: bool) -> None:
        follower = FrameTracker(masked)
        wire = frame(3, masked) + frame(2, masked, Opcode.CLOSE)
        follower.feed(wire[:-1])
        assert (follower.closing, follower.closed) == (True, False)
        follower.feed(wire[-1:])
        assert (follower.closing, follower.closed) == (True, True)

    @pytest.mark.parametrize("opcode", [each for each in Opcode if each is not Opcode.CLOSE])
    def test_no_other_frame_is_one(self, opcode: Opcode) -> None:
        follower = FrameTracker(False)
        follower.feed(frame(9, False, opcode))
        assert not follower.closing

    def test_the_frames_made_are_those_of_the_library(self) -> None:
        payload = (1012).to_bytes(2, "big")
        assert close_frame(SERVICE_RESTART) == Frame(Opcode.CLOSE, payload).serialize(mask=False)

    def test_a_clients_is_masked(self) -> None:
        made = close_frame(GOING_AWAY, b"\x01\x02\x03\x04")
        assert made == b"\x88\x82\x01\x02\x03\x04" + bytes((0x03 ^ 1, 0xE9 ^ 2))


class TestWhatIsNoFrame:
    @pytest.mark.parametrize("masked", [False, True])
    def test_a_mask_on_the_wrong_side_breaks_it(self, masked: bool) -> None:
        """Section 5.1: clients mask, servers never do."""
        follower = FrameTracker(masked)
        follower.feed(frame(3, masked) + frame(3, not masked))
        assert follower.broken
        follower.feed(frame(3, masked))
        assert not follower.at_frame_boundary

    def test_its_state_can_be_read(self) -> None:
        follower = FrameTracker(False)
        assert repr(follower) == "<FrameTracker open at_frame_boundary=True>"
        follower.feed(b"\x88\x00")
        assert repr(follower) == "<FrameTracker closed at_frame_boundary=True>"
        follower.feed(b"\x81\xff")
        assert repr(follower) == "<FrameTracker broken at_frame_boundary=False>"

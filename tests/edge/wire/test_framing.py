"""Proves `edge.wire.framing`: what a chunked body says does not depend on how it was cut."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.wire.framing import ChunkedReader, FramingError, request_length
from tests.messages import chunks

SMALL = settings(max_examples=200, derandomize=True, deadline=None)


def verdict(pieces: list[bytes]) -> tuple[str, bytes, bytes]:
    """accept, refuse or incomplete; the content; what came behind an accepted body."""
    reader, content, rest = ChunkedReader(), b"", b""
    for piece in pieces:
        if reader.done:
            rest += piece
            continue
        try:
            content += b"".join(map(bytes, reader.feed(piece)))
        except FramingError:
            return "refuse", b"", b""
        rest = reader.leftover
    return ("accept", content, rest) if reader.done else ("incomplete", content, b"")


def cut(data: bytes, places: list[int]) -> list[bytes]:
    borders = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(borders)]


class TestChunkedRfc9112Section71:
    @SMALL
    @given(st.lists(st.binary(min_size=1, max_size=40), max_size=5), st.lists(st.integers(0, 300)))
    def test_any_split_gives_the_same_content(self, parts: list[bytes], places: list[int]) -> None:
        wire = chunks(*parts)
        assert verdict(cut(wire, places)) == ("accept", b"".join(parts), b"")
        assert verdict([wire[i : i + 1] for i in range(len(wire))])[1] == b"".join(parts)
        assert verdict([wire + b"GET"]) == ("accept", b"".join(parts), b"GET")

    @SMALL
    @given(
        st.lists(st.sampled_from([b"0", b"1", b"a", b"\r\n", b"\r", b"\n", b";", b":", b" "])),
        st.lists(st.integers(0, 100), max_size=5),
    )
    def test_any_split_gives_the_same_verdict(self, parts: list[bytes], places: list[int]) -> None:
        wire = b"".join(parts)
        assert verdict(cut(wire, places)) == verdict([wire])
        assert verdict([wire[i : i + 1] for i in range(len(wire))]) == verdict([wire])

    @pytest.mark.parametrize("size", [4093, 4094, 4095, 5000])
    def test_a_long_extension_is_judged_alike_in_one_piece_and_in_two(self, size: int) -> None:
        wire = b"1;" + b"x" * size + b"\r\na\r\n0\r\n\r\n"
        assert verdict([wire[: size + 2], wire[size + 2 :]]) == verdict([wire])


class TestRequestLengthRfc9112Section63:
    @pytest.mark.parametrize(
        ("codings", "lengths", "minor"),
        [
            ([b"chunked"], [b"1"], 1),
            ([b"chunked"], [], 0),
            ([b"chunked", b"chunked"], [], 1),
            ([b"gzip"], [], 1),
            ([], [b"1", b"1"], 1),
            ([], [b"+1"], 1),
            ([], [b"9" * 19], 1),
        ],
    )
    def test_doubtful_framing_is_refused(
        self, codings: list[bytes], lengths: list[bytes], minor: int
    ) -> None:
        with pytest.raises(FramingError):
            request_length(codings, lengths, minor)

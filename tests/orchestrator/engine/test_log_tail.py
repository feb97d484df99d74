"""The end of an output: bounded, and from a whole line on."""

import pytest

from orchestrator.engine.log_tail import LogTail


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ([], ""),
        ([b"one\n"], "one"),
        ([b"one\n", b"two\n"], "one\ntwo"),
        ([b"first\nsecond\nlast\n"], "last"),
        ([b"fir", b"st\nse", b"cond\n", b"la", b"st\n"], "last"),
        ([b"before\n", b"one\n", b"three\n"], "one\nthree"),
        ([b"abcdefghijklmnop"], "ghijklmnop"),
        ([b"\xff\n"], "\ufffd"),
    ],
)
def test_what_is_kept(pieces: list[bytes], text: str) -> None:
    tail = LogTail(10)
    for piece in pieces:
        tail.feed(piece)
    assert tail.text() == text


def test_memory_is_bounded() -> None:
    tail = LogTail(1000)
    for _ in range(10_000):
        tail.feed(b"x" * 99 + b"\n")
    assert sum(map(len, tail._kept)) <= 1100
    assert tail.text().count("\n") == 9

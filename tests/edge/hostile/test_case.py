"""The format of the hostile inputs."""

import pytest

from tests.edge.hostile.case import Case, unescape

NOTES = "# expect: 400\n# why: because\n"


@pytest.mark.parametrize(
    ("text", "octets"),
    [
        ("GET / HTTP/1.1", b"GET / HTTP/1.1"),
        (r"a\r\n\t\0\\b", b"a\r\n\t\0\\b"),
        (r"\x00\xff\x20", b"\x00\xff "),
        (r"\repeat(3, ab)c", b"abababc"),
        (r"\repeat(2, X: y\r\n)", b"X: y\r\nX: y\r\n"),
    ],
)
def test_escapes_stand_for_bytes(text: str, octets: bytes) -> None:
    assert unescape(text) == octets


@pytest.mark.parametrize("text", ["\\", r"\q", r"\x1", r"\xZZ"])
def test_a_backslash_that_begins_nothing_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="backslash"):
        unescape(text)


def test_line_breaks_of_the_file_are_not_part_of_the_input() -> None:
    case = Case.parse("x", NOTES + "GET / HTTP/1.1\\r\\n\nX: y\\r\\n\n folded\\r\\n\n")
    assert case.data == b"GET / HTTP/1.1\r\nX: y\r\n folded\r\n"


def test_a_line_that_looks_like_a_note_is_input_after_the_first_that_does_not() -> None:
    assert Case.parse("x", NOTES + "GET\n# expect: x\n").data == b"GET# expect: x"


@pytest.mark.parametrize(
    "text",
    [
        "# expect: 400\nGET",
        "# why: because\nGET",
        "# surprise: 400\n" + NOTES + "GET",
        NOTES + "GET / HTTP/1.1 \n",
        NOTES + "GET /\\q\n",
    ],
)
def test_a_file_that_is_not_in_the_format_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        Case.parse("x", text)

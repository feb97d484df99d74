"""What commands print does nothing to the terminal that shows it."""

import pytest

from edge.cli import output


def test_controls_and_marks_of_direction_are_written_out() -> None:
    assert output.line("a\tb\x07\x9b\u202e\n") == "a\tb\\x07\\x9b\\u202e\\n"
    assert output.lines("a\r\nb\x1b") == "a\nb\\x1b"


def test_a_table_is_aligned_by_what_is_shown() -> None:
    rows = [("A", "B"), ("\x1b", 1), ("", None)]
    assert output.table(rows).splitlines() == ["A     B", "\\x1b  1", "      None"]
    assert output.table([]) == ""


def test_json_and_problems_are_harmless_too(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"a": "\x7f\x9b"})
    output.print_problems(["one\x1b[2J", "two\nlines"])
    said = capsys.readouterr()
    assert said.out == '{\n  "a": "\\x7f\\x9b"\n}\n'
    assert said.err == "fairlead: one\\x1b[2J\nfairlead: two\nlines\n"

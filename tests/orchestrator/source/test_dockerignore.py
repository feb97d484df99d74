"""Proves that `.dockerignore` leaves out what Docker would, in time that no pattern can stretch."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import StepError
from orchestrator.source.dockerignore import Dockerignore, Place


def place(lines: list[str], path: str) -> Place:
    ignored = Dockerignore(lines)
    found = ignored.top
    for name in path.split("/"):
        found = ignored.place(found, name)
    return found


def excludes(lines: list[str], path: str) -> bool:
    return place(lines, path).is_excluded


def reference(lines: list[str], path: str) -> bool:
    """As moby/patternmatcher does it, with regular expressions that back-track."""
    excluded = False
    parts = path.split("/")
    for line in lines:
        pattern = "/".join(part for part in line.removeprefix("!").split("/") if part)
        if not pattern:
            continue
        made = ""
        while pattern:
            if pattern.startswith("**"):
                pattern = pattern[2:].removeprefix("/")
                made += "(.*/)?" if pattern else ".*"
                continue
            character, pattern = pattern[0], pattern[1:]
            made += {"*": "[^/]*", "?": "[^/]"}.get(character, re.escape(character))
        above = ["/".join(parts[: end + 1]) for end in range(len(parts))]
        if any(re.fullmatch(made, one) for one in above):
            excluded = not line.startswith("!")
    return excluded


@pytest.mark.parametrize(
    ("pattern", "path", "is_excluded"),
    [
        ("a", "a", True),
        ("a", "a/b/c", True),
        ("a", "b/a", False),
        ("/a", "a", True),
        ("./a/", "a", True),
        ("a/../b", "b", True),
        ("../a", "a", False),
        ("/../a", "a", True),
        ("*", "a/b", True),
        ("*.py", "a.py", True),
        ("*.py", "b/a.py", False),
        ("*/*.py", "b/a.py", True),
        ("a*b*c", "aXbYc", True),
        ("a*b*c", "aXb/c", False),
        ("**/*.py", "a.py", True),
        ("**/*.py", "b/c/a.py", True),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/c/d/b", True),
        ("a/**", "a", False),
        ("a/**", "a/b", True),
        ("**", "a", True),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("[a-c]x", "bx", True),
        ("[^a-c]x", "bx", False),
        ("[^a-c]x", "/x", False),
        ("[\\]-]x", "]x", True),
        ("[]-]x", "-x", True),
        ("[-a]x", "bx", False),
        ("\\*", "*", True),
        ("\\*", "a", False),
        ("a\nb", "a\nb", True),
        ("ü*", "über", True),
    ],
)
def test_patterns_match_as_dockers_do(pattern: str, path: str, is_excluded: bool) -> None:
    assert excludes([pattern], path) is is_excluded


def test_the_last_pattern_that_matches_wins() -> None:
    lines = ["logs", "!logs/keep", "logs/keep/not"]
    assert excludes(lines, "logs/a")
    assert not excludes(lines, "logs/keep")
    assert not excludes(lines, "logs/keep/a")
    assert excludes(lines, "logs/keep/not/a")


def test_a_folder_is_entered_only_where_something_may_come_back() -> None:
    lines = ["*", "!src/*/keep"]
    assert place(lines, "src").may_include
    assert place(lines, "src/a").may_include
    assert not place(lines, "lib").may_include
    assert not place(lines, "src/a/b").may_include


@pytest.mark.parametrize("line", ["!", "[", "[a", "[]", "a\\", "[a\\", "[^]"])
def test_what_docker_refuses_is_refused(line: str) -> None:
    with pytest.raises(StepError, match=r"\.dockerignore: .* is not a valid pattern"):
        Dockerignore([line])


@given(
    st.lists(st.text("ab*?/", min_size=1, max_size=7), max_size=3),
    st.lists(st.booleans(), min_size=3, max_size=3),
    st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=4).map("/".join),
)
def test_any_patterns_agree_with_the_rule_as_it_is_written(
    patterns: list[str], exceptions: list[bool], path: str
) -> None:
    lines = [f"{'!' * is_one}{text}" for text, is_one in zip(patterns, exceptions, strict=False)]
    assert excludes(lines, path) == reference(lines, path)


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "pattern", ["*a" * 40 + "c", "**/a" * 40, "*?" * 500, "**" * 500 + "x", "[^b]*" * 99]
)
def test_no_pattern_goes_back(pattern: str) -> None:
    # Regular expressions take years for these.
    assert not excludes([pattern], "/".join(["a" * 60] * 9) + "b/b")

"""Proves `edge.wire.path`; what the edge makes of whole requests is in `routing/spellings.txt`."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import HttpError
from edge.wire.path import (
    boldest_readings,
    has_dot_segments,
    is_clean,
    normalize,
    normalize_target,
    strip_prefix,
)

PATHS = st.lists(
    st.sampled_from(
        [
            b"/",
            b"//",
            b".",
            b"..",
            b"a",
            b"%61",
            b"%2e",
            b"%2F",
            b"%5c",
            b"%25",
            b";",
            b"\\",
            b"%e4",
        ]
    ),
    max_size=8,
).map(lambda parts: b"/" + b"".join(parts))


@pytest.mark.parametrize(
    "target", [b"/", b"/a/b", b"/a/", b"/a?//%zz/../;", b"/.a/..b/...", b"/a.b?", b"*"]
)
def test_a_clean_target_is_what_it_was(target: bytes) -> None:
    assert is_clean(target)
    assert normalize_target(target) == target
    path = target.partition(b"?")[0]
    assert boldest_readings(path) == (path,)


@pytest.mark.parametrize(
    "target",
    [b"//", b"/a//b", b"/.", b"/..", b"/./a", b"/a/..", b"/a/..?x", b"/%61", b"/a;b", b"/\\"],
)
def test_what_is_not_clean_is_seen(target: bytes) -> None:
    assert not is_clean(target)


@pytest.mark.parametrize(
    ("path", "found"),
    [(b"/.", True), (b"/a/%2e%2E/b", True), (b"/.%2e", True), (b"/..a", False), (b"/a./b", False)],
)
def test_dot_segments_are_seen_in_any_spelling(path: bytes, found: bool) -> None:
    assert bool(has_dot_segments(path)) is found


class TestNormalForm:
    """RFC 3986 sections 5.2.4 and 6.2.2."""

    @pytest.mark.parametrize(
        ("path", "normal"),
        [
            (b"/a/b/c/./../../g", b"/a/g"),
            (b"/mid/content=5/../6", b"/mid/6"),
            (b"/a/.", b"/a/"),
            (b"/a/..", b"/"),
            (b"/a/b/..", b"/a/"),
            (b"/%7e%2D%5f%2e", b"/~-_."),
            (b"/%e4%2f%3b", b"/%E4%2F%3B"),
            (b"/%2561", b"/%2561"),
        ],
    )
    def test_of_a_path(self, path: bytes, normal: bytes) -> None:
        assert normalize(path) == normal

    def test_two_slashes_are_one_unless_said_otherwise(self) -> None:
        assert normalize(b"//a///b//") == b"/a/b/"
        assert normalize(b"//a///b//", merge_slashes=False) == b"//a///b//"
        assert normalize(b"/a//../b", merge_slashes=False) == b"/a/b"

    @pytest.mark.parametrize(
        ("path", "reason"),
        [
            (b"/%", "invalid escape"),
            (b"/%4", "invalid escape"),
            (b"/%g0", "invalid escape"),
            (b"/%%31", "invalid escape"),
            (b"/%00", "invalid escape"),
            (b"/..", "above the root"),
            (b"/a/%2e%2e/../b", "above the root"),
            (b"/a//../b", "more than one way"),
        ],
    )
    def test_some_paths_have_none(self, path: bytes, reason: str) -> None:
        with pytest.raises(HttpError, match=reason) as raised:
            normalize(path)
        assert raised.value.status == 400

    @given(PATHS)
    def test_is_its_own_and_clean_but_for_what_is_ambiguous(self, path: bytes) -> None:
        try:
            normal = normalize(path)
        except HttpError:
            return
        assert normalize(normal) == normal
        assert not has_dot_segments(normal)
        assert b"//" not in normal
        assert is_clean(normal) or b"%" in normal or b";" in normal or b"\\" in normal


class TestReadings:
    @pytest.mark.parametrize(
        ("path", "whole", "bare"),
        [
            (b"/a%2Fb", b"/a/b", b"/a/b"),
            (b"/a%252Fb%25252f", b"/a/b/", b"/a/b/"),
            (b"/a\\b%5Cc", b"/a/b/c", b"/a/b/c"),
            (b"/a;b/c;d=e", b"/a;b/c;d=e", b"/a/c"),
            (b"/a%3Bb%2Fc", b"/a;b/c", b"/a/c"),
            (b"/a%3Fb/c", b"/a", b"/a"),
            (b"/a%23b/c", b"/a", b"/a"),
            (b"/100%25", b"/100%", b"/100%"),
        ],
    )
    def test_the_boldest_ones(self, path: bytes, whole: bytes, bare: bytes) -> None:
        assert boldest_readings(path) == (whole, bare)

    def test_escaped_slashes_may_be_data(self) -> None:
        assert boldest_readings(b"/a%2Fb%5C%252f", escaped_slashes=False)[0] == b"/a_b__"

    @pytest.mark.parametrize(
        "path",
        [
            b"/a%2F..",
            b"/..%2Fa",
            b"/..%5Ca",
            b"/..\\a",
            b"/..;/a",
            b"/.;a",
            b"/%252e%252e/a",
            b"/..%3Fa",
            b"/%2500",
            b"/%C0%AF",
            b"/%C1%9C",
            b"/%E0%80%AF",
            b"/%F0%80%80%AF",
        ],
    )
    def test_there_is_none_that_would_take_a_segment_back(self, path: bytes) -> None:
        with pytest.raises(HttpError, match="more than one way"):
            boldest_readings(path)


@pytest.mark.parametrize(
    ("target", "stripped"),
    [
        (b"/api/x?y", b"/x?y"),
        (b"/api", b"/"),
        (b"/api/", b"/"),
        (b"/api?y", b"/?y"),
        (b"/api//evil.test", b"/evil.test"),
        (b"/api/\\/evil.test", b"/evil.test"),
    ],
)
def test_the_target_without_a_prefix_begins_with_one_slash(target: bytes, stripped: bytes) -> None:
    assert strip_prefix(target, b"/api") == stripped

"""Every spelling of spellings.txt, as the route table and `explain` decide it."""

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote_to_bytes

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge.errors import HttpError
from edge.routing.explain import explain, parse_url
from edge.routing.table import Normalized, RouteTable
from tests.edge.routing.spellings import Outcome, Routes, Spelling, spellings

SPELLINGS = [each for each in spellings() if each.target.startswith("/")]


def table_of(routes: Routes) -> RouteTable:
    targets = {f"app.test{prefix}": "127.0.0.1:1" for prefix in routes}
    options = {f"app.test{prefix}": orjson.dumps(each).decode() for prefix, each in routes.items()}
    return RouteTable().changed(1, targets, options)


def decided(table: RouteTable, target: bytes) -> Outcome:
    try:
        route = table.match("app.test", target)
        if route is None:
            return Outcome(404, "", "")
        if isinstance(route, Normalized):
            route, target = route
        return Outcome(200, route.prefix.decode(), route.upstream_target(target).decode())
    except HttpError as error:
        return Outcome(error.status, "", "")


def explained(table: RouteTable, target: str) -> Outcome:
    found = explain(table, *parse_url(f"http://app.test{target}"))
    if found.refused:
        return Outcome(400, "", "")
    if found.chosen is None:
        return Outcome(404, "", "")
    return Outcome(200, found.chosen.route.prefix.decode(), found.target.decode())


def test_there_are_as_many_as_were_promised() -> None:
    assert len({each.target for each in SPELLINGS}) >= 60


@pytest.mark.parametrize("spelling", SPELLINGS, ids=lambda each: each.target)
def test_the_edge_decides_it_and_explain_says_the_same(spelling: Spelling) -> None:
    table = table_of(spelling.routes)
    assert decided(table, spelling.target.encode()) == spelling.edge
    # The wire has no fragment; of a URL, it is not sent.
    assert explained(table, spelling.target) == spelling.edge


def test_a_line_that_is_not_in_the_form_is_an_error(tmp_path: Path) -> None:
    table = tmp_path / "spellings.txt"
    table.write_text("routes  /\n/x  / =\n")
    with pytest.raises(ValueError, match="has not three columns"):
        spellings(table)


PREFIXES = (b"", b"/a", b"/a/b", b"/b")
ROUTES = table_of({prefix.decode(): {} for prefix in PREFIXES})

PIECES = st.sampled_from(
    [
        *(
            b"/",
            b"//",
            b"/a",
            b"/b",
            b"a",
            b"b",
            b"x",
            b".",
            b"..",
            b"/.",
            b"/..",
            b"\\",
            b";",
            b";x",
        ),
        *(
            b"%61",
            b"%2e",
            b"%2f",
            b"%2F",
            b"%5c",
            b"%3b",
            b"%3F",
            b"%23",
            b"%25",
            b"2f",
            b"2e",
            b"61",
        ),
        *(b"%252f", b"%252e", b"%2561", b"%25252F", b"%c0%af", b"%20", b"%e4"),
    ]
)
TARGETS = st.lists(PIECES, max_size=10).map(lambda pieces: b"/" + b"".join(pieces))


def resolved(path: bytes) -> bytes:
    """Without dot segments (RFC 3986 section 5.2.4); what climbs above the root stays there."""
    kept: list[bytes] = []
    for segment in path.split(b"/")[1:]:
        if segment == b"..":
            del kept[-1:]
        elif segment != b".":
            kept.append(segment)
    return b"/" + b"/".join(kept)


READERS: dict[str, Callable[[bytes], bytes]] = {
    "decodes": unquote_to_bytes,
    "decodes slashes": lambda path: re.sub(rb"(?i)%2f", b"/", path),
    "takes backslashes for slashes": lambda path: path.replace(b"\\", b"/"),
    "drops parameters": lambda path: re.sub(rb";[^/]*", b"", path),
    "merges slashes": lambda path: re.sub(rb"//+", b"/", path),
    "resolves dot segments": resolved,
    "ends at a query": lambda path: path.partition(b"?")[0],
    "ends at a fragment": lambda path: path.partition(b"#")[0],
}
"""What an application may do to a path before it looks for its own part of it."""


def longest_prefix(path: bytes) -> bytes:
    return max(
        (each for each in PREFIXES if (path + b"/").startswith(each + b"/")), key=len, default=b""
    )


@given(TARGETS, st.lists(st.sampled_from(sorted(READERS)), max_size=8))
@example(b"/x%2f..%2fa", ["decodes", "resolves dot segments"])
@example(b"/a/../x", [])
@example(b"/a/b%3f/../x", ["decodes", "ends at a query"])
@example(b"/x//../a", ["resolves dot segments"])
@example(b"/%61%252fb", ["decodes", "decodes"])
@settings(max_examples=2000)
def test_no_application_reads_a_path_that_another_route_is_for(
    target: bytes, reader: list[str]
) -> None:
    """Whatever goes on leads every application to the prefix that the edge has judged it by."""
    found = decided(ROUTES, target)
    if found.status == 200:
        path = found.target.encode()
        for step in reader:
            path = READERS[step](path)
        assert longest_prefix(path).decode() == found.prefix

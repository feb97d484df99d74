"""Which route a request takes."""

import pytest

from edge.routing.route import Route
from edge.routing.table import RouteTable
from tests.edge.routing.tables import domain_for, table_of


class TestMatching:
    def test_an_exact_host_comes_before_a_wildcard_before_all_hosts(self) -> None:
        table = table_of("*", "*.test", "*.app.test", "a.app.test")
        assert domain_for(table, "a.app.test") == "a.app.test"
        assert domain_for(table, "b.app.test") == "*.app.test"
        assert domain_for(table, "c.b.app.test") == "*.app.test"
        assert domain_for(table, "x.test") == "*.test"
        assert domain_for(table, "x.invalid") == "*"
        assert domain_for(table, "127.0.0.1") == "*"
        assert domain_for(table, "[::1]") == "*"

    def test_a_wildcard_does_not_match_the_name_below_which_it_stands(self) -> None:
        table = table_of("*.app.test")
        assert domain_for(table, "app.test") is None
        assert domain_for(table, "xapp.test") is None
        assert domain_for(table, "test") is None

    @pytest.mark.parametrize(
        ("path", "domain"),
        [
            (b"/", "app.test"),
            (b"/api", "app.test/api"),
            (b"/api/", "app.test/api"),
            (b"/api?x", "app.test/api"),
            (b"/api?/v1", "app.test/api"),
            (b"/api/x/y", "app.test/api"),
            (b"/apix", "app.test"),
            (b"/ap", "app.test"),
            (b"/API", "app.test"),
            (b"/api/v1", "app.test/api/v1"),
            (b"/api/v1?q=/api/v1/x", "app.test/api/v1"),
            (b"/api/v1/x", "app.test/api/v1"),
            (b"/api/v12", "app.test/api"),
            (b"/api/v1x/y", "app.test/api"),
            (b"/?/api", "app.test"),
            (b"//api", "app.test/api"),
            (b"/%61pi", "app.test/api"),
            (b"*", "app.test"),
        ],
    )
    def test_the_longest_prefix_wins_on_borders_of_segments(self, path: bytes, domain: str) -> None:
        table = table_of("app.test", "app.test/api", "app.test/api/v1")
        assert domain_for(table, "app.test", path) == domain

    def test_where_no_prefix_fits_the_search_goes_on_to_wider_hosts(self) -> None:
        table = table_of("a.b.test/x", "*.b.test/y", "*.test/z", "*/w", "*.test")
        assert domain_for(table, "a.b.test", b"/x") == "a.b.test/x"
        assert domain_for(table, "a.b.test", b"/y") == "*.b.test/y"
        assert domain_for(table, "a.b.test", b"/z") == "*.test/z"
        assert domain_for(table, "a.b.test", b"/w") == "*.test"
        assert domain_for(table, "else", b"/w/1") == "*/w"
        assert domain_for(table, "else", b"/x") is None

    def test_options_asterisk_takes_only_a_route_without_prefix(self) -> None:
        assert domain_for(table_of("app.test/api"), "app.test", b"*") is None
        assert domain_for(table_of("app.test/api", "*"), "app.test", b"*") == "*"

    def test_the_same_route_is_the_same_object_until_it_changes(self) -> None:
        table = table_of("app.test", "other.test", "p.test/x", "p.test/y")
        app, prefixed = table.match("app.test", b"/"), table.match("p.test", b"/x")
        later = table.changed(2, {"other.test": "127.0.0.1:9", "p.test/y": "127.0.0.1:9"})
        assert later.match("app.test", b"/") is app
        assert later.match("p.test", b"/x") is prefixed
        changed = later.changed(3, {"app.test": "127.0.0.1:9"}).match("app.test", b"/")
        assert isinstance(changed, Route)
        assert changed.targets == ("127.0.0.1:9",)

    def test_a_snapshot_stays_as_it_is_when_the_next_one_is_made(self) -> None:
        old = table_of("app.test", "app.test/x", "*.test", "gone.test")
        new = old.changed(
            2, {"app.test/y": "a:1", "app.test": "a:1"}, gone=["gone.test", "*.test", "app.test/x"]
        )
        assert {route.key for route in old} == {"app.test", "app.test/x", "*.test", "gone.test"}
        assert {route.key for route in new} == {"app.test", "app.test/y"}
        assert domain_for(old, "x.test") == "*.test"
        assert domain_for(new, "x.test") is None
        assert domain_for(old, "app.test", b"/x") == "app.test/x"
        assert (old.version, len(old)) == (1, 4)
        assert (new.version, len(new)) == (2, 2)

    def test_a_long_path_costs_no_more_steps_than_the_deepest_prefix(self) -> None:
        table = table_of("app.test/a", "app.test")
        # Segment by segment, this would be a million copies of a megabyte.
        assert domain_for(table, "app.test", b"/b" * 1_000_000) == "app.test"


class TestTable:
    def test_it_knows_its_size_its_routes_and_its_targets(self) -> None:
        table = RouteTable().changed(
            7, {"app.test": "a:1,b:2", "app.test/x": "a:1", "*": "c:3", "bad": "d"}
        )
        assert len(table) == 3
        assert table.target_counts == {"a:1": 2, "b:2": 1, "c:3": 1}
        assert "app.test" in table
        assert "app.test/x" in table
        assert "*" in table
        assert "app.test/y" not in table
        assert "*/x" not in table
        assert "bad" not in table
        assert 7 not in table
        assert repr(table) == "<RouteTable version 7, 3 routes>"
        assert table.changed(8, {}, gone=["app.test"]).target_counts == {"a:1": 1, "c:3": 1}

    def test_a_route_is_found_by_its_key(self) -> None:
        table = table_of("app.test", "app.test/a", "[::1]/b/c", "*", "*.app.test")
        for key in ("app.test", "app.test/a", "[::1]/b/c", "*", "*.app.test"):
            route = table.get(key)
            assert route is not None
            assert route.key == key
        for key in ("app.test/b", "[::1]", "other.test", "*/a", "other.test/a"):
            assert table.get(key) is None


class TestCandidates:
    def test_every_route_of_the_host_is_named_with_its_reason(self) -> None:
        table = table_of(
            "a.app.test/api", "a.app.test", "a.app.test/x", "*.app.test", "*.test", "*", "b.test"
        )
        found = [
            (each.route.key, each.chosen, each.reason)
            for each in table.candidates("a.app.test", b"/api/1")
        ]
        assert found == [
            (
                "a.app.test/api",
                True,
                "its host is the most specific match and its prefix the longest",
            ),
            ("a.app.test/x", False, "the path does not begin with /x"),
            ("a.app.test", False, "the longer prefix /api wins"),
            ("*.app.test", False, "the host a.app.test is more specific than *.app.test"),
            ("*.test", False, "the host a.app.test is more specific than *.test"),
            ("*", False, "the host a.app.test is more specific than *"),
        ]

    def test_a_wildcard_just_below_the_host_is_named(self) -> None:
        (candidate,) = table_of("*.app.test").candidates("app.test", b"/")
        assert not candidate.chosen
        assert candidate.reason == "*.app.test does not match app.test itself"

    def test_nothing_is_chosen_where_no_prefix_fits(self) -> None:
        (candidate,) = table_of("app.test/api").candidates("app.test", b"/apix")
        assert not candidate.chosen
        assert candidate.reason == "the path does not begin with /api"

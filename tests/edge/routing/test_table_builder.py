"""How a table changes with its rows."""

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.routing.route import Route
from edge.routing.table import RouteTable
from tests.edge.routing.tables import domain_for, table_of


class TestChanges:
    def test_a_target_that_no_route_names_any_more_is_not_counted(self) -> None:
        table = table_of("a.test", "b.test").changed(2, {"a.test": "n:9"}, gone=["b.test"])
        assert table.target_counts == {"n:9": 1}

    def test_a_bad_row_is_a_problem_and_the_others_live(self) -> None:
        table = RouteTable().changed(
            1, {"good.test": "a:1", "x.test": "a", "a//b": "a:1", "y.test": "a:1"}, {"y.test": "[]"}
        )
        assert [route.key for route in table] == ["good.test"]
        assert table.problems == (
            "route 'a//b' is skipped: 'a//b' has two slashes in a row: remove one",
            "route 'x.test' is answered 503: target 'a' has no port: write HOST:PORT",
            "route 'y.test' is answered 503: the options are not a JSON object",
        )

    def test_a_row_that_becomes_bad_is_no_longer_served_and_comes_back(self) -> None:
        table = table_of("app.test").changed(2, {"app.test": "a:0"})
        assert (len(table), len(table.problems), table.target_counts) == (0, 1, {})
        found = table.match("app.test", b"/")
        assert isinstance(found, Route)
        assert (found.targets, "port '0'" in found.why_unavailable("")) == ((), True)
        table = table.changed(3, {"app.test": "a:1"})
        assert (len(table), table.problems, table.target_counts) == (1, (), {"a:1": 1})
        table = table.changed(4, {"app.test": "a:0"}).changed(5, {}, gone=["app.test"])
        assert (len(table), table.problems) == (0, ())
        assert domain_for(table, "app.test") is None

    def test_a_bad_row_does_not_leave_its_requests_to_a_wider_route(self) -> None:
        rows = {"*": "a:1", "*.test": "a:1", "app.test": "a:1", "app.test/api": "?", "B.test": "?"}
        table = RouteTable().changed(1, rows)
        assert len(table) == len(list(table)) == 3
        for host, path, key in (
            ("app.test", b"/api/x", "app.test/api"),
            ("b.test", b"/", "b.test"),
        ):
            found = table.match(host, path)
            assert isinstance(found, Route)
            assert (found.key, found.targets) == (key, ())
        assert domain_for(table, "app.test", b"/apis") == "app.test"
        assert {route.key for route in table.managed} == {"app.test/api", "b.test"}

    def test_of_two_spellings_the_normal_one_counts_though_it_is_bad(self) -> None:
        for rows in ({"App.test": "a:1", "app.test": "?"}, {"app.test": "?", "App.test": "a:1"}):
            table = RouteTable().changed(1, rows)
            assert (len(table), len(table.problems), table.target_counts) == (0, 2, {})
            table = table.changed(2, {"app.test": "b:2", "App.test": "?"})
            assert (len(table), table.target_counts) == (1, {"b:2": 1})
            table = table.changed(3, {"App.test": "a:1"}, gone=["app.test"])
            assert (len(table), table.problems, table.target_counts) == (1, (), {"a:1": 1})

    def test_of_two_spellings_the_normal_one_counts_in_whatever_order_they_come(self) -> None:
        rows = {"App.test": "a:1", "app.test": "b:2", "APP.test.": "c:3"}
        backwards = dict(reversed(rows.items()))
        for table in (RouteTable().changed(1, rows), RouteTable().changed(1, backwards)):
            assert table.target_counts == {"b:2": 1}
            assert table.problems == (
                "route 'APP.test.' is skipped: 'app.test' is the same route",
                "route 'App.test' is skipped: 'app.test' is the same route",
            )
            without = table.changed(2, {}, gone=["app.test"])
            assert without.target_counts == {"c:3": 1}  # "APP" comes before "App"
            assert len(without.problems) == 1
            assert without.changed(3, {}, gone=["APP.test.", "App.test"]).problems == ()

    def test_the_routes_that_the_orchestrator_manages_are_listed(self) -> None:
        def managed(table: RouteTable) -> set[str]:
            return {route.key for route in table.managed}

        rows = dict.fromkeys(("a.test", "b.test/x", "c.test", "d.test"), "t:1")
        boot = '{"boot":"now"}'
        first = RouteTable().changed(
            1,
            rows,
            {"a.test": boot, "b.test/x": '{"\\u0075navailable":"gone"}', "c.test": '{"retries":1}'},
        )
        assert managed(first) == {"a.test", "b.test/x"}
        second = first.changed(2, {"a.test": "t:1", "d.test": "t:2"}, {"d.test": boot})
        assert managed(second) == {"b.test/x", "d.test"}
        assert managed(second.changed(3, {}, gone=["b.test/x"])) == {"d.test"}
        assert managed(first) == {"a.test", "b.test/x"}

    def test_rows_that_are_not_there_can_be_gone(self) -> None:
        table = table_of("app.test").changed(
            2, {}, gone=["x.test", "app.test/x", "App.test", "not a host"]
        )
        assert len(table) == 1

    SPELLINGS = (
        "a.test",
        "A.test",
        "a.test.",
        "a.test/x",
        "A.test/x",
        "a.test/x/y",
        "*.test",
        "*.TEST",
        "*",
        "*/x",
        "b.test",
        "b.test/",
    )
    ROWS = st.dictionaries(
        st.sampled_from([*SPELLINGS, "bad host"]),
        st.tuples(
            st.sampled_from(["t:1", "t:1,u:2", "u:2", "T:1", "bad"]),
            st.sampled_from([None, '{"max_body":1}', "bad"]),
        ),
    )

    @given(st.lists(ROWS, min_size=2, max_size=6))
    @settings(deadline=None)
    def test_changes_in_steps_come_to_the_same_as_all_rows_at_once(
        self, states: list[dict[str, tuple[str, str | None]]]
    ) -> None:
        table = RouteTable()
        before: dict[str, tuple[str, str | None]] = {}
        for version, rows in enumerate(states, start=1):
            table.match("a.test", b"/x")  # what was asked for is kept unfolded
            new = {row: value for row, value in rows.items() if before.get(row) != value}
            table = table.changed(
                version,
                {row: target for row, (target, _) in new.items()},
                {row: options for row, (_, options) in new.items() if options is not None},
                before.keys() - rows.keys(),
            )
            before = rows
            whole = RouteTable().changed(
                version,
                {row: target for row, (target, _) in rows.items()},
                {row: options for row, (_, options) in rows.items() if options is not None},
            )
            assert {route.key: route for route in table} == {route.key: route for route in whole}
            assert table.problems == whole.problems
            assert table.target_counts == whole.target_counts
            assert len(table) == len(whole) == len(list(whole))
            for host in ("a.test", "b.test", "c", "test"):
                for path in (b"/", b"/x", b"/x/y/z", b"*"):
                    assert table.match(host, path) == whole.match(host, path)

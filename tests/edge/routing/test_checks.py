"""Proves `edge.routing.checks`, and the options of routes that ask for checks."""

import pytest

from edge.errors import RouteError
from edge.routing.checks import checks_by_target
from edge.routing.options import check_options, read_flags
from edge.routing.route import Route, parse_route
from edge.routing.table import RouteTable
from edge.rules.health_check import HealthCheck

CHECK = HealthCheck("/up", None, 5.0, 2.0, "200-399", 2, 3)


def route(options: str, targets: str = "a:1", domain: str = "app.test") -> Route:
    """A row of the store."""
    return parse_route(domain, targets, options)


class TestOptions:
    def test_a_path_is_all_that_a_check_needs(self) -> None:
        assert checks_by_target([route('{"health_path":"/up"}')]) == {"a:1": {CHECK}}

    def test_every_option_reaches_the_check(self) -> None:
        flags = {
            "health_path": ("/up?x=1",),
            "health_host": ("[::1]:80",),
            "health_interval": ("0.5",),
            "health_timeout": ("86400",),
            "health_status": ("200,204",),
            "health_rise": ("1",),
            "health_fall": ("100",),
            "max_fails": ("7",),
        }
        options = check_options(read_flags(flags))
        assert options.max_fails == 7
        made = Route("app.test", "app.test", b"", ("a:1",), (1,), options)
        assert checks_by_target([made]) == {
            "a:1": {HealthCheck("/up?x=1", "[::1]:80", 0.5, 86_400, "200,204", 1, 100)}
        }
        assert check_options(options.non_default()) == options
        words = options.as_flags()
        assert {word[2:].replace("-", "_") for word in words[::2]} == set(flags)
        given = {
            word[2:].replace("-", "_"): (text,)
            for word, text in zip(words[::2], words[1::2], strict=True)
        }
        assert check_options(read_flags(given)) == options

    def test_the_same_checks_of_several_routes_are_one(self) -> None:
        routes = [
            route('{"health_path":"/up"}', "a:1,b:1", "a.test"),
            route('{"health_path":"/up","host":"target"}', "b:1", "b.test"),
            route('{"health_path":"/other"}', "b:1", "c.test"),
            route("{}", "c:1", "d.test"),
        ]
        found = checks_by_target(routes)
        assert found == {"a:1": {CHECK}, "b:1": {CHECK, CHECK._replace(path="/other")}}

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ('{"health_path":"up"}', "'health_path' is not a path such as /up"),
            ('{"health_path":"/a b"}', "'health_path' is not a path such as /up"),
            ('{"health_path":"/a\\r\\nX: y"}', "'health_path' is not a path such as /up"),
            ('{"health_path":"/a#b"}', "'health_path' is not a path such as /up"),
            ('{"health_path":"/ä"}', "'health_path' is not a path such as /up"),
            ('{"health_path":1}', "'health_path' is not a path such as /up"),
            ('{"health_path":"/","health_host":"a b"}', "'health_host' is not a host such as"),
            ('{"health_path":"/","health_host":""}', "'health_host' is not a host such as"),
            ('{"health_path":"/","health_host":"a:b"}', "'health_host' is not a host such as"),
            ('{"health_path":"/","health_status":200}', "'health_status' is not a text such as"),
            ('{"health_path":"/","health_status":"2xx"}', "'health_status' is not a list of"),
            ('{"health_path":"/","health_interval":0.4}', "seconds from 0.5 to 86400"),
            ('{"health_path":"/","health_interval":true}', "seconds from 0.5 to 86400"),
            ('{"health_path":"/","health_timeout":86401}', "seconds from 0.5 to 86400"),
            ('{"health_path":"/","health_timeout":"2"}', "seconds from 0.5 to 86400"),
            ('{"health_path":"/","health_rise":0}', "a whole number from 1 to 100"),
            ('{"health_path":"/","health_fall":1.5}', "a whole number from 1 to 100"),
            ('{"max_fails":1001}', "a whole number from 0 to 1000"),
            ('{"health_fall":2}', "'health_fall' needs a health check: add --health-path"),
            ('{"health_host":"a"}', "'health_host' needs a health check"),
        ],
    )
    def test_a_bad_option_is_refused_with_the_reason(self, options: str, reason: str) -> None:
        with pytest.raises(RouteError) as refusal:
            route(options)
        assert reason in str(refusal.value)

    @pytest.mark.parametrize(
        ("name", "text", "reason"),
        [
            ("health_path", "up", "--health-path: 'up' is not a path such as /up"),
            ("health_host", "a/b", "--health-host: 'a/b' is not a host such as"),
            ("health_status", "ok", "--health-status: 'ok' is not a list of final status codes"),
            ("health_interval", "5s", "--health-interval: '5s' is not a duration"),
            ("health_interval", "0.1", "--health-interval: '0.1' is not a number of seconds"),
            ("health_rise", "two", "--health-rise: 'two' is not a whole number from 1 to 100"),
            ("max_fails", "-1", "--max-fails: '-1' is not a whole number from 0 to 1000"),
        ],
    )
    def test_a_bad_flag_is_refused_with_the_reason(self, name: str, text: str, reason: str) -> None:
        with pytest.raises(RouteError) as refusal:
            read_flags({name: (text,)})
        assert str(refusal.value).startswith(reason)


class TestTable:
    """The table knows which of its routes are checked, whatever becomes of their rows."""

    def test_it_follows_every_change_of_a_row(self) -> None:
        def checked(table: RouteTable) -> dict[str, str | None]:
            return {each.key: each.options.health_path for each in table.checked}

        up = '{"health_path":"/up"}'
        first = RouteTable().changed(
            1,
            {"a.test": "a:1", "a.test/x": "a:1", "b.test": "b:1", "*.c.test": "c:1"},
            {"a.test": up, "a.test/x": '{"health\\u005fpath":"/x"}', "b.test": '{"max_body":1}'},
        )
        assert checked(first) == {"a.test": "/up", "a.test/x": "/x"}
        second = first.changed(
            2,
            {"a.test": "a:1", "b.test": "b:1", "*.c.test": "c:1"},
            {"b.test": up, "*.c.test": '{"health_path":"/c"}'},
        )
        assert checked(second) == {"a.test/x": "/x", "b.test": "/up", "*.c.test": "/c"}
        third = second.changed(3, {"b.test": "b:1"}, {"b.test": '{"max_body":0}'}, ["a.test/x"])
        assert checked(third) == {"*.c.test": "/c"}
        assert checked(first) == {"a.test": "/up", "a.test/x": "/x"}

    def test_of_rows_that_are_one_route_only_the_one_that_counts_is_checked(self) -> None:
        options = {"A.test": '{"health_path":"/big"}', "a.test": '{"health_path":"/small"}'}
        table = RouteTable().changed(1, {"A.test": "a:1", "a.test": "a:1"}, options)
        assert [each.options.health_path for each in table.checked] == ["/small"]
        table = table.changed(2, {}, gone=["a.test"])
        assert [each.options.health_path for each in table.checked] == ["/big"]
        assert list(table.changed(3, {}, gone=["A.test"]).checked) == []

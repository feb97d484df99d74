"""Which texts are routes, in which spelling, and which of them a request takes."""

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import RouteError
from edge.routing.options import RouteOptions
from edge.routing.routes import (
    MAX_PORT,
    Route,
    RouteTable,
    normalize_host,
    parse_key,
    parse_route,
    parse_target,
)

LONGEST_LABEL = "a" * 63
LONGEST_NAME = ".".join([LONGEST_LABEL] * 3 + ["a" * 61])


def table_of(*domains: str) -> RouteTable:
    """Every domain leads to a target whose port is its place in the list, from 1."""
    rows = {domain: f"127.0.0.1:{port}" for port, domain in enumerate(domains, start=1)}
    return RouteTable().changed(1, rows)


def domain_for(table: RouteTable, host: str, path: bytes = b"/") -> str | None:
    route = table.match(host, path)
    return None if route is None else route.key


class TestHosts:
    @pytest.mark.parametrize(
        ("text", "normal"),
        [
            ("app.test", "app.test"),
            ("APP.Test", "app.test"),
            ("app.test.", "app.test"),
            ("localhost", "localhost"),
            ("a_b._tcp.test", "a_b._tcp.test"),
            ("9.test", "9.test"),
            ("1e3", "1e3"),
            ("xn--bcher-kva.test", "xn--bcher-kva.test"),
            ("a--b.test", "a--b.test"),
            ("127.0.0.1", "127.0.0.1"),
            ("[::1]", "[::1]"),
            ("[0:0:0:0:0:0:0:1]", "[::1]"),
            ("[2001:DB8::A]", "[2001:db8::a]"),
            ("[::ffff:192.0.2.1]", "[::ffff:c000:201]"),
            (LONGEST_NAME, LONGEST_NAME),
            (LONGEST_NAME + ".", LONGEST_NAME),
        ],
    )
    def test_a_host_has_one_spelling(self, text: str, normal: str) -> None:
        assert normalize_host(text) == normal
        assert normalize_host(normal) == normal

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "the host is empty"),
            (".", "empty label"),
            ("app..test", "empty label"),
            (".app.test", "empty label"),
            ("app.test..", "empty label"),
            ("app test", "a blank or a control character"),
            (" app.test", "a blank or a control character"),
            ("app.test\n", "a blank or a control character"),
            ("app\0.test", "a blank or a control character"),
            ("app\x7f.test", "a blank or a control character"),
            ("app.test:80", "leave the port out"),
            ("::1", "put an IPv6 address in brackets"),
            ("user@app.test", "user information"),
            ("user:secret@app.test", "user information"),
            ("app/test", "is not a valid name"),
            ("app?.test", "is not a valid name"),
            ("app%2e.test", "is not a valid name"),
            ("app,test", "is not a valid name"),
            ("-app.test", "is not a valid name"),
            ("app-.test", "is not a valid name"),
            ("a.*.test", "write * alone or *.name"),
            ("*app.test", "write * alone or *.name"),
            ("app.*", "write * alone or *.name"),
            ("1.2.3", "is not an IPv4 address"),
            ("1.2.3.256", "is not an IPv4 address"),
            ("1.2.3.04", "is not an IPv4 address"),
            ("app.test.1", "is not an IPv4 address"),
            ("123", "is not an IPv4 address"),
            ("0x7f000001", "is not an IPv4 address"),
            ("[::1", "is not an IPv6 address"),
            ("[]", "is not an IPv6 address"),
            ("[1.2.3.4]", "is not an IPv6 address"),
            ("[fe80::1%eth0]", "is not an IPv6 address"),
            ("[::1]x", "is not an IPv6 address"),
            (LONGEST_NAME + "a", "longer than 253"),
            (LONGEST_LABEL + "a.test", "longer than 63"),
        ],
    )
    def test_what_is_no_host_is_refused_with_the_reason(self, text: str, reason: str) -> None:
        with pytest.raises(RouteError) as refusal:
            normalize_host(text)
        assert reason in str(refusal.value)

    @pytest.mark.parametrize(
        ("text", "encoded"),
        [
            ("bücher.test", "xn--bcher-kva.test"),
            ("BÜCHER.Test", "xn--bcher-kva.test"),
            ("straße.de", "xn--strae-oqa.de"),
            ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
            ("\u212aelvin.test", "kelvin.test"),  # the Kelvin sign
        ],
    )
    def test_a_name_beyond_ascii_is_refused_with_its_encoded_form(
        self, text: str, encoded: str
    ) -> None:
        with pytest.raises(RouteError, match="is not ASCII") as refusal:
            normalize_host(text)
        assert str(refusal.value).endswith(f": write {encoded}")

    @pytest.mark.parametrize("text", ["a\u00a0b.test", "a\u200bb.test", "ü" * 70, "☃.test", "ü..a"])
    def test_where_there_is_no_encoded_form_none_is_offered(self, text: str) -> None:
        with pytest.raises(RouteError) as refusal:
            normalize_host(text)
        assert str(refusal.value).endswith("is not ASCII")

    def test_an_error_shows_no_control_character_and_no_endless_text(self) -> None:
        with pytest.raises(RouteError) as refusal:
            normalize_host("\x1b[31m" + "a" * 10_000)
        assert "\x1b" not in str(refusal.value)
        assert len(str(refusal.value)) < 300


class TestDomains:
    @pytest.mark.parametrize(
        ("text", "host", "prefix"),
        [
            ("app.test", "app.test", b""),
            ("App.Test./Api", "app.test", b"/Api"),
            ("app.test/a/b.c/~d", "app.test", b"/a/b.c/~d"),
            ("app.test/@scope/a=b;c", "app.test", b"/@scope/a=b;c"),
            ("*", "*", b""),
            ("*/api", "*", b"/api"),
            ("*.App.test", "*.app.test", b""),
            ("*.test/x", "*.test", b"/x"),
            ("[::1]/x", "[::1]", b"/x"),
        ],
    )
    def test_a_domain_is_a_host_and_a_prefix(self, text: str, host: str, prefix: bytes) -> None:
        assert parse_key(text) == (host, prefix)

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("/app", "begins with a slash"),
            ("/", "begins with a slash"),
            ("app.test/", "ends with a slash"),
            ("app.test/a/", "ends with a slash"),
            ("app.test//a", "two slashes in a row"),
            ("app.test/a//b", "two slashes in a row"),
            ("app.test/../a", "the segment .."),
            ("app.test/a/./b", "the segment ."),
            ("app.test/a?b", "a plain path"),
            ("app.test/a#b", "a plain path"),
            ("app.test/a%2fb", "a plain path"),
            ("app.test/a b", "a plain path"),
            ("app.test/a\\b", "a plain path"),
            ("app.test/a\r\nHost: b", "a plain path"),
            ("app.test/é", "a plain path"),
            ("http://app.test", "without it"),
            ("app.test:80/a", "leave the port out"),
            ("**", "write * alone or *.name"),
            ("*.*.test", "write * alone or *.name"),
            ("*.", "the host is empty"),
            ("*.127.0.0.1", "not an address"),
            ("*.[::1]", "not an address"),
            (f"*.{LONGEST_NAME}", "longer than 253"),
        ],
    )
    def test_what_is_no_domain_is_refused_with_the_reason(self, text: str, reason: str) -> None:
        with pytest.raises(RouteError) as refusal:
            parse_key(text)
        assert reason in str(refusal.value)


class TestTargets:
    @pytest.mark.parametrize(
        ("text", "normal"),
        [
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("127.0.0.1:65535", "127.0.0.1:65535"),
            ("App-1.Test:80", "app-1.test:80"),
            ("app.test.:80", "app.test:80"),
            ("my_container:8080", "my_container:8080"),
            ("[::1]:80", "[::1]:80"),
            ("[0::1]:80", "[::1]:80"),
        ],
    )
    def test_a_target_has_one_spelling(self, text: str, normal: str) -> None:
        assert parse_target(text) == normal

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "a target is empty"),
            ("app", "has no port"),
            ("[::1]", "has no port"),
            ("app:", "is not a number from 1 to 65535"),
            ("app:0", "is not a number from 1 to 65535"),
            ("app:65536", "is not a number from 1 to 65535"),
            ("app:080", "is not a number from 1 to 65535"),
            ("app:+80", "is not a number from 1 to 65535"),
            ("app:-80", "is not a number from 1 to 65535"),
            ("app:8 0", "is not a number from 1 to 65535"),
            ("app:٨٠", "is not a number from 1 to 65535"),
            ("app:http", "is not a number from 1 to 65535"),
            (" app:80", "a blank or a control character"),
            ("app\n:80", "a blank or a control character"),
            (":80", "the host is empty"),
            ("::1:80", "put an IPv6 address in brackets"),
            ("user@app:80", "user information"),
            ("http://app:80", "has a scheme: leave out 'http://'"),
            ("http://app:80/x", "has a scheme: leave out 'http://'"),
            ("app:80/x", "has a path"),
            ("*:80", "write * alone or *.name"),
            ("*.app:80", "write * alone or *.name"),
            ("256.0.0.1:80", "is not an IPv4 address"),
            ("bücher.test:80", "write xn--bcher-kva.test"),
        ],
    )
    def test_what_is_no_target_is_refused_with_the_reason(self, text: str, reason: str) -> None:
        with pytest.raises(RouteError) as refusal:
            parse_target(text)
        assert reason in str(refusal.value)

    @given(st.text("01256.:-_[aAzx", max_size=20) | st.from_regex(r"[a-z0-9.-]{1,9}:[0-9]{1,6}"))
    @settings(deadline=None)
    def test_the_short_way_accepts_what_the_rules_accept(self, text: str) -> None:
        host, _, port = text.rpartition(":")
        try:
            ruled = f"{normalize_host(host)}:{port}"
        except RouteError:
            ruled = None
        if not port.isdigit() or port.startswith("0") or not 1 <= int(port) <= MAX_PORT:
            ruled = None
        try:
            parsed = parse_target(text)
        except RouteError:
            parsed = None
        assert parsed == ruled

    @given(st.text("019.-_aAzx*[:", max_size=20))
    @settings(deadline=None)
    def test_the_short_way_to_a_domain_accepts_what_the_rules_accept(self, text: str) -> None:
        try:
            ruled = normalize_host(text.removeprefix("*."))
        except RouteError:
            ruled = None
        try:
            parsed = parse_key(text)[0].removeprefix("*.")
        except RouteError:
            parsed = None
        if text == "*" or (parsed is None and text.startswith("*.")):
            return  # what is special about wildcards is tested above
        assert parsed == ruled


class TestRows:
    def test_a_row_without_options_has_the_defaults(self) -> None:
        assert parse_route("App.test", "A:1,[::1]:2") == Route(
            key="app.test",
            host="app.test",
            prefix=b"",
            targets=("a:1", "[::1]:2"),
            weights=(1, 1),
            options=RouteOptions(
                balance="round_robin", strip=False, max_body=None, host="client", weights={}
            ),
        )

    def test_every_option_is_read(self) -> None:
        route = parse_route(
            "app.test/api",
            "a:1,b:2",
            '{"strip":true,"max_body":0,"host":"target","balance":"least_in_flight",'
            '"weights":{"B:2":100}}',
        )
        assert route.options == RouteOptions(
            balance="least_in_flight", strip=True, max_body=0, host="target", weights={"b:2": 100}
        )
        assert route.weights == (1, 100)

    @pytest.mark.parametrize(
        ("domain", "target", "options"),
        [
            ("app.test", "a:1", {}),
            ("app.test", "a:1", {"max_body": 0}),
            (
                "app.test/x",
                "a:1,b:2",
                {
                    "balance": "least_in_flight",
                    "host": "target",
                    "max_body": 7,
                    "strip": True,
                    "weights": {"b:2": 3},
                },
            ),
        ],
    )
    def test_the_options_of_a_route_are_those_that_make_it(
        self, domain: str, target: str, options: dict[str, object]
    ) -> None:
        route = parse_route(domain, target, orjson.dumps(options).decode())
        assert route.options.non_default() == options

    @pytest.mark.parametrize(
        ("target", "options", "reason"),
        [
            ("a:1,a:1", None, "'a:1' is given twice"),
            ("a:1,A.:1", None, "'a:1' is given twice"),
            ("a:1,", None, "a target is empty"),
            ("a:1, b:2", None, "a blank"),
            ("a:1;b:2", None, "contains a colon"),
            ("a:1", "", "are not JSON"),
            ("a:1", "{", "are not JSON"),
            ("a:1", "[]", "are not a JSON object"),
            ("a:1", "null", "are not a JSON object"),
            ("a:1", '{"stripp":true}', "'stripp' is unknown"),
            ("a:1", '{"strip":1}', "'strip' is not true or false"),
            ("a:1", '{"strip":true}', "'strip' needs a prefix"),
            ("a:1", '{"max_body":-1}', "'max_body' is not a number"),
            ("a:1", '{"max_body":true}', "'max_body' is not a number"),
            ("a:1", '{"max_body":1.5}', "'max_body' is not a number"),
            ("a:1", '{"max_body":"1MiB"}', "'max_body' is not a number"),
            ("a:1", '{"host":"upstream"}', "'host' is not one of client, target"),
            ("a:1", '{"host":["client"]}', "'host' is not one of client, target"),
            ("a:1", '{"balance":"random"}', "'balance' is not one of round_robin"),
            ("a:1", '{"weights":[1]}', "'weights' is not an object"),
            ("a:1", '{"weights":{"b:1":1}}', "'b:1', which is not a target of this route"),
            ("a:1", '{"weights":{"a":1}}', "has no port"),
            ("a:1", '{"weights":{"a:1":0}}', "is not a number from 1 to 100"),
            ("a:1", '{"weights":{"a:1":101}}', "is not a number from 1 to 100"),
            ("a:1", '{"weights":{"a:1":"2"}}', "is not a number from 1 to 100"),
            ("a:1", '{"weights":{"a:1":true}}', "is not a number from 1 to 100"),
        ],
    )
    def test_a_bad_row_is_refused_with_the_reason(
        self, target: str, options: str | None, reason: str
    ) -> None:
        with pytest.raises(RouteError) as refusal:
            parse_route("app.test", target, options)
        assert reason in str(refusal.value)


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
            (b"//api", "app.test"),
            (b"/%61pi", "app.test"),
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
        assert changed is not None
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
            "route 'x.test' is skipped: target 'a' has no port: write HOST:PORT",
            "route 'y.test' is skipped: the options are not a JSON object",
        )

    def test_a_row_that_becomes_bad_is_no_longer_served_and_comes_back(self) -> None:
        table = table_of("app.test").changed(2, {"app.test": "a:0"})
        assert (len(table), len(table.problems), table.target_counts) == (0, 1, {})
        assert domain_for(table, "app.test") is None
        table = table.changed(3, {"app.test": "a:1"})
        assert (len(table), table.problems, table.target_counts) == (1, (), {"a:1": 1})
        table = table.changed(4, {"app.test": "a:0"}).changed(5, {}, gone=["app.test"])
        assert (len(table), table.problems) == (0, ())

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

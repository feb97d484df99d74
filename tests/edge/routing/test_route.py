"""Which texts are routes, and in which spelling."""

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import RouteError
from edge.hosts import normalize_host
from edge.routing.options import RouteOptions
from edge.routing.route import MAX_PORT, Route, parse_key, parse_route, parse_target

LONGEST_LABEL = "a" * 63
LONGEST_NAME = ".".join([LONGEST_LABEL] * 3 + ["a" * 61])


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


class TestAvailability:
    """Whether the targets of a route get requests."""

    @pytest.mark.parametrize(
        ("options", "why"),
        [
            ({}, ""),
            ({"boot": "now"}, ""),
            ({"boot": "before"}, "waiting for the orchestrator since the machine was restarted"),
            ({"unavailable": "container is exited"}, "container is exited"),
            ({"boot": "before", "unavailable": "container is exited"}, "container is exited"),
        ],
    )
    def test_it_takes_this_boot_and_no_reason_against_it(
        self, options: dict[str, str], why: str
    ) -> None:
        route = parse_route("app.test", "a:1", orjson.dumps(options).decode())
        assert route.why_unavailable("now") == why

    def test_where_the_boot_is_not_known_one_of_an_unknown_boot_waits(self) -> None:
        assert parse_route("app.test", "a:1", '{"boot":"then"}').why_unavailable("")
        assert not parse_route("app.test", "a:1").why_unavailable("")

    @pytest.mark.parametrize("name", ["boot", "unavailable"])
    @pytest.mark.parametrize("value", ["", 1, ["x"]])
    def test_both_are_texts(self, name: str, value: object) -> None:
        with pytest.raises(RouteError, match=f"option '{name}' is not a text"):
            parse_route("app.test", "a:1", orjson.dumps({name: value}).decode())

    def test_neither_is_a_word_of_the_command_line(self) -> None:
        assert RouteOptions(boot="now", unavailable="gone").as_flags() == []

"""Proves `edge.routing.options`: every option, right, ill-typed and unknown."""

import orjson
import pytest

from edge.errors import MAX_QUOTED, RouteError
from edge.routing.options import (
    DEFAULTS,
    OPTIONS,
    check_options,
    read_flags,
)

DURATIONS = (
    "body_timeout",
    "connect_timeout",
    "response_timeout",
    "stream_timeout",
    "tunnel_timeout",
)

# Those of admission and of health checks have tests of their own.
ELSEWHERE = {
    "allow",
    "basic_auth",
    "boot",
    "burst",
    "deny",
    "max_fails",
    "health_fall",
    "health_host",
    "health_interval",
    "health_path",
    "health_rise",
    "health_status",
    "health_timeout",
    "maintenance",
    "maintenance_page",
    "pause",
    "pause_max",
    "rate",
    "redirect",
    "unavailable",
}

RIGHT: list[tuple[str, list[str], object]] = [
    ("balance", ["least_in_flight"], "least_in_flight"),
    ("balance", ["client_hash"], "client_hash"),
    ("balance", ["cookie"], "cookie"),
    ("host", ["target"], "target"),
    ("max_body", ["10MiB"], 10 * 2**20),
    ("max_body", ["0"], 0),
    *((name, ["2.5"], 2.5) for name in DURATIONS),
    ("stream_timeout", ["31536000"], 31_536_000.0),
    ("body_timeout", ["0.00001"], 0.00001),
    ("retries", ["0"], 0),
    ("retries", ["10"], 10),
    ("strip", ["true"], True),
    ("normalize_path", ["true"], True),
    ("merge_slashes", ["off"], "off"),
    ("escaped_slashes", ["keep"], "keep"),
    ("weights", ["a:1=3", "[::1]:2=100"], {"a:1": 3, "[::1]:2": 100}),
    ("set_fields", ["X-A: b: c ", "X-B:"], {"X-A": "b: c", "X-B": ""}),
    ("remove_fields", ["Server", "X-A"], ("Server", "X-A")),
]

ILL_TYPED: list[tuple[str, object, str]] = [
    ("balance", "random", "is not one of round_robin, least_in_flight, client_hash, cookie"),
    ("balance", 1, "is not one of round_robin"),
    ("host", ["client"], "is not one of client, target"),
    ("max_body", "1MiB", "is not a number of bytes"),
    ("max_body", -1, "is not a number of bytes"),
    *((name, "5", "is not a number of seconds") for name in DURATIONS),
    ("response_timeout", 0, "is not a number of seconds above 0"),
    ("response_timeout", -1, "is not a number of seconds above 0"),
    ("response_timeout", True, "is not a number of seconds"),
    ("response_timeout", [1], "is not a number of seconds"),
    ("response_timeout", 31_536_001, "at most 31536000"),
    ("retries", -1, "is not a whole number from 0 to 10"),
    ("retries", 11, "is not a whole number from 0 to 10"),
    ("retries", True, "is not a whole number from 0 to 10"),
    ("retries", 1.0, "is not a whole number from 0 to 10"),
    ("strip", 1, "is not true or false"),
    ("normalize_path", "on", "is not true or false"),
    ("merge_slashes", False, "is not one of on, off"),
    ("escaped_slashes", "decode", "is not one of reject, keep"),
    ("weights", [1], "is not an object"),
    ("weights", {"a:1": 101}, "is not a number from 1 to 100"),
    ("set_fields", ["X: y"], "is not an object of texts"),
    ("set_fields", {"X": 1}, "is not an object of texts"),
    ("set_fields", {"X Y": "1"}, "'X Y' is not a field name"),
    ("set_fields", {"Content-Length": "1"}, "'Content-Length' cannot be changed by a route"),
    ("set_fields", {"X": "a\r\nY: b"}, "'X' has a value with a line break"),
    ("set_fields", {"X": "a", "x": "b"}, "names 'x' twice"),
    ("remove_fields", "Server", "is not a list of texts"),
    ("remove_fields", [1], "is not a list of texts"),
    ("remove_fields", ["Date"], "'Date' cannot be changed by a route"),
    ("remove_fields", ["X", "x"], "names 'x' twice"),
]

ILL_WRITTEN = [
    ("balance", ["random"], "--balance: 'random' is not one of"),
    ("host", ["x"], "--host: 'x' is not one of"),
    ("max_body", ["1M"], "--max-body: '1M' is not a size"),
    *((name, ["5s"], f"--{name.replace('_', '-')}: '5s' is not a duration") for name in DURATIONS),
    ("retries", ["-1"], "--retries: '-1' is not a whole number from 0 to 10"),
    ("retries", ["x"], "--retries: 'x' is not a whole number from 0 to 10"),
    ("weights", ["a:1"], "--weight: 'a:1' is not TARGET=NUMBER"),
    ("weights", ["a:1=1", "a:1=2"], "--weight: 'a:1' has two weights"),
    ("set_fields", ["X-A"], "--set-field: 'X-A' is not NAME: VALUE"),
    ("set_fields", ["X: 1", "X: 2"], "--set-field: 'X' has two values: join them with a comma"),
]


@pytest.mark.parametrize(("name", "texts", "value"), RIGHT)
def test_what_the_command_line_says_passes_through_the_store_and_back(
    name: str, texts: list[str], value: object
) -> None:
    stored = orjson.dumps(read_flags({name: texts}))
    options = check_options(orjson.loads(stored))
    assert getattr(options, name) == value
    assert options.non_default() == {name: value}
    words = options.as_flags()
    flag = next(option.flag for option in OPTIONS if option.name == name)
    assert set(words[::2]) == {flag}
    given = words[1::2] or texts
    assert check_options(orjson.loads(orjson.dumps(read_flags({name: given})))) == options


@pytest.mark.parametrize(("name", "value", "reason"), ILL_TYPED)
def test_an_ill_typed_value_is_refused_with_the_name_of_its_option(
    name: str, value: object, reason: str
) -> None:
    with pytest.raises(RouteError) as refusal:
        check_options({name: value})
    assert str(refusal.value).startswith(f"option '{name}'")
    assert reason in str(refusal.value)
    assert "  " not in str(refusal.value)


@pytest.mark.parametrize(("name", "texts", "reason"), ILL_WRITTEN)
def test_a_text_that_cannot_be_read_is_refused_with_the_name_of_its_flag(
    name: str, texts: list[str], reason: str
) -> None:
    with pytest.raises(RouteError) as refusal:
        read_flags({name: texts})
    assert str(refusal.value).startswith(reason)


@pytest.mark.parametrize("cases", [RIGHT, ILL_TYPED])
def test_no_option_is_left_out_here(cases: list[tuple[str, object, object]]) -> None:
    assert {case[0] for case in cases} | ELSEWHERE == {option.name for option in OPTIONS}


@pytest.mark.parametrize("name", [option.name for option in OPTIONS])
def test_null_is_the_default_of_every_option(name: str) -> None:
    assert check_options({name: None}) == DEFAULTS
    assert DEFAULTS.non_default() == {}
    assert DEFAULTS.as_flags() == []


def test_an_unknown_option_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(RouteError) as refusal:
        check_options({"x" * 500: 1})
    assert "is unknown; options are balance, " in str(refusal.value)
    assert "x" * (MAX_QUOTED + 1) not in str(refusal.value)


def test_options_that_are_no_object_are_refused() -> None:
    with pytest.raises(RouteError, match="not a JSON object"):
        check_options([])

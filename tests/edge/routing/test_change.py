"""What a change of a route says of itself: whatever it takes of the access rules is named."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import RouteError
from edge.routing.change import ACCESS_OPTIONS, Change, changed
from edge.routing.route import Route, parse_route
from edge.rules.password import MIN_COST, hash_password

HASHES = [hash_password(word, cost=MIN_COST) for word in ("one", "two")]
NETWORKS = st.lists(
    st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "2001:db8::/32"]), unique=True, max_size=3
)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "allow": NETWORKS,
        "deny": NETWORKS,
        "rate": st.sampled_from([1, 5, 0.5]),
        "basic_auth": st.dictionaries(st.sampled_from(["ann", "bob"]), st.sampled_from(HASHES)),
        "retries": st.integers(0, 3),
        "redirect": st.just("https://"),
        "maintenance": st.just(True),
        "maintenance_page": st.sampled_from(["<p>a", "<p>b"]),
        "set_fields": st.dictionaries(st.sampled_from(["A", "B"]), st.sampled_from(["1", "2"])),
    },
)


def route(target: str = "a:1", /, **options: Any) -> Route:
    return parse_route("app.test", target, orjson.dumps(options).decode())


def test_what_does_not_change_is_not_told() -> None:
    same = route(allow=["10.0.0.0/8"], basic_auth={"ann": HASHES[0]})
    assert Change(same, same).lines() == []
    assert Change(same, same).taken_away() == []


def test_every_kind_of_difference_is_one_line() -> None:
    old = route("a:1,b:1", weights={"a:1": 3}, strip=False, retries=1, maintenance=True)
    new = route("b:1,c:1", retries=2, set_fields={"X-A": "1"}, unavailable="gone")
    assert Change(old, new).lines() == [
        "- target a:1",
        "+ target c:1",
        "- --retries 1",
        "+ --retries 2",
        "+ --set-field 'X-A: 1'",
        "- --weight a:1=3",
        "- --maintenance",
        "+ unavailable gone",
    ]


def test_a_new_password_and_a_new_page_are_told_and_not_shown() -> None:
    old = route(basic_auth={"ann": HASHES[0]}, maintenance_page="<p>a")
    new = route(basic_auth={"ann": HASHES[1]}, maintenance_page="<p>b")
    assert Change(old, new).lines() == [
        "~ --basic-auth ann (changed)",
        "~ maintenance page (changed)",
    ]


@given(OPTIONS, OPTIONS)
def test_what_is_taken_away_is_whatever_the_new_route_has_no_more(
    before: dict[str, object], after: dict[str, object]
) -> None:
    old, new = route(**before).options, route(**after).options
    named = Change(route(**before), route(**after)).taken_away()
    expected = [f"--allow {each}" for each in old.allow if each not in new.allow]
    expected += [f"--deny {each}" for each in old.deny if each not in new.deny]
    expected += [f"--rate {old.rate:.12g}"] if old.rate and new.rate is None else []
    expected += [f"--basic-auth {each}" for each in old.basic_auth if each not in new.basic_auth]
    assert named == expected
    # Nothing of it is missing from what is shown.
    shown = Change(route(**before), route(**after)).lines()
    assert all(f"- {each}" in shown for each in named)
    assert Change(route(**before), route(**after)).taken_away(ACCESS_OPTIONS) == []
    assert not any("$scrypt" in line for line in shown)


@given(OPTIONS, OPTIONS)
def test_an_option_that_is_not_named_stays(
    before: dict[str, object], named: dict[str, object]
) -> None:
    made = changed(route(**before), named)
    assert made.options == route(**{**before, **named}).options
    assert (
        changed(made, dict.fromkeys(named)).options
        == route(**{name: value for name, value in before.items() if name not in named}).options
    )


def test_what_was_said_of_targets_goes_with_them() -> None:
    old = route("a:1,b:1", weights={"a:1": 3}, boot="now", unavailable="gone", retries=1)
    assert changed(old, {}, "c:1") == route("c:1", retries=1)
    with pytest.raises(RouteError, match="has no port"):
        changed(old, {}, "c")

"""How the values of options are written: read from a flag, kept in the store, shown, refused."""

import pytest

from edge.errors import RouteError
from edge.routing.option_syntax import MAX_PAGE, check_user
from edge.routing.options import OPTIONS, check_options, read_flags
from edge.rules.password import MIN_COST, hash_password

HASH = hash_password("secret", salt=b"0123456789abcdef", cost=MIN_COST)


class TestReading:
    @pytest.mark.parametrize(
        ("name", "texts", "value", "shown"),
        [
            (
                "allow",
                ["10.0.0.0/8, 192.0.2.7", "2001:DB8::/32", "10.0.0.0/8"],
                ("10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"),
                ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"],
            ),
            ("deny", ["::1"], ("::1/128",), ["::1/128"]),
            ("rate", ["5", "0.5"], 0.5, ["0.5"]),
            ("rate", ["10"], 10, ["10"]),
            ("rate", ["10.0"], 10, ["10"]),
            ("redirect", ["HTTPS://Other.test/"], "https://other.test", ["https://other.test"]),
            ("basic_auth", [f"a b:{HASH}"], {"a b": HASH}, [f"a b:{HASH}"]),
            ("pause", ["30"], 30, ["30"]),
            ("pause_max", ["5"], 5, ["5"]),
            ("maintenance_page", ["<p>"], "<p>", []),
        ],
    )
    def test_a_flag_is_read_kept_and_shown(
        self, name: str, texts: list[str], value: object, shown: list[str]
    ) -> None:
        options = check_options(_as_json(read_flags({name: texts})))
        assert getattr(options, name) == value
        assert check_options(_as_json(options.non_default())) == options
        flag = next(option.flag for option in OPTIONS if option.name == name)
        assert options.as_flags() == [word for text in shown for word in (flag, text)]

    @pytest.mark.parametrize(
        ("name", "text", "reason"),
        [
            ("allow", "10.0.0.1/8", "--allow: '10.0.0.1/8' is not a network, did you mean"),
            ("allow", "all", "--allow: 'all' is not a network: write"),
            ("deny", "", "--deny: '' is not a network"),
            ("deny", "x" * 1000, f"--deny: '{'x' * 100}' is not a network"),
            ("rate", "0", "--rate: '0' is not a number from 0.001 to 1000000"),
            ("rate", "1e3", "--rate: '1e3' is not a number"),
            ("rate", "nan", "--rate: 'nan' is not a number"),
            ("rate", "1.2.3", "--rate: '1.2.3' is not a number"),
            ("rate", "-1", "--rate: '-1' is not a number"),
            ("rate", "1.e1", "--rate: '1.e1' is not a number"),
            ("burst", "1.5", "--burst: '1.5' is not a whole number from 1 to 1000000"),
            ("burst", "1" * 5000, "is not a whole number"),
            ("redirect", "other.test", "--redirect: 'other.test' does not begin with https://"),
            ("redirect", "https://a/b", "--redirect: 'https://a/b' has a path: leave it out"),
            ("basic_auth", "alice", "--basic-auth: 'alice' is not USER:HASH: take what"),
            ("basic_auth", "alice:=15,r=8,p=1", "what follows user 'alice' is not a hash"),
            ("basic_auth", f":{HASH}", "--basic-auth: user '' is empty"),
            ("basic_auth", f"a\nb:{HASH}", "control character"),
            ("basic_auth", "alice:$scrypt$ln=15", "the hash of user 'alice' is not a password"),
            ("pause", "0", "--pause: '0' is not a number from 0.001 to 3600"),
        ],
    )
    def test_a_wrong_text_has_its_reason(self, name: str, text: str, reason: str) -> None:
        with pytest.raises(RouteError, match=reason):
            read_flags({name: [text]})

    def test_a_password_in_the_place_of_a_hash_is_not_repeated(self) -> None:
        with pytest.raises(RouteError, match="single quotes") as caught:
            read_flags({"basic_auth": ["alice:secret"]})
        assert "secret" not in str(caught.value)

    def test_a_user_has_one_hash(self) -> None:
        with pytest.raises(RouteError, match="user 'a' has two hashes"):
            read_flags({"basic_auth": [f"a:{HASH}", f"a:{HASH}"]})

    def test_a_user_name_is_bounded(self) -> None:
        check_user("x" * 128)
        with pytest.raises(RouteError, match="longer than 128 characters"):
            check_user("x" * 129)


class TestStore:
    @pytest.mark.parametrize(
        ("name", "value", "reason"),
        [
            ("allow", "10.0.0.0/8", "option 'allow' is not a list such as"),
            ("allow", [1], "option 'allow' is not a list such as"),
            ("deny", ["10.0.0.1/8"], "option 'deny': '10.0.0.1/8' is not a network"),
            ("rate", True, "option 'rate' is not a number"),
            ("rate", "5", "option 'rate' is not a number"),
            ("burst", 1.0, "option 'burst' is not a whole number"),
            ("redirect", 1, "option 'redirect' is not text"),
            ("redirect", "x", "option 'redirect': 'x' does not begin"),
            ("basic_auth", [], "option 'basic_auth' is not an object"),
            ("basic_auth", {"a": 1}, "the hash of user 'a' is not text"),
            ("basic_auth", {"a:b": HASH}, "has a colon"),
            ("basic_auth", {"a": "x"}, "the hash of user 'a' is not a password hash"),
            ("maintenance", 1, "option 'maintenance' is not true or false"),
            ("maintenance_page", 1, "option 'maintenance_page' is not text"),
            ("maintenance_page", "\u00fc" * (MAX_PAGE // 2 + 1), "is larger than 64 KiB"),
            ("pause", 3601, "option 'pause' is not a number from 0.001 to 3600"),
            ("pause_max", 0, "option 'pause_max' is not a whole number from 1 to 100000"),
        ],
    )
    def test_a_wrong_value_has_its_reason(self, name: str, value: object, reason: str) -> None:
        with pytest.raises(RouteError, match=reason):
            check_options({name: value})

    def test_a_page_may_be_as_large_as_the_limit(self) -> None:
        page = "\u00fc" * (MAX_PAGE // 2)
        assert check_options({"maintenance_page": page}).maintenance_page == page

    def test_a_burst_needs_a_rate_and_comes_back_within_a_day(self) -> None:
        check_options({"rate": 1, "burst": 86_400})
        with pytest.raises(RouteError, match="'burst' needs a rate"):
            check_options({"burst": 5})
        with pytest.raises(RouteError, match="would take more than 86400 s"):
            check_options({"rate": 1, "burst": 86_401})


def _as_json(found: dict[str, object]) -> dict[str, object]:
    """As the store gives it back: JSON knows no tuples."""
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in found.items()
    }

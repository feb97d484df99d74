"""`route set` and `route update`: what they write, show and refuse; no access rule goes unsaid."""

import shlex
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from edge.boot import boot_id
from edge.routing.store_writer import RouteWriter
from edge.rules.password import hash_password
from tests.edge.cli.command import done, fairlead, refused, routes

HASH = hash_password("open sesame")
GUARDED: dict[str, object] = {
    "allow": ["10.0.0.0/8", "192.0.2.0/24"],
    "deny": ["10.1.0.0/16"],
    "rate": 5,
    "basic_auth": {"alice": HASH},
    "max_body": 1024,
}


class TestSet:
    def test_a_route_is_set_and_the_change_is_told(self, db: Path) -> None:
        nobody = f"no edge is running at {db.with_suffix('.sock')}"
        assert done("route", "set", "App.test.", "127.0.0.1:9101") == (
            f"app.test -> 127.0.0.1:9101 (version 1; {nobody})\n"
        )
        assert done("route", "set", "app.test/api", "A:1,[0::1]:2") == (
            f"app.test/api -> a:1,[::1]:2 (version 2; {nobody})\n"
        )
        assert [route.key for route in routes(db)] == ["app.test", "app.test/api"]

    def test_every_option_reaches_the_route(self, db: Path) -> None:
        done(
            *("route", "set", "app.test/api", "a:1,b:2", "--strip", "--max-body", "10MiB"),
            *("--host", "target", "--balance", "least_in_flight"),
            *("--weight", "a:1=3", "--weight", "b:2=100", "--retries", "0"),
            *("--connect-timeout", "0.5", "--response-timeout", "2", "--stream-timeout", "3"),
            *("--body-timeout", "4", "--tunnel-timeout", "5"),
            *("--set-field", "X-Frame-Options: DENY", "--set-field", "X-Empty:"),
            *("--remove-field", "X-Powered-By", "--remove-field", "Via"),
        )
        (route,) = routes(db)
        assert route.options.non_default() == {
            "strip": True,
            "max_body": 10 * 2**20,
            "host": "target",
            "balance": "least_in_flight",
            "weights": {"a:1": 3, "b:2": 100},
            "retries": 0,
            "connect_timeout": 0.5,
            "response_timeout": 2.0,
            "stream_timeout": 3.0,
            "body_timeout": 4.0,
            "tunnel_timeout": 5.0,
            "set_fields": {"X-Frame-Options": "DENY", "X-Empty": ""},
            "remove_fields": ("X-Powered-By", "Via"),
        }

    def test_what_is_listed_can_be_said_again(self, db: Path) -> None:
        done(
            *("route", "set", "app.test", "a:1", "--retries", "3", "--tunnel-timeout", "86400"),
            *("--set-field", "Content-Security-Policy: default-src 'self'; img-src *"),
            *("--remove-field", "Server", "--balance", "cookie"),
        )
        (before,) = routes(db)
        listed = done("route", "ls").splitlines()[1]
        done("route", "set", *shlex.split(listed))
        (after,) = routes(db)
        assert after == before

    def test_no_limit_is_another_thing_than_the_setting(self, db: Path) -> None:
        done("route", "set", "a.test", "a:1", "--max-body", "0")
        done("route", "set", "b.test", "a:1")
        assert {route.key: route.options.max_body for route in routes(db)} == {
            "a.test": 0,
            "b.test": None,
        }

    @pytest.mark.parametrize(
        ("words", "reason"),
        [
            (("app.test/", "a:1"), "'app.test/' ends with a slash"),
            (("app.test:80", "a:1"), "leave the port out"),
            (("app.test", "a"), "target 'a' has no port"),
            (("app.test", "http://x:1"), "has a scheme: leave out 'http://'"),
            (("app.test", "a:1,a:1"), "'a:1' is given twice"),
            (("app.test", "a:1", "--strip"), "needs a prefix"),
            (("app.test", "a:1", "--weight", "b:1=2"), "which is not a target of this route"),
            (("bücher.test", "a:1"), "write xn--bcher-kva.test"),
        ],
    )
    def test_a_refused_change_has_its_reason_and_changes_nothing(
        self, db: Path, words: tuple[str, ...], reason: str
    ) -> None:
        text = refused("route", "set", *words)
        assert text.startswith("fairlead: ")
        assert reason in text
        assert text.count("\n") == 1
        assert not db.exists()

    @pytest.mark.parametrize(
        ("words", "reason"),
        [
            (("app.test",), "Missing argument 'TARGET[,TARGET...]'"),
            ((), "Missing argument 'HOST[/PREFIX]'"),
            (("app.test", "a:1", "b:2"), "unexpected extra argument"),
            (("app.test", "a:1", "--frob"), "No such option"),
            (("app.test", "a:1", "--max-body", "10MB"), "is not a size"),
            (("app.test", "a:1", "--host", "both"), "--host: 'both' is not one of client, target"),
            (("app.test", "a:1", "--balance", "x"), "is not one of round_robin, least_in_flight"),
            (("app.test", "a:1", "--retries", "x"), "--retries: 'x' is not a whole number from"),
            (("app.test", "a:1", "--tunnel-timeout", "1h"), "--tunnel-timeout: '1h' is not a dur"),
            (("app.test", "a:1", "--set-field", "X"), "--set-field: 'X' is not NAME: VALUE"),
            (("app.test", "a:1", "--weight", "a:1"), "is not TARGET=NUMBER"),
            (("app.test", "a:1", "--weight", "=1"), "is not TARGET=NUMBER"),
            (("app.test", "a:1", "--weight", "a:1=x"), "is not TARGET=NUMBER"),
            (("app.test", "a:1", "--weight", "a:1=-1"), "is not TARGET=NUMBER"),
            (("app.test", "a:1", "--weight", "a:1=1", "--weight", "a:1=2"), "has two weights"),
            (("app.test", "a:1", "--retries", "11"), "--retries: '11' is not a whole number from"),
            (("app.test", "a:1", "--body-timeout", "0"), "--body-timeout: '0' is not a number of"),
            (
                ("app.test", "a:1", "--set-field", "Date: now"),
                "--set-field: 'Date' cannot be changed by a route",
            ),
            (("app.test", "a:1", "--remove-field", "a b"), "'a b' is not a field name"),
            (("app.test", "a:1", "--weight", "a:1=101"), "'a:1' is not a number from 1 to 100"),
        ],
    )
    def test_a_wrong_word_is_a_usage_error(
        self, db: Path, words: tuple[str, ...], reason: str
    ) -> None:
        text = refused("route", "set", *words, exit_code=2)
        assert text.startswith("Usage: fairlead route set")
        assert reason in text
        assert not db.exists()


class TestRules:
    """security.md: changing a target never drops a rule silently."""

    @pytest.fixture(autouse=True)
    def _route(self, db: Path) -> None:
        RouteWriter(db).set("app.test", "a:1", GUARDED)

    def kept(self, db: Path) -> dict[str, object]:
        (route,) = routes(db)
        return route.options.non_default()

    def test_a_set_that_would_take_one_away_is_refused_and_names_all_of_them(
        self, db: Path
    ) -> None:
        before = self.kept(db)
        assert refused("route", "set", "App.test", "b:2") == (
            "fairlead: app.test would lose --allow 10.0.0.0/8, --allow 192.0.2.0/24,"
            " --deny 10.1.0.0/16, --rate 5, --basic-auth alice: give it again, change only what"
            " you name with `fairlead route update`, or add --replace\n"
        )
        assert self.kept(db) == before

    def test_one_network_of_several_counts_too(self, db: Path) -> None:
        given = ("--allow", "10.0.0.0/8", "--deny", "10.1.0.0/16", "--rate", "5")
        text = refused("route", "set", "app.test", "a:1", *given, "--basic-auth", f"alice:{HASH}")
        assert "would lose --allow 192.0.2.0/24:" in text

    def test_what_is_given_again_with_another_value_is_a_change_and_shown(self, db: Path) -> None:
        other = hash_password("other")
        given = ("--allow", "10.0.0.0/8,192.0.2.0/24", "--deny", "10.1.0.0/16", "--rate", "9")
        text = done("route", "set", "app.test", "b:2", *given, "--basic-auth", f"alice:{other}")
        assert text.splitlines()[:-1] == [
            "- target a:1",
            "+ target b:2",
            "- --max-body 1KiB",
            "- --rate 5",
            "+ --rate 9",
            "~ --basic-auth alice (changed)",
        ]
        assert text.splitlines()[-1].startswith("app.test -> b:2 (version 2;")
        assert "$scrypt" not in text

    def test_replace_takes_all_away(self, db: Path) -> None:
        text = done("route", "set", "app.test", "b:2", "--replace")
        assert "- --basic-auth alice" in text.splitlines()
        assert self.kept(db) == {}

    def test_a_row_that_cannot_be_read_is_replaced_on_purpose_only(self, db: Path) -> None:
        with closing(sqlite3.connect(db)) as connection, connection:
            connection.execute("UPDATE proxy_routes SET options = '{\"new\": 1}'")
        text = refused("route", "set", "app.test", "b:2")
        assert "is not valid (option 'new' is unknown" in text
        assert "add --replace" in text
        done("route", "set", "app.test", "b:2", "--replace")
        assert self.kept(db) == {}

    def test_an_update_changes_only_what_is_named(self, db: Path) -> None:
        before = self.kept(db)
        text = done("route", "update", "App.Test", "--target", "b:2", "--max-body", "2KiB")
        assert text.splitlines()[:-1] == [
            "- target a:1",
            "+ target b:2",
            "- --max-body 1KiB",
            "+ --max-body 2KiB",
        ]
        assert text.splitlines()[-1].startswith("app.test updated (version 2;")
        assert self.kept(db) == before | {"max_body": 2048}
        done("route", "update", "app.test", "--unset", "max-body")
        del before["max_body"]
        assert self.kept(db) == before

    def test_an_update_takes_away_what_is_unset_or_replaced(self, db: Path) -> None:
        text = refused("route", "update", "app.test", "--deny", "10.2.0.0/16")
        assert "app.test would lose --deny 10.1.0.0/16:" in text
        text = refused(
            "route", "update", "app.test", "--deny", "10.2.0.0/16", "--unset", "basic-auth"
        )
        assert "basic-auth" not in text
        done("route", "update", "app.test", "--deny", "10.2.0.0/16", "--replace")
        done("route", "update", "app.test", "--unset", "basic-auth", "--unset", "rate")
        assert self.kept(db) == {
            "allow": ("10.0.0.0/8", "192.0.2.0/24"),
            "deny": ("10.2.0.0/16",),
            "max_body": 1024,
        }

    def test_what_was_said_of_the_old_targets_goes_with_them_and_no_rule(self, db: Path) -> None:
        writer = RouteWriter(db)
        writer.retarget({"app.test": "a:1"}, boot_id())
        writer.suspend({"app.test": "container is exited"})
        done("route", "update", "app.test", "--max-body", "1KiB")
        assert self.kept(db)["unavailable"] == "container is exited"
        text = done("route", "update", "app.test", "--target", "b:2")
        assert "- unavailable 'container is exited'" in text.splitlines()
        assert self.kept(db).keys() == GUARDED.keys()

    @pytest.mark.parametrize(
        ("words", "reason"),
        [
            ((), "nothing to change"),
            (("--rate", "1", "--unset", "rate"), "--rate is given and unset"),
            (("--unset", "frob"), "'frob' is not one of"),
            (("--rate", "x"), "--rate: 'x' is not a number"),
        ],
    )
    def test_a_wrong_word_is_a_usage_error(self, words: tuple[str, ...], reason: str) -> None:
        text = refused("route", "update", "app.test", *words, exit_code=2)
        assert text.startswith("Usage: fairlead route update")
        assert reason in text

    @pytest.mark.parametrize(
        ("words", "reason"),
        [
            (("other.test", "--rate", "1"), "there is no route 'other.test'"),
            (("other.test", "--rate", "1", "--dry-run"), "there is no route 'other.test'"),
            (("app.test", "--strip"), "needs a prefix"),
            (("app.test", "--target", "b"), "target 'b' has no port"),
        ],
    )
    def test_an_update_that_cannot_be_has_its_reason(
        self, words: tuple[str, ...], reason: str
    ) -> None:
        assert reason in refused("route", "update", *words)


class TestDryRun:
    """Of an edge that does not run: `test_supervisor.py` has one that does."""

    UNKNOWN = "how many requests per second this concerns cannot be told: no edge is running at"

    def test_the_difference_is_shown_and_nothing_changed(self, db: Path) -> None:
        RouteWriter(db).set("app.test", "a:1", {"retries": 1})
        text = done("route", "set", "app.test", "b:2", "--rate", "3", "--dry-run")
        *lines, last = text.splitlines()
        assert lines == ["- target a:1", "+ target b:2", "- --retries 1", "+ --rate 3"]
        assert last.startswith(self.UNKNOWN)
        text = done("route", "update", "app.test", "--retries", "1", "--dry-run")
        assert text.splitlines()[0] == "nothing would change"
        (route,) = routes(db)
        assert (route.targets, route.options.retries) == (("a:1",), 1)

    def test_what_would_be_refused_is_refused(self, db: Path) -> None:
        RouteWriter(db).set("app.test", "a:1", {"deny": ["10.0.0.0/8"]})
        result = fairlead("route", "set", "app.test", "a:1", "--dry-run")
        assert result.exit_code == 1
        assert result.stdout.splitlines()[0] == "- --deny 10.0.0.0/8"
        assert "would lose --deny 10.0.0.0/8" in result.stderr
        done("route", "set", "app.test", "a:1", "--dry-run", "--replace")
        (route,) = routes(db)
        assert route.options.deny == ("10.0.0.0/8",)

    def test_a_new_route_is_all_difference_and_makes_no_database(self, db: Path) -> None:
        text = done("route", "set", "app.test/x", "a:1", "--strip", "--dry-run")
        assert text.splitlines()[:-1] == ["+ target a:1", "+ --strip"]
        assert not db.exists()

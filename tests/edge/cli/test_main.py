"""The command line: what it prints, what it refuses, and with which exit code."""

import os
import re
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import click
import orjson
import pytest
from click.testing import CliRunner, Result

from edge.cli import main as cli
from edge.errors import ConfigError
from edge.routing.routes import Route
from edge.routing.store import RouteReader, RouteWriter
from edge.rules import password
from edge.settings.settings import SETTINGS, Settings, load
from edge.supervisor import supervisor
from edge.supervisor.sidecar import Sidecar

ROOT = Path(__file__).parents[3]
BEST = "its host is the most specific match and its prefix the longest"


@pytest.fixture(autouse=True)
def db(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The database of every command here, by the environment."""
    for name in [name for name in os.environ if name.startswith(("FAIRLEAD_", "GODEPLOY_"))]:
        monkeypatch.delenv(name)
    path = tmp_path / "fairlead.db"
    monkeypatch.setenv("FAIRLEAD_DB", str(path))
    return path


def fairlead(*words: str) -> Result:
    return CliRunner().invoke(cli.main, words, prog_name="fairlead")


def done(*words: str) -> str:
    """What a command prints that must succeed without a word on stderr."""
    result = fairlead(*words)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return result.stdout


def refused(*words: str, exit_code: int = 1) -> str:
    """The reason of a command that must fail."""
    result = fairlead(*words)
    assert (result.exit_code, result.stdout) == (exit_code, ""), result.output
    return result.stderr


def routes(db: Path) -> list[Route]:
    loaded = RouteReader(db).poll()
    assert loaded is not None
    return list(loaded.table)


class TestSet:
    def test_a_route_is_set_and_the_change_is_told(self, db: Path) -> None:
        assert done("route", "set", "App.test.", "127.0.0.1:9101") == (
            f"app.test -> 127.0.0.1:9101 (version 1; no edge runs at {db.with_suffix('.sock')})\n"
        )
        assert done("route", "set", "app.test/api", "A:1,[0::1]:2") == (
            f"app.test/api -> a:1,[::1]:2 (version 2; no edge runs at {db.with_suffix('.sock')})\n"
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
            (("app.test", "a:1", "--weight", "a:1=101"), "is not a number from 1 to 100"),
            (("app.test", "a:1", "--weight", "b:1=2"), "which is not a target of this route"),
            (("app.test", "a:1", "--retries", "11"), "'retries' is not a number from 0 to 10"),
            (("app.test", "a:1", "--body-timeout", "0"), "'body_timeout' is not a number of sec"),
            (
                ("app.test", "a:1", "--set-field", "Date: now"),
                "'Date' cannot be changed by a route",
            ),
            (("app.test", "a:1", "--remove-field", "a b"), "'a b' is not a field name"),
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
            (("app.test", "a:1", "--retries", "x"), "--retries: 'x' is not a number from 0 to 10"),
            (("app.test", "a:1", "--tunnel-timeout", "1h"), "--tunnel-timeout: '1h' is not a dur"),
            (("app.test", "a:1", "--set-field", "X"), "--set-field: 'X' is not NAME: VALUE"),
            (("app.test", "a:1", "--weight", "a:1"), "is not TARGET=NUMBER"),
            (("app.test", "a:1", "--weight", "=1"), "is not TARGET=NUMBER"),
            (("app.test", "a:1", "--weight", "a:1=x"), "is not TARGET=NUMBER"),
            (("app.test", "a:1", "--weight", "a:1=-1"), "is not TARGET=NUMBER"),
            (("app.test", "a:1", "--weight", "a:1=1", "--weight", "a:1=2"), "has two weights"),
        ],
    )
    def test_a_wrong_word_is_a_usage_error(
        self, db: Path, words: tuple[str, ...], reason: str
    ) -> None:
        text = refused("route", "set", *words, exit_code=2)
        assert text.startswith("Usage: fairlead route set")
        assert reason in text
        assert not db.exists()


class TestPauseAndMaintenance:
    @pytest.fixture(autouse=True)
    def _route(self, db: Path) -> None:
        RouteWriter(db).set("app.test", "a:1", {"max_body": 5})

    def kept(self, db: Path) -> dict[str, object]:
        (route,) = routes(db)
        return route.options.non_default()

    def test_a_route_is_paused_and_resumed(self, db: Path) -> None:
        assert done("route", "pause", "app.test").startswith("app.test paused (version 2;")
        assert self.kept(db) == {"max_body": 5, "pause": 30}
        done("route", "pause", "app.test", "--max", "7", "--timeout", "2.5")
        assert self.kept(db) == {"max_body": 5, "pause": 2.5, "pause_max": 7}
        assert done("route", "resume", "App.test").startswith("App.test resumed (version 4;")
        assert self.kept(db) == {"max_body": 5}

    def test_a_route_is_in_maintenance_with_a_page_until_it_is_off(
        self, db: Path, tmp_path: Path
    ) -> None:
        page = tmp_path / "page.html"
        page.write_text("<p>zur\u00fcck")
        text = done("route", "maintenance", "app.test", "--page", str(page))
        assert text.startswith("app.test in maintenance (version 2;")
        page.unlink()
        assert self.kept(db) == {
            "max_body": 5,
            "maintenance": True,
            "maintenance_page": "<p>zur\u00fcck",
        }
        assert "--maintenance" in done("route", "ls")
        assert "<p>" not in done("route", "ls")
        done("route", "maintenance", "app.test")
        assert self.kept(db) == {"max_body": 5, "maintenance": True}
        text = done("route", "maintenance", "app.test", "--off")
        assert text.startswith("app.test out of maintenance (version 4;")
        assert self.kept(db) == {"max_body": 5}

    @pytest.mark.parametrize("word", ["pause", "resume", "maintenance"])
    def test_a_route_that_is_not_there_is_refused(self, word: str) -> None:
        text = refused("route", word, "other.test")
        assert (
            text
            == "fairlead: there is no route 'other.test': create it with `fairlead route set`\n"
        )

    @pytest.mark.parametrize(
        ("words", "reason"),
        [
            (("pause", "app.test", "--max", "0"), "--max: '0' is not a whole number from 1"),
            (("pause", "app.test", "--max", ""), "--max: '' is not a whole number"),
            (("pause", "app.test", "--timeout", "x"), "--timeout: 'x' is not a number from"),
            (("maintenance", "app.test", "--page", "none.html"), "No such file"),
            (("maintenance", "app.test", "--page", "-", "--off"), "--off takes no --page"),
            (("password",), "Missing argument 'USER'"),
        ],
    )
    def test_a_wrong_word_is_a_usage_error(self, words: tuple[str, ...], reason: str) -> None:
        text = refused("route", *words, exit_code=2)
        assert text.startswith(f"Usage: fairlead route {words[0]}")
        assert reason in text

    @pytest.mark.parametrize(
        ("content", "reason"),
        [(b"x" * 65537, "is larger than 64 KiB"), (b"\xff", "is not UTF-8")],
    )
    def test_a_page_that_cannot_be_kept_is_refused(
        self, db: Path, tmp_path: Path, content: bytes, reason: str
    ) -> None:
        page = tmp_path / "page.html"
        page.write_bytes(content)
        assert reason in refused("route", "maintenance", "app.test", "--page", str(page))
        assert self.kept(db) == {"max_body": 5}


class TestPassword:
    def made(self, *words: str, stdin: str | bytes) -> Result:
        return CliRunner().invoke(
            cli.main, ["route", "password", *words], input=stdin, prog_name="fairlead"
        )

    @pytest.mark.parametrize("stdin", ["open sesame\n", "open sesame\r\nmore", "open sesame"])
    def test_the_first_line_of_stdin_is_hashed_and_the_route_takes_it(
        self, db: Path, stdin: str
    ) -> None:
        result = self.made("alice", stdin=stdin)
        assert (result.exit_code, result.stderr) == (0, "")
        user, _, hashed = result.stdout.removesuffix("\n").partition(":")
        assert user == "alice"
        assert password.verify(hashed, b"open sesame")
        done("route", "set", "app.test", "a:1", "--basic-auth", result.stdout.strip())
        (route,) = routes(db)
        assert route.options.basic_auth == {"alice": hashed}

    def test_at_a_terminal_it_is_asked_for_twice_and_not_shown(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[dict[str, object]] = []

        def prompt(text: str, **how: object) -> str:
            asked.append(how)
            return "open sesame"

        monkeypatch.setattr(click, "prompt", prompt)
        monkeypatch.setattr(cli, "_at_terminal", lambda: True)
        result = self.made("alice", stdin="")
        assert result.stdout.startswith("alice:$scrypt$")
        assert asked == [{"hide_input": True, "confirmation_prompt": True, "err": True}]

    @pytest.mark.parametrize(
        ("user", "stdin", "reason"),
        [
            ("a:b", "x\n", "has a colon"),
            ("alice", "", "the password is empty"),
            ("alice", "\n", "the password is empty"),
            ("alice", b"\xff\n", "the password is not UTF-8"),
        ],
    )
    def test_what_cannot_be_one_is_refused(
        self, user: str, stdin: str | bytes, reason: str
    ) -> None:
        result = self.made(user, stdin=stdin)
        assert (result.exit_code, result.stdout) == (1, "")
        assert reason in result.stderr


class TestRemove:
    def test_a_route_is_removed_and_the_change_is_told(self, db: Path) -> None:
        done("route", "set", "app.test", "a:1")
        assert done("route", "rm", "App.test").startswith("App.test removed (version 2; no edge")
        assert routes(db) == []

    def test_a_route_that_is_not_there_is_refused(self) -> None:
        done("route", "set", "app.test", "a:1")
        text = refused("route", "rm", "app.test/api")
        assert text == "fairlead: there is no route 'app.test/api'\n"


class TestList:
    def test_the_columns_are_aligned(self) -> None:
        done("route", "set", "b.test", "127.0.0.1:9101")
        done(
            *("route", "set", "a.long.name.test/api", "a:1,b:2", "--strip", "--max-body", "1536"),
            *("--host", "target", "--balance", "least_in_flight", "--weight", "b:2=3"),
        )
        done("route", "set", "*.test", "c:3", "--max-body", "0")
        done("route", "set", "*", "c:3", "--max-body", "1GiB")
        options = "--balance least_in_flight --host target --max-body 1536 --strip --weight b:2=3"
        assert done("route", "ls").splitlines() == [
            "ROUTE                 TARGETS         OPTIONS",
            "*                     c:3             --max-body 1GiB",
            "*.test                c:3             --max-body 0",
            f"a.long.name.test/api  a:1,b:2         {options}",
            "b.test                127.0.0.1:9101",
        ]

    def test_json_has_everything(self) -> None:
        done("route", "set", "b.test", "b:2", "--host", "target")
        done("route", "set", "a.test/x", "a:1,b:2", "--weight", "a:1=2", "--max-body", "1KiB")
        assert orjson.loads(done("route", "ls", "--json")) == {
            "version": 2,
            "routes": [
                {
                    "domain": "a.test/x",
                    "targets": ["a:1", "b:2"],
                    "weights": [2, 1],
                    "options": {"max_body": 1024, "weights": {"a:1": 2}},
                },
                {
                    "domain": "b.test",
                    "targets": ["b:2"],
                    "weights": [1],
                    "options": {"host": "target"},
                },
            ],
            "problems": [],
        }

    def test_bad_rows_are_named_beside_the_others(self, db: Path) -> None:
        done("route", "set", "app.test", "a:1")
        with closing(sqlite3.connect(db)) as connection, connection:
            connection.execute("INSERT INTO proxy_routes VALUES ('x.test', 'a', 0)")
        result = fairlead("route", "ls")
        assert result.exit_code == 0
        assert result.stdout.splitlines()[1:] == ["app.test  a:1"]
        assert result.stderr == (
            "fairlead: route 'x.test' is skipped: target 'a' has no port: write HOST:PORT\n"
        )
        listed = orjson.loads(done("route", "ls", "--json"))
        assert len(listed["problems"]) == 1
        assert done("route", "rm", "x.test").startswith("x.test removed (version 2; no edge")

    def test_no_routes_are_no_rows(self) -> None:
        done("route", "set", "app.test", "a:1")
        done("route", "rm", "app.test")
        assert done("route", "ls") == "ROUTE  TARGETS  OPTIONS\n"


class TestDatabase:
    def test_the_flag_comes_before_the_variables(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GODEPLOY_DB", str(tmp_path / "godeploy.db"))
        done("route", "set", "app.test", "a:1", "--db", str(tmp_path / "flag.db"))
        assert routes(tmp_path / "flag.db")
        done("route", "set", "app.test", "a:1")
        assert routes(tmp_path / "fairlead.db")
        monkeypatch.delenv("FAIRLEAD_DB")
        done("route", "set", "app.test", "a:1")
        assert routes(tmp_path / "godeploy.db")

    def test_without_any_it_is_in_the_current_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("FAIRLEAD_DB")
        monkeypatch.chdir(tmp_path)
        done("route", "set", "app.test", "a:1")
        assert routes(tmp_path / "fairlead.db")

    def test_a_bad_setting_of_the_edge_does_not_keep_routes_from_being_changed(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FAIRLEAD_MAX_HEAD", "nonsense")
        done("route", "set", "app.test", "a:1")

    @pytest.mark.parametrize("words", [("route", "ls"), ("route", "rm", "a"), ("explain", "a")])
    def test_a_missing_database_is_told(self, db: Path, words: tuple[str, ...]) -> None:
        advice = "add a route with `fairlead route set`"
        assert refused(*words) == f"fairlead: the database {db} does not exist: {advice}\n"
        assert not db.exists()

    def test_an_empty_name_is_a_usage_error(self) -> None:
        text = refused("route", "ls", "--db", "", exit_code=2)
        assert text == "fairlead: --db: the path is empty: write the path of a file\n"


@pytest.fixture
def listening() -> Iterator[str]:
    """A target that accepts connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def refusing() -> Iterator[str]:
    """A target whose port is taken, so that nobody else listens on it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


class TestExplain:
    def test_it_names_the_route_its_targets_and_why_no_other(
        self, listening: str, refusing: str
    ) -> None:
        done("route", "set", "app.test/api", f"{listening},{refusing}", "--strip")
        done("route", "set", "app.test", "a:1")
        done("route", "set", "*", "b:1")
        width = max(len(listening), len(refusing)) + 2
        assert done("explain", "HTTPS://App.test.:8443/api/x?q#part").splitlines() == [
            f"app.test/api (version 3): {BEST}",
            "options: --strip",
            "",
            "targets:",
            f"{'  ' + listening:{width}}  accepts connections",
            f"{'  ' + refusing:{width}}  refuses connections",
            "",
            "other routes:",
            "  app.test  the longer prefix /api wins",
            "  *         the host app.test is more specific than *",
        ]

    def test_without_options_and_others_there_is_only_the_route(self, listening: str) -> None:
        done("route", "set", "app.test", listening)
        assert done("explain", "app.test").splitlines()[1:] == [
            "",
            "targets:",
            f"  {listening}  accepts connections",
        ]

    def test_where_no_route_matches_those_that_come_close_are_named(self) -> None:
        done("route", "set", "*.app.test", "a:1")
        done("route", "set", "app.test/api", "a:1")
        result = fairlead("explain", "http://app.test/apix")
        assert result.exit_code == 1
        assert result.stdout.splitlines() == [
            "routes that come close:",
            "  app.test/api  the path does not begin with /api",
            "  *.app.test    *.app.test does not match app.test itself",
        ]
        assert result.stderr == "fairlead: no route matches http://app.test/apix\n"

    def test_a_row_that_is_skipped_is_named(self, db: Path) -> None:
        done("route", "set", "x.test", "a:1")
        with closing(sqlite3.connect(db)) as connection, connection:
            connection.execute("UPDATE proxy_routes SET target = 'a:0'")
        text = refused("explain", "x.test")
        assert "route 'x.test' is skipped" in text
        assert text.endswith("fairlead: no route matches x.test\n")

    @pytest.mark.parametrize(
        ("url", "domain"),
        [
            ("app.test", "app.test"),
            ("app.test:80", "app.test"),
            ("http://app.test", "app.test"),
            ("http://app.test?/api", "app.test"),
            ("ws://app.test/api", "app.test/api"),
            ("app.test/api?u=http://x/", "app.test/api"),
            ("app.test/r/http://x", "app.test"),
            ("http://[0::1]:80/", "[::1]"),
            ("[::1]", "[::1]"),
        ],
    )
    def test_the_host_and_the_path_of_a_url_are_found(
        self, url: str, domain: str, refusing: str
    ) -> None:
        for each in ("app.test", "app.test/api", "[::1]"):
            done("route", "set", each, refusing)
        assert done("explain", url).startswith(f"{domain} (version 3)")

    @pytest.mark.parametrize(
        ("url", "reason"),
        [
            ("ftp://app.test/", "is not a URL"),
            ("/path", "is not a URL"),
            ("", "is not a URL"),
            ("http://", "is not a URL"),
            ("http://user@app.test/", "user information"),
            ("http://app.test:http/", "leave the port out"),
            ("http://a..b/", "empty label"),
            ("http://bücher.test/", "write xn--bcher-kva.test"),
        ],
    )
    def test_what_is_no_url_is_a_usage_error(self, url: str, reason: str) -> None:
        text = refused("explain", url, exit_code=2)
        assert text.startswith("Usage: fairlead explain")
        assert reason in text

    @pytest.mark.parametrize(
        ("failure", "state"),
        [
            (TimeoutError(), "gives no answer within 1 s"),
            (socket.gaierror(-2, "Name unknown"), "name that cannot be resolved: Name unknown"),
            (OSError(113, "No route to host"), "cannot be reached: No route to host"),
        ],
    )
    def test_the_state_of_a_target_that_cannot_be_reached_is_told(
        self, monkeypatch: pytest.MonkeyPatch, failure: OSError, state: str
    ) -> None:
        asked: list[tuple[tuple[str, int], float]] = []

        def create_connection(address: tuple[str, int], timeout: float) -> socket.socket:
            asked.append((address, timeout))
            raise failure

        monkeypatch.setattr(socket, "create_connection", create_connection)
        done("route", "set", "app.test", "[::1]:9")
        assert done("explain", "app.test").rstrip().endswith(state)
        assert asked == [(("::1", 9), 1.0)]

    def test_a_target_that_hangs_does_not_hold_it_up(
        self, monkeypatch: pytest.MonkeyPatch, listening: str
    ) -> None:
        monkeypatch.setattr(cli, "CONNECT_TIMEOUT", 0.2)
        with socket.socket() as full:
            # Nothing is accepted, and the queue of one is taken: another connection waits.
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            waiting = [socket.socket() for _ in range(3)]
            for each in waiting:
                each.setblocking(False)
                each.connect_ex(full.getsockname())
            silent = f"127.0.0.1:{full.getsockname()[1]}"
            done("route", "set", "app.test", f"{silent},{listening}")
            text = done("explain", "app.test")
            for each in waiting:
                each.close()
        assert re.search(rf"{silent} +gives no answer within 0.2 s", text)
        assert re.search(rf"{listening} +accepts connections", text)


class TestEdge:
    @pytest.fixture
    def served(self, monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
        """The settings with which the edge would run; its exit code is 7."""
        found: list[Settings] = []

        def run(texts: Mapping[str, str], _sidecars: Sequence[Sidecar] = ()) -> int:
            found.append(load(texts, {}))
            return 7

        monkeypatch.setattr(supervisor, "run", run)
        return found

    @pytest.mark.parametrize("word", ["edge", "up"])
    def test_it_runs_with_the_settings_of_flags_and_environment(
        self, served: list[Settings], monkeypatch: pytest.MonkeyPatch, word: str, db: Path
    ) -> None:
        monkeypatch.setenv("FAIRLEAD_MAX_HEAD", "16KiB")
        monkeypatch.setenv("FAIRLEAD_POOL_SIZE", "3")
        result = fairlead(word, "--http-addr", ":8080", "--pool-size", "7")
        assert (result.exit_code, result.output) == (7, "")
        (settings,) = served
        assert settings.db == db
        assert settings.http_addr == (("", 8080),)
        assert settings.pool_size == 7
        assert settings.max_head == 16 * 1024

    @pytest.mark.parametrize("word", ["edge", "up"])
    def test_every_setting_has_its_flag(self, word: str) -> None:
        text = " ".join(done(word, "--help").split())
        for setting in SETTINGS:
            assert f" {setting.flag} VALUE" in text
            assert ", ".join(setting.variables) in text
            assert setting.meaning in text

    @pytest.mark.parametrize(
        ("flags", "variables", "reason"),
        [
            (("--http-addr", "x"), {}, "--http-addr: 'x' is not an address"),
            ((), {"FAIRLEAD_MAX_HEAD": "x"}, "FAIRLEAD_MAX_HEAD: 'x' is not a size"),
        ],
    )
    def test_a_bad_setting_ends_it_with_2_and_names_its_source(
        self,
        served: list[Settings],
        monkeypatch: pytest.MonkeyPatch,
        flags: tuple[str, ...],
        variables: dict[str, str],
        reason: str,
    ) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert refused("edge", *flags, exit_code=2).startswith(f"fairlead: {reason}")
        assert served == []

    def test_what_the_edge_itself_refuses_ends_it_with_2_too(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def run(texts: Mapping[str, str]) -> int:
            raise ConfigError("the port is taken")

        monkeypatch.setattr(supervisor, "run", run)
        assert refused("edge", exit_code=2) == "fairlead: the port is taken\n"


class TestCheck:
    """`fairlead edge --check`: all that is wrong, at once; nothing is started or changed."""

    @pytest.fixture(autouse=True)
    def nothing_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def run(_: Settings) -> int:
            raise AssertionError("the edge was started")

        monkeypatch.setattr(supervisor, "run", run)

    def test_what_is_well_passes(self, db: Path, tmp_path: Path, listening: str) -> None:
        done("route", "set", "app.test", "a:1")
        before = db.read_bytes()
        # Somebody listens there already, such as the edge that is to be replaced.
        words = ("--http-addr", listening, "--access-log", str(tmp_path / "access.log"))
        assert done("edge", "--check", *words) == "1 route to serve (version 1)\n"
        assert db.read_bytes() == before
        assert not (tmp_path / "access.log").exists()

    def test_stdout_can_be_a_log(self, db: Path) -> None:
        for domain in ("app.test", "b.test"):
            done("route", "set", domain, "a:1")
        assert (
            done("edge", "--check", "--access-log", "stdout") == "2 routes to serve (version 2)\n"
        )

    def test_bad_rows_are_named_and_end_it_with_1(self, db: Path) -> None:
        for domain in ("app.test", "b.test", "x.test", "y.test"):
            done("route", "set", domain, "a:1")
        with closing(sqlite3.connect(db)) as connection, connection:
            connection.execute("UPDATE proxy_routes SET target = 'a' WHERE domain > 'x'")
        result = fairlead("edge", "--check")
        assert (result.exit_code, result.stdout) == (1, "2 routes to serve (version 4)\n")
        assert [line.split(":")[1] for line in result.stderr.splitlines()] == [
            " route 'x.test' is skipped",
            " route 'y.test' is skipped",
        ]

    @pytest.mark.parametrize("content", [None, b"no database at all, but longer than a header"])
    def test_a_database_that_cannot_be_read_ends_it_with_1(
        self, db: Path, content: bytes | None
    ) -> None:
        if content is not None:
            db.write_bytes(content)
        assert str(db) in refused("edge", "--check")
        assert db.exists() is (content is not None)

    def test_every_bad_setting_is_named_and_ends_it_with_2(
        self, db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FAIRLEAD_MAX_HEAD", "x")
        words = ("--http-addr", "127.0.0.1:8082,:0,:0", "--proxy-protocol", "yes")
        log = ("--access-log", str(tmp_path / "no" / "access.log"))
        lines = refused("edge", "--check", *words, *log, exit_code=2).splitlines()
        assert [line.removeprefix("fairlead: ") for line in lines] == [
            (
                "FAIRLEAD_MAX_HEAD: 'x' is not a size: write a number of bytes, or one with KiB,"
                " MiB or GiB, such as 32KiB"
            ),
            (
                "FAIRLEAD_PROXY_PROTOCOL needs FAIRLEAD_TRUSTED_PROXIES: name the proxies that send"
                " the header, or any client could forge its address"
            ),
            "FAIRLEAD_ADMIN_ADDR: 127.0.0.1:8082 is taken twice; name another port",
            (
                f"the access log {tmp_path}/no/access.log cannot be opened: the folder"
                f" {tmp_path}/no does not exist; name a file in a writable folder, stdout or off"
            ),
            f"the database {db} does not exist: add a route with `fairlead route set`",
        ]

    def test_what_is_known_to_be_bad_is_not_looked_at(self) -> None:
        words = ("--db", " ", "--http-addr", "x", "--admin-addr", "y", "--access-log", " ")
        assert len(refused("edge", "--check", *words, exit_code=2).splitlines()) == 4

    def test_a_name_that_nobody_knows_is_no_address(self, db: Path) -> None:
        done("route", "set", "app.test", "a:1")
        result = fairlead("edge", "--check", "--http-addr", "a..b:80")
        assert result.exit_code == 2
        assert "cannot listen on a..b:80: the name is malformed; or set another" in result.stderr


class TestWords:
    def test_the_version_is_that_of_the_distribution(self) -> None:
        assert re.fullmatch(r"fairlead, version \d+\.\d+\.\d+\n", done("--version"))

    @pytest.mark.parametrize("words", [("frob",), ("route", "frob"), ("--frob",), ("route", "-x")])
    def test_a_wrong_word_is_a_usage_error(self, words: tuple[str, ...]) -> None:
        text = refused(*words, exit_code=2)
        assert text.startswith("Usage: fairlead")
        assert "No such" in text

    def test_each_command_says_what_it_is_for(self) -> None:
        assert "reverse proxy" in done("--help")
        for words in (("edge",), ("up",), ("route",), ("explain",)):
            assert done(*words, "--help").startswith(f"Usage: fairlead {words[0]}")
        for word in ("set", "rm", "ls", "pause", "resume", "maintenance", "password"):
            assert done("route", word, "--help").startswith(f"Usage: fairlead route {word}")


def python(*words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class TestProcess:
    """The program as it is really started."""

    def test_the_module_serves_until_it_is_told_to_stop(self, listening: str, db: Path) -> None:
        RouteWriter(db).set("app.test", listening)
        edge = python("-m", "edge", "--http-addr", "127.0.0.1:0", "--admin-addr", "127.0.0.1:0")
        assert edge.stderr is not None
        for line in edge.stderr:
            found = re.search(r"serving on 127.0.0.1 port (\d+)", line)
            if found:
                break
        with socket.create_connection(("127.0.0.1", int(found[1] if found else 0)), 5) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: other.test\r\nConnection: close\r\n\r\n")
            assert client.recv(65536).startswith(b"HTTP/1.1 404 ")
        edge.send_signal(signal.SIGTERM)
        edge.communicate(timeout=30)
        assert edge.returncode == 0

    def test_the_module_refuses_a_bad_setting(self) -> None:
        edge = python("-m", "edge", "--pool-size", "-1")
        out, err = edge.communicate(timeout=30)
        assert (edge.returncode, out) == (2, "")
        assert err.startswith("fairlead: --pool-size: '-1' is not a whole number")

    def test_a_port_that_is_taken_is_told(self, listening: str, db: Path) -> None:
        RouteWriter(db).set("app.test", "a:1")
        edge = python("-m", "edge", "--http-addr", listening, "--admin-addr", "127.0.0.1:0")
        _, err = edge.communicate(timeout=30)
        assert edge.returncode == 2
        last = err.splitlines()[-1]
        assert last.startswith("fairlead: ")
        assert listening in last
        assert "Traceback" not in err

    def test_a_command_about_routes_loads_nothing_of_the_edge(self) -> None:
        script = """
import sys
from click.testing import CliRunner
from edge.cli.main import main
assert CliRunner().invoke(main, ["route", "set", "app.test", "a:1"]).exit_code == 0
heavy = {"asyncio", "uvloop", "httptools", "starlette"}
heavy |= {"edge.worker.worker", "edge.supervisor.supervisor"}
print(sorted(heavy & set(sys.modules)))
"""
        out, err = python("-c", script).communicate(timeout=30)
        assert (out, err) == ("[]\n", "")

    def test_a_reader_that_stops_reading_is_no_error_with_a_trace(self) -> None:
        done("route", "set", "app.test", "a:1")
        process = python("-c", "from edge.cli.main import main; main()", "route", "ls")
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()
        process.wait(30)
        process.stderr.close()

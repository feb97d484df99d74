"""The commands about routes: what they print, what they refuse, and with which exit code."""

import sqlite3
from contextlib import closing
from pathlib import Path

import click
import orjson
import pytest
from click.testing import CliRunner, Result

from edge.boot import boot_id
from edge.cli import route
from edge.routing.store_writer import RouteWriter
from edge.rules import password
from fairlead.__main__ import main
from tests.edge.cli.command import done, fairlead, refused, routes


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
            (
                ("maintenance", "app.test", "--page", "-", "--off"),
                "--page cannot be used with --off",
            ),
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
            main, ["route", "password", *words], input=stdin, prog_name="fairlead"
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
        monkeypatch.setattr(route, "_at_terminal", lambda: True)
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
                    "unavailable": None,
                },
                {
                    "domain": "b.test",
                    "targets": ["b:2"],
                    "weights": [1],
                    "options": {"host": "target"},
                    "unavailable": None,
                },
            ],
            "problems": [],
        }

    def test_why_a_route_is_unavailable_is_shown(self, db: Path) -> None:
        writer = RouteWriter(db)
        writer.retarget({"a.test": "a:1", "b.test": "b:1"}, boot_id())
        writer.suspend({"a.test": "container is exited"})
        writer.retarget({"c.test": "c:1"}, "an earlier one")
        waiting = "waiting for the orchestrator since the machine was restarted"
        assert done("route", "ls").splitlines() == [
            "ROUTE   TARGETS  OPTIONS  STATE",
            "a.test  a:1               unavailable: container is exited",
            "b.test  b:1",
            f"c.test  c:1               unavailable: {waiting}",
        ]
        listed = orjson.loads(done("route", "ls", "--json"))["routes"]
        assert [each["unavailable"] for each in listed] == ["container is exited", None, waiting]
        done("route", "set", "a.test", "a:1")
        assert "exited" not in done("route", "ls")

    def test_bad_rows_are_named_beside_the_others(self, db: Path) -> None:
        done("route", "set", "app.test", "a:1")
        with closing(sqlite3.connect(db)) as connection, connection:
            connection.execute("INSERT INTO proxy_routes VALUES ('x.test', 'a', 0)")
        result = fairlead("route", "ls")
        assert result.exit_code == 0
        assert result.stdout.splitlines()[1:] == ["app.test  a:1"]
        assert result.stderr == (
            "fairlead: route 'x.test' is answered 503: target 'a' has no port: write HOST:PORT\n"
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

"""`fairlead explain`: the route of a URL, and how its targets are."""

import re
import socket
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from edge.boot import boot_id
from edge.cli import explain
from edge.routing.store_writer import RouteWriter
from tests.edge.cli.command import done, fairlead, refused

BEST = "its host is the most specific match and its prefix the longest"


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
            "the target gets: /x?q",
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

    def test_why_a_route_is_unavailable_is_told(self, db: Path, listening: str) -> None:
        writer = RouteWriter(db)
        writer.retarget({"app.test": listening}, boot_id())
        writer.suspend({"app.test": "container is exited"})
        assert done("explain", "app.test").splitlines()[1:] == [
            "unavailable: container is exited (requests are answered 503)",
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
            "similar routes:",
            "  app.test/api  the path does not begin with /api",
            "  *.app.test    *.app.test does not match app.test itself",
        ]
        assert result.stderr == "fairlead: no route matches http://app.test/apix\n"

    def test_what_the_target_gets_is_told_where_it_is_not_what_came(self, listening: str) -> None:
        done("route", "set", "app.test/api", listening)
        assert done("explain", "http://app.test/x/../%61pi//y?q").splitlines()[:2] == [
            f"app.test/api (version 1): {BEST}",
            "the target gets: /api/y?q",
        ]
        assert "the target gets" not in done("explain", "http://app.test/api//y")

    def test_a_path_that_the_edge_refuses_is_refused(self, listening: str) -> None:
        done("route", "set", "app.test", listening)
        done("route", "set", "app.test/admin", listening)
        result = fairlead("explain", "http://app.test/x/..%2fadmin")
        assert result.exit_code == 1
        assert result.stdout == ""
        assert result.stderr == (
            "fairlead: the edge answers 400 to http://app.test/x/..%2fadmin:"
            " the path can be read in more than one way\n"
        )

    def test_a_row_that_is_not_valid_is_named(self, db: Path) -> None:
        done("route", "set", "x.test", "a:1")
        with closing(sqlite3.connect(db)) as connection, connection:
            connection.execute("UPDATE proxy_routes SET target = 'a:0'")
        result = fairlead("explain", "x.test")
        assert result.exit_code == 0
        assert "unavailable: its row in the database is not valid: target 'a:0'" in result.stdout
        assert "targets:" not in result.stdout
        assert "route 'x.test' is answered 503: target 'a:0'" in result.stderr

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
            (TimeoutError(), "did not answer within 1 s"),
            (socket.gaierror(-2, "Name unknown"), "cannot be resolved: Name unknown"),
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
        monkeypatch.setattr(explain, "CONNECT_TIMEOUT", 0.2)
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
        assert re.search(rf"{silent} +did not answer within 0.2 s", text)
        assert re.search(rf"{listening} +accepts connections", text)

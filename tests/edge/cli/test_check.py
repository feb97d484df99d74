"""`fairlead edge --check`: what keeps an edge from serving."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from edge.compiled import found
from edge.settings.settings import Settings
from edge.supervisor import supervisor
from edge.wire.codec import CHOICE
from tests.edge.cli.command import done, fairlead, refused

CODEC = f", head codec: {CHOICE}, conversation: {found()}\n"


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
        assert done("edge", "--check", *words) == "1 route to serve (version 1)" + CODEC
        assert db.read_bytes() == before
        assert not (tmp_path / "access.log").exists()

    def test_stdout_can_be_a_log(self, db: Path) -> None:
        for domain in ("app.test", "b.test"):
            done("route", "set", domain, "a:1")
        said = done("edge", "--check", "--access-log", "stdout")
        assert said == "2 routes to serve (version 2)" + CODEC

    def test_bad_rows_are_named_and_end_it_with_1(self, db: Path) -> None:
        for domain in ("app.test", "b.test", "x.test", "y.test"):
            done("route", "set", domain, "a:1")
        with closing(sqlite3.connect(db)) as connection, connection:
            connection.execute("UPDATE proxy_routes SET target = 'a' WHERE domain > 'x'")
        result = fairlead("edge", "--check")
        assert (result.exit_code, result.stdout) == (1, "2 routes to serve (version 4)" + CODEC)
        assert [line.split(":")[1] for line in result.stderr.splitlines()] == [
            " route 'x.test' is answered 503",
            " route 'y.test' is answered 503",
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
            "FAIRLEAD_ADMIN_ADDR: 127.0.0.1:8082 is used twice: choose another port",
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
        assert "'a..b:80' is not an address: 'a..b' is neither an IP nor a host" in result.stderr

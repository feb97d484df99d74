"""`fairlead edge` and `fairlead up`: with which settings the edge runs."""

import re
import signal
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from edge.errors import ConfigError
from edge.routing.store_writer import RouteWriter
from edge.settings.settings import SETTINGS, Settings, load
from edge.supervisor import supervisor
from edge.supervisor.sidecar import Sidecar
from tests.edge.cli.command import done, fairlead, python, refused


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
        def run(texts: Mapping[str, str], _sidecars: object) -> int:
            raise ConfigError("the port is taken")

        monkeypatch.setattr(supervisor, "run", run)
        assert refused("edge", exit_code=2) == "fairlead: the port is taken\n"


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

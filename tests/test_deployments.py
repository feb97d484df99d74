"""Proves what an installation is made from: the pins and the unit of systemd."""

import re
import shutil
import subprocess
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest

from edge.control.channel import CONFIG_EXIT
from edge.net.listener import BACKLOG
from edge.peer import GROUP
from edge.settings.settings import Settings
from edge.supervisor.slot import START_TIMEOUT
from edge.supervisor.supervisor import CHECK_INTERVAL
from orchestrator.settings import Settings as OrchestratorSettings

ROOT = Path(__file__).parents[1]


def normalized(name: str) -> str:
    """The name of a package as two spellings of it have in common."""
    return re.sub(r"[-_.]+", "-", name).lower()


class TestConstraints:
    @property
    def lines(self) -> list[str]:
        """The pins, without comments."""
        text = (ROOT / "deployments" / "constraints.txt").read_text()
        return [line for line in text.splitlines() if not line.startswith("#")]

    def test_every_line_pins_one_package_and_nothing_else(self) -> None:
        # No option, and no address of an index, belongs there.
        for line in self.lines:
            assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!]+", line)

    def test_every_package_that_the_project_names_is_pinned(self) -> None:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text())
        named = list(project["build-system"]["requires"])
        named += project["project"]["dependencies"]
        for extra in project["project"]["optional-dependencies"].values():
            named += extra
        pinned = {normalized(line.split("==")[0]) for line in self.lines}
        for requirement in named:
            name = re.match(r"[A-Za-z0-9._-]+", requirement)
            assert name is not None
            assert normalized(name[0]) in pinned, "run `make constraints`"


def read_unit(name: str) -> dict[str, list[str]]:
    """What a unit says; a key may come more than once."""
    values = defaultdict(list)
    for line in (ROOT / "deployments" / name).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, value = line.split("=", 1)
            values[key].append(value)
    return values


def seconds(values: list[str]) -> float:
    """The value of a key that comes once."""
    (value,) = values
    return float(value)


class TestUnit:
    @property
    def values(self) -> dict[str, list[str]]:
        """What the unit says."""
        return read_unit("fairlead.service")

    def test_it_is_killed_only_after_the_drain_timeout(self) -> None:
        assert seconds(self.values["TimeoutStopSec"]) > Settings().drain_timeout

    def test_it_tells_systemd_itself_how_it_is(self) -> None:
        assert self.values["Type"] == ["notify"]
        assert self.values["NotifyAccess"] == ["main"]
        # Two signs of life may be lost, or late on a busy machine.
        assert seconds(self.values["WatchdogSec"]) > 10 * CHECK_INTERVAL

    def test_its_workers_have_the_time_to_start_that_they_are_given(self) -> None:
        assert seconds(self.values["TimeoutStartSec"]) > START_TIMEOUT

    def test_signals_are_for_the_supervisor_alone(self) -> None:
        assert self.values["KillMode"] == ["mixed"]
        assert self.values["ExecReload"] == ["kill -HUP $MAINPID"]

    def test_it_has_descriptors_for_a_client_and_an_upstream_per_connection(self) -> None:
        (limit,) = self.values["LimitNOFILE"]
        assert int(limit) > 2 * Settings().max_connections

    def test_its_database_is_in_the_folder_that_it_may_write(self) -> None:
        assert self.values["ProtectSystem"] == ["strict"]
        (folder,) = self.values["StateDirectory"]
        assert f"FAIRLEAD_DB=/var/lib/{folder}/fairlead.db" in self.values["Environment"]

    def test_port_80_needs_no_root(self) -> None:
        assert self.values["User"] == ["fairlead-edge"]
        assert self.values["AmbientCapabilities"] == ["CAP_NET_BIND_SERVICE"]


class TestOrchestratorUnit:
    @property
    def values(self) -> dict[str, list[str]]:
        """What the unit says."""
        return read_unit("fairlead-orchestrator.service")

    def test_the_edge_has_no_part_in_what_it_may(self) -> None:
        """tests/test_two_users.py shows it with the programs."""
        edge = read_unit("fairlead.service")
        assert self.values["User"] != edge["User"]
        assert edge["Group"] == edge["User"]
        assert "SupplementaryGroups" not in edge
        # Operators are let in at its socket, and it is one of them at the edge's.
        assert self.values["Group"] == [GROUP]
        assert self.values["SupplementaryGroups"] == [f"docker {edge['Group'][0]}"]

    def test_neither_takes_a_module_from_where_it_runs(self) -> None:
        for name in ("fairlead.service", "fairlead-orchestrator.service"):
            assert "PYTHONSAFEPATH=1" in read_unit(name)["Environment"]

    def test_both_have_the_routes_and_only_it_has_the_state(self) -> None:
        edge = read_unit("fairlead.service")
        (folder,), (shared,) = self.values["StateDirectory"], edge["StateDirectory"]
        state = f"FAIRLEAD_STATE_DB=/var/lib/{folder}/state.db"
        assert set(self.values["Environment"]) - set(edge["Environment"]) == {state}
        assert set(edge["Environment"]) <= set(self.values["Environment"])
        assert self.values["ReadWritePaths"] == [f"/var/lib/{shared}"]
        # What is made in the routes' folder is its group's; nobody looks into the other one but
        # operators, who pass through it to the socket.
        assert edge["StateDirectoryMode"] == ["2770"]
        assert (self.values["StateDirectoryMode"], self.values["UMask"]) == (["0750"], ["0077"])

    def test_it_is_killed_only_after_its_longest_step(self) -> None:
        settings = OrchestratorSettings()
        longest = settings.drain_timeout + settings.tunnel_drain_timeout + settings.stop_timeout
        assert seconds(self.values["TimeoutStopSec"]) > longest

    def test_bad_settings_are_not_tried_again(self) -> None:
        assert self.values["RestartPreventExitStatus"] == [str(CONFIG_EXIT)]


class TestSocket:
    @property
    def values(self) -> dict[str, list[str]]:
        """What the unit says."""
        return read_unit("fairlead.socket")

    def test_it_listens_where_and_as_the_edge_would(self) -> None:
        (address,) = Settings().http_addr
        assert address.host == ""
        assert self.values["ListenStream"] == [f"0.0.0.0:{address.port}", f"[::]:{address.port}"]
        assert self.values["BindIPv6Only"] == ["ipv6-only"]
        assert self.values["Backlog"] == [str(BACKLOG)]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
class TestSystemd:
    def test_it_understands_every_line(self, tmp_path: Path) -> None:
        units = []
        for name in ("fairlead.service", "fairlead.socket", "fairlead-orchestrator.service"):
            text = (ROOT / "deployments" / name).read_text()
            units.append(tmp_path / name)
            # It looks for the program too, which is not installed here.
            units[-1].write_text(re.sub("/opt/fairlead/bin/fairlead [a-z]+", "/bin/true", text))
        verified = subprocess.run(
            ["systemd-analyze", "verify", *map(str, units)], capture_output=True, text=True
        )
        # Of lines that it does not know it only speaks, and of other units of this machine too.
        said = [line for line in verified.stderr.splitlines() if "fairlead" in line]
        assert (verified.returncode, said) == (0, [])

    @pytest.mark.parametrize("name", ["fairlead.service", "fairlead-orchestrator.service"])
    def test_it_finds_each_as_hardened_as_it_was(self, name: str) -> None:
        said = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", ROOT / "deployments" / name],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        exposure = re.search(r"exposure level for \S+: ([0-9.]+)", said)
        assert exposure is not None
        assert float(exposure[1]) <= 1.7

"""Proves what an installation is made from: the pins and the unit of systemd."""

import re
import tomllib
from collections import defaultdict
from pathlib import Path

from edge.config import Settings

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


class TestUnit:
    @property
    def values(self) -> dict[str, list[str]]:
        """What the unit says; a key may come more than once."""
        values = defaultdict(list)
        for line in (ROOT / "deployments" / "fairlead.service").read_text().splitlines():
            if "=" in line and not line.startswith("#"):
                key, value = line.split("=", 1)
                values[key].append(value)
        return values

    def test_it_is_killed_only_after_the_drain_timeout(self) -> None:
        (timeout,) = self.values["TimeoutStopSec"]
        assert float(timeout) > Settings().drain_timeout

    def test_it_has_descriptors_for_a_client_and_an_upstream_per_connection(self) -> None:
        (limit,) = self.values["LimitNOFILE"]
        assert int(limit) > 2 * Settings().max_connections

    def test_its_database_is_in_the_folder_that_it_may_write(self) -> None:
        assert self.values["ProtectSystem"] == ["strict"]
        (folder,) = self.values["StateDirectory"]
        assert f"FAIRLEAD_DB=/var/lib/{folder}/fairlead.db" in self.values["Environment"]

    def test_port_80_needs_no_root(self) -> None:
        assert self.values["User"] == ["fairlead"]
        assert self.values["AmbientCapabilities"] == ["CAP_NET_BIND_SERVICE"]

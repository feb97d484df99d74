"""How much memory there is for what waits, by the limits of cgroups."""

import os
from pathlib import Path

import pytest

from edge.net.memory import SHARE, share, total_memory

MACHINE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def groups(folder: Path, **limits: str) -> tuple[Path, Path]:
    """A tree of cgroups, and what a process says that is in `machine/unit` of it."""
    own = folder / "cgroup"
    own.write_text("0::/machine/unit\n")
    tree = folder / "tree"
    (tree / "machine/unit").mkdir(parents=True)
    for name, limit in limits.items():
        (tree / {"root": ".", "machine": "machine", "unit": "machine/unit"}[name]).joinpath(
            "memory.max"
        ).write_text(f"{limit}\n")
    return tree, own


@pytest.mark.parametrize(
    ("limits", "total"),
    [
        ({}, MACHINE),
        ({"unit": "max", "machine": "max"}, MACHINE),
        ({"unit": "1048576"}, 1048576),
        ({"machine": "1048576"}, 1048576),
        ({"root": "1048576"}, 1048576),
        ({"unit": "2097152", "machine": "1048576", "root": "max"}, 1048576),
        ({"unit": str(2 * MACHINE)}, MACHINE),
    ],
)
def test_the_smallest_limit_holds(tmp_path: Path, limits: dict[str, str], total: int) -> None:
    assert total_memory(*groups(tmp_path, **limits)) == total


def test_without_cgroups_it_is_what_the_machine_has(tmp_path: Path) -> None:
    assert total_memory(tmp_path, tmp_path / "none") == MACHINE


def test_workers_share_a_part_of_it() -> None:
    assert share(2) == total_memory() // SHARE // 2

"""A world that the model has broken leaves nothing behind."""

import signal
from contextlib import suppress
from pathlib import Path

from tests.model.test_model import simulated_machine
from tests.model.world import World

__all__ = ["simulated_machine"]


def tables() -> int:
    """The descriptors of tables in memory that are open here."""
    found = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # that of the folder itself
            found += "fairlead-table" in str(descriptor.readlink())
    return found


def test_its_descriptors_are_closed(simulated_machine: None, tmp_path: Path) -> None:
    before = tables()
    world = World(tmp_path, 1)
    assert tables() > before
    world.kernel.living("worker")[0].signal(signal.SIGKILL)
    world.blame("something is wrong")
    world.close()
    assert tables() == before

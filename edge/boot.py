"""Owns which boot of the machine this is."""

from functools import cache
from pathlib import Path
from typing import Final

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


@cache
def boot_id() -> str:
    """The kernel's id of this boot (random(4)), another one after each restart of the machine.

    Empty where the kernel tells none. A container has that of its host.
    """
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""

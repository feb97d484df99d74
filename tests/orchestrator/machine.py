"""Owns a program in a boot of the machine that a test says, as after a restart.

`python -m tests.orchestrator.machine FILE MODULE`: FILE stands in for the kernel's boot id, in a
mount namespace of the program's own.
"""

import os
import sys

BOOT_ID = "/proc/sys/kernel/random/boot_id"


def main() -> None:
    """Becomes the program."""
    file, module, *arguments = sys.argv[1:]
    script = f'mount --bind "$1" {BOOT_ID} && shift && exec "$@"'
    program = (sys.executable, "-m", module, *arguments)
    os.execvp("unshare", ["unshare", "--mount", "sh", "-c", script, "sh", file, *program])


if __name__ == "__main__":
    main()

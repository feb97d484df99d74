"""Owns a Python program that runs as another user, on a machine that has the users of a test.

`python -m tests.as_user FOLDER USER UMASK ARGUMENT...`: FOLDER/passwd and FOLDER/group, in the form
of passwd(5) and group(5), stand in for those of the machine, in a mount namespace of the program's
own. Only root can do this.
"""

import ctypes
import grp
import os
import pwd
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
CLONE_NEWNS = 0x00020000
"""sched.h; the module `os` has it from Python 3.12 on."""


def arguments(folder: Path, user: str, umask: int, *program: str) -> list[str]:
    """What Python is given to run `program`, which are arguments of Python's, as this user."""
    return ["-m", "tests.as_user", str(folder), user, f"{umask:o}", *program]


def mount(*words: str) -> None:
    """In the namespace of this process."""
    subprocess.run(["mount", *words], check=True)


def make_reachable(folder: Path, hold: Path) -> None:
    """Where Python or the project is below a folder that is closed to others, such as root's home,
    nothing but that is in that folder.
    """
    parents = [each for each in reversed(folder.parents) if not each.stat().st_mode & 0o001]
    if parents:
        mount("--bind", str(folder), str(hold))
        mount("-t", "tmpfs", "-o", "mode=0755", "tmpfs", str(parents[0]))
        folder.mkdir(parents=True)
        mount("--bind", str(hold), str(folder))


def main() -> None:
    """Becomes the program."""
    folder, user, umask, *program = sys.argv[1:]
    if ctypes.CDLL(None).unshare(CLONE_NEWNS) != 0:
        sys.exit("no mount namespace")
    mount("--make-rprivate", "/")
    for name in ("passwd", "group"):
        mount("--bind", f"{folder}/{name}", f"/etc/{name}")
    hold = Path(folder) / "hold"
    hold.mkdir(exist_ok=True)
    for needed in (Path(sys.base_prefix), ROOT):
        make_reachable(needed, hold)
    found = pwd.getpwnam(user)
    others = [each.gr_gid for each in grp.getgrall() if user in each.gr_mem]
    os.umask(int(umask, 8))
    os.setgroups([found.pw_gid, *others])
    os.setgid(found.pw_gid)
    os.setuid(found.pw_uid)
    os.execv(sys.executable, [sys.executable, *program])


if __name__ == "__main__":
    main()

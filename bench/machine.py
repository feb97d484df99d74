"""The machine that measures, and the programs that it needs."""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

from bench.errors import BenchError
from bench.heads import describe as describe_heads
from bench.heads import heads, odd_heads
from bench.requests import HOST

# Debian's package is named as the program.
PROGRAMS = ("wrk", "nginx", "haproxy", "caddy")
_VERSION_COMMANDS = {
    "wrk": ("wrk", "-v"),
    "nginx": ("nginx", "-v"),
    "haproxy": ("haproxy", "-v"),
    "caddy": ("caddy", "version"),
}
# nginx and HAProxy are in a folder that is not on every user's path.
_ADMIN_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def missing_programs() -> list[str]:
    return [name for name in PROGRAMS if shutil.which(name) is None]


def install_command(packages: Iterable[str]) -> list[str]:
    return ["apt-get", "install", "--yes", "--no-install-recommends", *packages]


def ensure_programs() -> None:
    """Install what is missing, where this is allowed and possible.

    Raises BenchError that says what to install otherwise.
    """
    present = os.environ.get("PATH", os.defpath).split(os.pathsep)
    os.environ["PATH"] = os.pathsep.join([*present, *_ADMIN_FOLDERS])
    missing = missing_programs()
    if not missing:
        return
    command = install_command(missing)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise BenchError(f"missing: {', '.join(missing)}. Install them: sudo {' '.join(command)}")
    environ = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    for step in (["apt-get", "update"], command):
        if subprocess.run(step, env=environ, stdout=subprocess.DEVNULL).returncode != 0:  # noqa: S603  a list of ours
            raise BenchError(f"could not install {', '.join(missing)}: {' '.join(step)} failed")
    if Path("/run/systemd/system").exists():
        # Debian starts a server when it is installed; the bench starts its own.
        services = [name for name in missing if name != "wrk"]
        subprocess.run(["systemctl", "disable", "--now", *services], check=False)  # noqa: S603, S607  a list of ours
    if missing_programs():
        raise BenchError(f"still missing after the installation: {', '.join(missing_programs())}")


def _program_version(name: str) -> str:
    if shutil.which(name) is None:
        return "unknown"
    done = subprocess.run(_VERSION_COMMANDS[name], capture_output=True, text=True, check=False)  # noqa: S603  a list of ours
    found = re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr)
    return found[0] if found else "unknown"


def describe() -> dict[str, str]:
    """What a reader must know of the machine to judge the numbers."""
    processor = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "processor": processor[1] if processor else platform.machine(),
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("uvloop", "httptools")},
        **{name: _program_version(name) for name in PROGRAMS},
        "heads": describe_heads(heads(1, HOST)),
        "odd heads": describe_heads(odd_heads(3, HOST)),
    }

"""Owns what tests need of programs that nobody here wrote: whether they are there, and their ports.

A developer may do without them; where CI is "true", a missing one is a failure.
"""

import os
import shutil
import socket
import subprocess
import time

import pytest

START_SECONDS = 20.0
"""Within which a program must listen; nothing takes that long when it works."""

LOOK_SECONDS = 0.02


def needs(program: str) -> pytest.MarkDecorator:
    """Skips a test where `program` is not installed, unless this is CI."""
    missing = shutil.which(program) is None and os.environ.get("CI") != "true"
    return pytest.mark.skipif(missing, reason=f"{program} is not installed: run `make programs`")


def path_of(program: str) -> str:
    """Where `program` is. Fails if it is not installed."""
    path = shutil.which(program)
    assert path is not None, f"{program} is not installed: run `make programs`"
    return path


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def wait_for_port(port: int, process: "subprocess.Popen[bytes]") -> None:
    """Returns when somebody listens on the port. Fails if `process` ends or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(LOOK_SECONDS)
        else:
            return
    raise AssertionError(f"{process.args!r} does not listen on {port}: {process.poll()}")

"""Owns what tests need of programs that nobody here wrote: whether they are there, and their ports.

A developer may do without them; where CI is "true", a missing one is a failure.
"""

import itertools
import os
import shutil
import socket
import subprocess
import time

import pytest

START_SECONDS = 20.0
"""Within which a program must listen; nothing takes that long when it works."""

LOOK_SECONDS = 0.02

FIRST_PORT, PORTS, BLOCK = 10_000, 22_000, 100
"""Below the ports that the kernel gives to whoever asks for any, so that what a test has freed, for
a restart say, is taken by nobody meanwhile. Each process of the tests has a block of its own."""

_turns = itertools.count()


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
    block = FIRST_PORT + os.getpid() * BLOCK % PORTS
    for turn in itertools.islice(_turns, BLOCK):
        port = block + turn % BLOCK
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        return port
    raise AssertionError(f"all ports from {block} to {block + BLOCK - 1} are taken")


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

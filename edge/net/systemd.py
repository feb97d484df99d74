"""Owns the protocol with systemd: sockets that it opened for us, and what we tell it.

sd_listen_fds(3) and sd_notify(3); both are a few environment variables.
"""

import os
import socket
from collections.abc import MutableMapping
from typing import Final

FIRST_FD: Final = 3  # SD_LISTEN_FDS_START

# Seconds that a message may wait for room. Longer would be felt by those who wait for an answer.
# One that is sent again and again need not wait at all.
TIMEOUT: Final = 0.5


def take_listeners(environ: MutableMapping[str, str]) -> list[socket.socket]:
    """The listening sockets that systemd passed to this process; none without socket activation.

    The variables are removed, so that no child takes them for its own.
    """
    count = environ.pop("LISTEN_FDS", "")
    pid = environ.pop("LISTEN_PID", "")
    environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    listeners = [socket.socket(fileno=fd) for fd in range(FIRST_FD, FIRST_FD + int(count))]
    for listener in listeners:
        listener.setblocking(False)
        listener.set_inheritable(False)
    return listeners


def notify(state: str, wait: float = TIMEOUT) -> None:
    """Tell systemd `state`, such as READY=1; nothing happens where it did not ask for it.

    What finds no room within `wait` seconds is lost.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = f"\0{address[1:]}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(wait)
        try:
            sock.sendto(state.encode(), address)
        except OSError:
            pass  # systemd is being restarted or behind; its own timeouts decide.


def watchdog_interval() -> float | None:
    """Seconds between two signs of life: half of what systemd waits for one, or None."""
    pid = os.environ.get("WATCHDOG_PID", "")
    period = os.environ.get("WATCHDOG_USEC", "")
    if not period.isdigit() or pid not in ("", str(os.getpid())):
        return None
    return int(period) / 2_000_000

"""Owns what a container's processes really listen on, as its network namespace tells it."""

import ipaddress
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from edge.hosts import unmapped

PROC: Final = Path("/proc")
# State of a socket that listens: TCP_LISTEN of the kernel's include/net/tcp_states.h.
_LISTEN: Final = "0A"
# The engine's own name server, inside every container on a network of its own.
_ENGINE_DNS: Final = "127.0.0.11"


def open_ports(container: str, pid: int) -> list[tuple[str, int]] | None:
    """Addresses and ports, each once, in order of the port; None where they cannot be known.

    `pid` is the main process of `container` on this machine; it must be of its control group, for
    an engine that runs elsewhere (or in a container) counts its processes otherwise.
    """
    folder = PROC / str(pid)
    try:
        if pid <= 0 or container not in (folder / "cgroup").read_text():
            return None
        tables = [(folder / "net" / name).read_text() for name in ("tcp", "tcp6")]
    except OSError:
        return None
    found = {socket for table in tables for socket in listening_sockets(table.splitlines()[1:])}
    return sorted(found, key=lambda socket: (socket[1], socket[0]))


def listening_sockets(rows: Iterable[str]) -> list[tuple[str, int]]:
    """Those of the rows of /proc/net/tcp or tcp6 that listen. Pure.

    An address there is made of 32-bit words, each as this machine keeps it in memory.
    """
    found = []
    for row in rows:
        fields = row.split()
        if len(fields) < 4 or fields[3] != _LISTEN:
            continue
        words, _, port = fields[1].partition(":")
        packed = b"".join(bytes.fromhex(words[i : i + 8])[::-1] for i in range(0, len(words), 8))
        address = ipaddress.ip_address(packed)
        text = str(unmapped(address))
        if text != _ENGINE_DNS:
            found.append((text, int(port, 16)))
    return found

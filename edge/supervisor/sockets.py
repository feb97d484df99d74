"""Owns the sockets of an edge: opened, or taken over from systemd or from the edge before it."""

import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge.control.handover import Handover, adopt, distribute
from edge.control.lifeline import HANG_LIMIT
from edge.errors import AddressInUseError, ConfigError
from edge.net import systemd
from edge.net.listener import listen, listen_slots, listen_unix
from edge.routing.snapshot_memory import make_descriptors
from edge.rules.rate_limit import make_descriptor
from edge.settings.settings import Settings
from edge.supervisor.register import Register
from edge.upstream import known_names

# Seconds that are waited for the addresses of an edge that was killed. Its workers give them up at
# once, also those that were stopped; one that hangs is ended by the kernel before this is over.
LEFTOVER_TIMEOUT: Final = HANG_LIMIT + 5.0
# Seconds between two attempts.
LEFTOVER_PAUSE: Final = 0.02


@dataclass(frozen=True, slots=True)
class Sockets:
    """`http` has the listeners of each worker; `rates` is the descriptor of the shared rates, and
    `tables` are those of the last good table, `names` that of what is known of names.

    `register` lists the processes of this edge.
    """

    http: list[list[socket.socket]]
    admin: list[socket.socket]
    control: socket.socket
    rates: int
    register: Register
    tables: Sequence[int]
    names: int

    def distinct_http(self) -> list[list[socket.socket]]:
        """The sockets of each slot, those that slots share only once."""
        seen: set[int] = set()
        unshared = []
        for slot in self.http:
            own = [sock for sock in slot if sock.fileno() not in seen]
            seen |= {sock.fileno() for sock in own}
            if own:
                unshared.append(own)
        return unshared


def open_sockets(settings: Settings, handover: Handover | None) -> Sockets:
    """Raises `ConfigError`; then no control socket is left behind."""
    count = settings.worker_count
    activated = systemd.take_listeners(os.environ)
    if handover is not None:
        for descriptor in (handover.rates, handover.names, *handover.tables):
            os.set_inheritable(descriptor, False)
        return Sockets(
            control=adopt(handover.control),
            admin=[adopt(fd) for fd in handover.admin],
            http=distribute([[adopt(fd) for fd in slot] for slot in handover.http], count),
            rates=handover.rates,
            register=Register(handover.register),
            tables=handover.tables,
            names=handover.names,
        )
    rates = make_descriptor()
    tables = make_descriptors()
    names = known_names.make_descriptor()
    control = listen_unix(settings.control_path, "FAIRLEAD_CONTROL_SOCKET")
    try:
        register = Register.open(Path(f"{settings.control_path}.lock"))
        register.resume_others()
        http = [activated] * count if activated else _listen_http(settings, count, register)
        admin = listen(settings.admin_addr, "FAIRLEAD_ADMIN_ADDR")
    except ConfigError:
        settings.control_path.unlink()
        raise
    return Sockets(http, admin, control, rates, register, tables, names)


def _listen_http(settings: Settings, count: int, register: Register) -> list[list[socket.socket]]:
    deadline = time.monotonic() + LEFTOVER_TIMEOUT
    while True:
        try:
            return listen_slots(settings.http_addr, "FAIRLEAD_HTTP_ADDR", count)
        except AddressInUseError:
            # What a killed edge has left has them for another moment.
            if time.monotonic() > deadline or not any(register.others()):
                raise
            time.sleep(LEFTOVER_PAUSE)

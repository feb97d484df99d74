"""Owns the sockets of an edge: opened, or taken over from systemd or from the edge before it."""

import os
import socket
from dataclasses import dataclass

from edge.control.handover import Handover, adopt, distribute
from edge.errors import ConfigError
from edge.net import systemd
from edge.net.listener import listen, listen_slots, listen_unix
from edge.rules.rate_limit import make_descriptor
from edge.settings.settings import Settings


@dataclass(frozen=True, slots=True)
class Sockets:
    """`http` has the listeners of each worker; `rates` is the descriptor of the shared rates."""

    http: list[list[socket.socket]]
    admin: list[socket.socket]
    control: socket.socket
    rates: int

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
    count = settings.workers or len(os.sched_getaffinity(0))
    activated = systemd.take_listeners(os.environ)
    if handover is not None:
        os.set_inheritable(handover.rates, False)
        return Sockets(
            control=adopt(handover.control),
            admin=[adopt(fd) for fd in handover.admin],
            http=distribute([[adopt(fd) for fd in slot] for slot in handover.http], count),
            rates=handover.rates,
        )
    rates = make_descriptor()
    control = listen_unix(settings.control_path, "FAIRLEAD_CONTROL_SOCKET")
    try:
        http = (
            [activated] * count
            if activated
            else listen_slots(settings.http_addr, "FAIRLEAD_HTTP_ADDR", count)
        )
        admin = listen(settings.admin_addr, "FAIRLEAD_ADMIN_ADDR")
    except ConfigError:
        settings.control_path.unlink()
        raise
    return Sockets(http, admin, control, rates)

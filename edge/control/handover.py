"""Owns what an edge leaves to the one that takes its place: the listening sockets, by number.

At an upgrade the new supervisor is a child that inherits them, with this in its environment. It
says on a socket that it serves; a socket that ends without a word says that it does not. The old
one keeps its end as long as it lives, so that the new one knows when nothing is in flight there.
"""

import contextlib
import socket
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Final

import orjson

_VARIABLE: Final = "FAIRLEAD_HANDOVER"
_READY: Final = b"serving\n"
MAX_SAID: Final = 2048  # bytes that come out of the socket

UPGRADE_TIMEOUT: Final = 60.0
"""Seconds that an upgrade gives the new edge until it serves."""


@dataclass(frozen=True)
class Handover:
    """File descriptors: `http` has one list per worker slot, `ready` is the socket, `rates` is the
    memory of the rate table, `tables` that of the last good table, `names` that of what is known of
    names, `register` the list of processes; the version that is served, None without a table; the
    targets that get no new exchange; and how many upgrades there were, by result, this one
    included.
    """

    http: Sequence[Sequence[int]]
    admin: Sequence[int]
    control: int
    ready: int
    rates: int
    register: int
    tables: Sequence[int]
    names: int
    version: int | None
    drained: Sequence[str]
    upgrades: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def from_environment(cls, environ: MutableMapping[str, str]) -> "Handover | None":
        """What the process before this one left, if there was one; children must not see it."""
        text = environ.pop(_VARIABLE, "")
        return cls(**orjson.loads(text)) if text else None

    def export(self, environ: MutableMapping[str, str]) -> None:
        """Write it down for a child."""
        environ[_VARIABLE] = orjson.dumps(asdict(self)).decode()

    @property
    def descriptors(self) -> tuple[int, ...]:
        """All that the child has to inherit."""
        return (
            *(fd for slot in self.http for fd in slot),
            *self.admin,
            self.control,
            self.ready,
            self.rates,
            self.register,
            self.names,
            *self.tables,
        )

    def notify_ready(self) -> socket.socket:
        """The new edge serves: the old one may go. What is returned ends when it has gone."""
        sock = adopt(self.ready)
        with contextlib.suppress(OSError):  # It has died meanwhile; what it had is ours already.
            sock.send(_READY)
        return sock

    def notify_unfit(self, reason: str) -> None:
        """The new edge must not take over: the old one goes on."""
        with adopt(self.ready) as sock, contextlib.suppress(OSError):
            sock.send(reason.encode()[:MAX_SAID])


def is_ready(said: bytes | None) -> bool:
    """Whether what came out of the socket says that the new edge serves; else it says why not."""
    return said == _READY


def adopt(descriptor: int) -> socket.socket:
    """An inherited socket, which no child shall inherit by accident."""
    sock = socket.socket(fileno=descriptor)
    sock.setblocking(False)
    sock.set_inheritable(False)
    return sock


def distribute(inherited: Sequence[list[socket.socket]], slots: int) -> list[list[socket.socket]]:
    """The sockets of the old slots for `slots` new ones: none is left without a worker.

    With more slots than before, the further ones share the sockets of the first ones.
    """
    shares: list[list[socket.socket]] = [[] for _ in range(slots)]
    for index in range(max(slots, len(inherited))):
        shares[index % slots] += inherited[index % len(inherited)]
    return shares

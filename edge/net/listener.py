"""Owns the listening sockets."""

import errno
import os
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from edge.errors import AddressInUseError, ConfigError
from edge.peer import open_to_group
from edge.settings.syntax import Address

# Connections that may wait to be accepted. The kernel caps it at net.core.somaxconn (4096).
BACKLOG = 4096

# The machine has no such family or address. Of a name that stands for several, the others do.
_NOT_HERE = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)


def listen(addresses: Iterable[Address], setting: str) -> list[socket.socket]:
    """Sockets that listen on `addresses`, which come from `setting`; an empty host is all of them.

    Raises `ConfigError`, and leaves nothing open, if one of them cannot be had.
    """
    return _open(addresses, setting, listening=True)


def _open(addresses: Iterable[Address], setting: str, *, listening: bool) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    try:
        for address in addresses:
            sockets += _open_all(address, setting, listening)
    except ConfigError:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def listen_slots(
    addresses: Iterable[Address], setting: str, slots: int
) -> list[list[socket.socket]]:
    """For each of `slots` workers, sockets of its own on the same `addresses`.

    The kernel spreads new connections over them (SO_REUSEPORT). Raises `ConfigError`.
    """
    # SO_REUSEPORT would let a second edge of the same user take half of the connections of the
    # first one without a word; a socket without it is refused. It does not listen: whoever
    # connected in that moment would be reset when it closes.
    probes = _open(addresses, setting, listening=False)
    bound = [(probe.family, probe.getsockname()) for probe in probes]
    for probe in probes:
        probe.close()
    return [[_share(family, name) for family, name in bound] for _ in range(slots)]


def _share(family: int, name: tuple[str, int]) -> socket.socket:
    sock = socket.create_server(name, family=family, backlog=BACKLOG, reuse_port=True)
    sock.setblocking(False)
    return sock


def listen_unix(path: Path, setting: str) -> socket.socket:
    """A socket at `path` for operators; one that nobody listens on any more is replaced.

    Raises `ConfigError`.
    """
    sock = socket.socket(socket.AF_UNIX)
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)) == 0:
                raise ConfigError(
                    f"another process serves {path}: stop it, or set another {setting} and database"
                )
        if path.exists() and not path.is_socket():
            raise ConfigError(f"{path} exists and is not a socket: set another {setting}")
        path.unlink(missing_ok=True)
        # Nobody else may connect in the moment between bind and chmod.
        before = os.umask(0o177)
        try:
            sock.bind(str(path))
        finally:
            os.umask(before)
        open_to_group(path)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        reason = os.strerror(error.errno) if error.errno else "the path is longer than 107 bytes"
        raise ConfigError(f"cannot listen on {path}: {reason}; or set another {setting}") from None
    except ConfigError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def resolve(address: Address, setting: str) -> list[Any]:
    """What `getaddrinfo` says of an address to listen on. Raises ConfigError."""
    try:
        return socket.getaddrinfo(
            address.host or None, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        raise _cannot_listen(address, str(error.strerror), setting) from None


def _open_all(address: Address, setting: str, listening: bool) -> list[socket.socket]:
    """Sockets on every IP address that `address` stands for, all on one port."""
    sockets: list[socket.socket] = []
    port = address.port
    reason = ""
    found = resolve(address, setting)
    # A hosts file can name one address twice.
    for family, *_, (host, _port, *scope) in dict.fromkeys(found):
        try:
            # Of an IPv6 address it takes IPv6 only, so that :: leaves the port to 0.0.0.0, and
            # IPv4 clients keep their own addresses.
            name = (str(host), port, *scope)
            sock = (
                socket.create_server(name, family=family, backlog=BACKLOG)
                if listening
                else _bound(family, name)
            )
        except OSError as error:
            reason = _advice(error, port)
            if error.errno in _NOT_HERE:
                continue
            for other in sockets:
                other.close()
            kind = AddressInUseError if error.errno == errno.EADDRINUSE else ConfigError
            raise _cannot_listen(address, reason, setting, kind) from None
        sock.setblocking(False)
        port = sock.getsockname()[1]
        sockets.append(sock)
    if not sockets:
        raise _cannot_listen(address, reason, setting)
    return sockets


def _bound(family: int, name: tuple[Any, ...]) -> socket.socket:
    """As `socket.create_server`, but that it does not listen. Raises OSError."""
    sock = socket.socket(family)
    try:
        # A socket that listens on the address is in its way all the same (socket(7)).
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(name)
    except OSError:
        sock.close()
        raise
    return sock


def _cannot_listen(
    address: Address, reason: str, setting: str, kind: type[ConfigError] = ConfigError
) -> ConfigError:
    return kind(f"cannot listen on {address}: {reason}; or set another {setting}")


def _advice(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another program listens there; stop it"
    if error.errno == errno.EACCES and port < 1024:
        return (
            f"port {port} needs a privilege; let systemd open it (a .socket unit, or"
            " AmbientCapabilities=CAP_NET_BIND_SERVICE in the .service unit), give it to the"
            " interpreter with `setcap cap_net_bind_service=+ep`, or take a port above 1023"
        )
    return os.strerror(error.errno or 0)

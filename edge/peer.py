"""Owns who is at the other end of a Unix socket, and which users are operators of this machine.

The kernel says who has connected (SO_PEERCRED, unix(7)): nobody can claim to be another user, and
nothing has to be kept that could be read or stolen.
"""

import grp
import os
import socket
import stat
import struct
from pathlib import Path
from typing import Final, NamedTuple

GROUP: Final = "fairlead"
"""Its members are operators, where there is such a group."""

ROOT: Final = 0

_CREDENTIALS: Final = struct.Struct("3i")  # struct ucred: pid, uid, gid
_SO_PEERGROUPS: Final = 59  # asm-generic/socket.h; the module `socket` has no name for it
_MAX_OPTION: Final = 1024  # bytes of an option that Python reads: 256 groups
_GID_SIZE: Final = 4


class Peer(NamedTuple):
    """A process as it was when it connected; `groups` has its primary group, too."""

    pid: int
    uid: int
    groups: frozenset[int]

    def is_operator(self) -> bool:
        """Whether it runs as this process's user, as root, or as a member of the group."""
        return self.uid in (ROOT, os.geteuid()) or group_id() in self.groups


def peer_of(sock: socket.socket) -> Peer:
    """Who is at the other end. Raises OSError."""
    pid, uid, gid = _CREDENTIALS.unpack(
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    )
    try:
        packed = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _MAX_OPTION)
    except OSError:
        packed = b""  # a user of more groups, or a kernel before 4.13: the primary one is known
    groups = struct.unpack(f"{len(packed) // _GID_SIZE}I", packed)
    return Peer(pid, uid, frozenset((gid, *groups)))


def group_id() -> int | None:
    """The number of the group, None where there is none."""
    try:
        return grp.getgrnam(GROUP).gr_gid
    except KeyError:
        return None


def open_to_group(path: Path) -> None:
    """Let members of the group connect to the socket at `path`, which is ours.

    It stays ours alone where there is no such group, or where this process may not give it away, as
    it is no member. In a folder that is shared through its group (set-group-ID), it is open to that
    one then. To connect is not to be let in: `Peer.is_operator` decides. Raises OSError.
    """
    group = group_id()
    if group is None:
        return
    try:
        # A service may not even ask for what is so already (SystemCallFilter=~@privileged).
        if path.stat().st_gid != group:
            os.chown(path, -1, group)
    except PermissionError:
        if not path.absolute().parent.stat().st_mode & stat.S_ISGID:
            return
    path.chmod(0o660)

"""Proves who is taken for an operator at a Unix socket."""

import os
import socket
import stat
from pathlib import Path

import pytest

from edge import peer
from edge.net.listener import listen_unix
from edge.peer import Peer, peer_of

NOBODY = 65534
GROUP = 4242


def test_the_kernel_says_who_is_at_the_other_end() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        found = peer_of(ours)
    assert (found.pid, found.uid) == (os.getpid(), os.geteuid())
    assert found.groups == {os.getegid(), *os.getgroups()}
    assert found.is_operator()


def test_root_this_user_and_members_of_the_group_are_operators(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peer, "group_id", lambda: GROUP)
    assert Peer(1, 0, frozenset()).is_operator()
    assert Peer(1, os.geteuid(), frozenset()).is_operator()
    assert Peer(1, NOBODY, frozenset({NOBODY, GROUP})).is_operator()
    assert not Peer(1, NOBODY, frozenset({NOBODY})).is_operator()


def test_without_the_group_nobody_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer, "group_id", lambda: None)
    assert not Peer(1, NOBODY, frozenset({NOBODY})).is_operator()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file to any group")
def test_a_socket_is_opened_to_the_group_where_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, group, mode in (("ours", None, 0o600), ("theirs", GROUP, 0o660)):
        monkeypatch.setattr(peer, "group_id", lambda group=group: group)
        path = tmp_path / name
        with listen_unix(path, "X"):
            found = path.stat()
        assert stat.S_IMODE(found.st_mode) == mode
        assert (found.st_gid == GROUP) is (group == GROUP)


@pytest.mark.parametrize(("folder", "mode"), [(0o700, 0o600), (0o2770, 0o660)])
def test_one_who_may_not_give_it_away_keeps_it_or_shares_it_as_the_folder_is_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: int, mode: int
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(peer, "group_id", lambda: GROUP)
    monkeypatch.setattr("os.chown", refuse)
    tmp_path.chmod(folder)
    with listen_unix(tmp_path / "x.sock", "X"):
        assert stat.S_IMODE((tmp_path / "x.sock").stat().st_mode) == mode


def test_one_of_the_group_needs_no_right_to_give_it_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(peer, "group_id", os.getegid)
    monkeypatch.setattr("os.chown", refuse)
    with listen_unix(tmp_path / "x.sock", "X"):
        assert stat.S_IMODE((tmp_path / "x.sock").stat().st_mode) == 0o660

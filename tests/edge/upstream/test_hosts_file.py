"""Proves `edge.upstream.hosts_file`: what hosts(5) says, and when it is read again."""

import os
from pathlib import Path

import pytest

from edge.upstream.hosts_file import HostsFile, parse


class TestTheSyntax:
    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("", {}),
            ("127.0.0.1 localhost\n", {"localhost": ("127.0.0.1",)}),
            ("10.0.0.1\tone  two # three\n", {"one": ("10.0.0.1",), "two": ("10.0.0.1",)}),
            ("# 10.0.0.1 one\n\n   \n10.0.0.2", {}),
            ("10.0.0.1 App.Internal.\n", {"app.internal": ("10.0.0.1",)}),
            ("10.0.0.1 a\n::1 a\n10.0.0.1 a\n", {"a": ("10.0.0.1", "::1")}),
            ("10.0.0 one\nname two\n10.0.0.3 three", {"three": ("10.0.0.3",)}),
        ],
    )
    def test_is_names_with_all_their_addresses_in_order(
        self, text: str, found: dict[str, tuple[str, ...]]
    ) -> None:
        assert parse(text) == found


class TestTheFile:
    def test_is_read_when_it_is_new_and_when_it_has_changed(self, tmp_path: Path) -> None:
        path = tmp_path / "hosts"
        hosts = HostsFile(path)
        assert not hosts.refresh()
        path.write_text("10.0.0.1 app\n")
        assert hosts.refresh()
        assert hosts.addresses("app") == ("10.0.0.1",)
        assert not hosts.refresh()
        written = path.stat()
        path.write_text("10.0.0.2 app\n")
        os.utime(path, ns=(written.st_atime_ns, written.st_mtime_ns + 1))
        assert hosts.refresh()
        assert hosts.addresses("app") == ("10.0.0.2",)

    def test_has_no_names_when_it_is_gone(self, tmp_path: Path) -> None:
        path = tmp_path / "hosts"
        path.write_text("10.0.0.1 app\n")
        hosts = HostsFile(path)
        hosts.refresh()
        path.unlink()
        assert hosts.refresh()
        assert hosts.addresses("app") == ()

    def test_has_no_names_when_it_cannot_be_read(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        hosts = HostsFile(tmp_path)
        assert hosts.refresh()
        assert hosts.addresses("app") == ()
        assert caplog.messages == [f"{tmp_path} cannot be read: Is a directory"]

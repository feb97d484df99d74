"""Which boot of the machine this is."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge import boot


@pytest.fixture(autouse=True)
def _ask_anew() -> Iterator[None]:
    boot.boot_id.cache_clear()
    yield
    boot.boot_id.cache_clear()


def test_it_is_the_id_of_the_kernel() -> None:
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", boot.boot_id())


def test_it_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "boot_id"
    told.write_text("first\n")
    monkeypatch.setattr(boot, "_BOOT_ID", told)
    assert boot.boot_id() == "first"
    told.unlink()
    assert boot.boot_id() == "first"


def test_a_kernel_that_tells_none_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot, "_BOOT_ID", tmp_path / "none")
    assert boot.boot_id() == ""

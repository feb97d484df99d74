"""Programs that the bench needs and the machine does not have."""

import os
import shutil

import pytest

from bench.errors import BenchError
from bench.machine import describe, ensure_programs, install_command


def test_packages_are_installed_without_questions_and_without_company() -> None:
    assert install_command(["wrk", "caddy"]) == [
        "apt-get",
        "install",
        "--yes",
        "--no-install-recommends",
        "wrk",
        "caddy",
    ]


def test_who_may_not_install_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.defpath)
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "caddy" else f"/bin/{name}")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(BenchError, match=r"missing: caddy.*sudo apt-get install"):
        ensure_programs()


def test_nothing_is_installed_where_nothing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.defpath)
    monkeypatch.setattr(shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    ensure_programs()


def test_a_program_that_is_not_there_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert describe()["caddy"] == "unknown"

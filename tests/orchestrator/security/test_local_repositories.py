"""Proves which repositories of this machine are for others than its operator."""

from pathlib import Path

import pytest

from orchestrator.security.local_repositories import is_local_repository


@pytest.fixture
def repos(tmp_path: Path) -> Path:
    found = tmp_path / "repos"
    found.mkdir()
    (found / "in").mkdir()
    (found / "link").symlink_to(found / "in")
    (found / "out").symlink_to(tmp_path)
    (found / "loop").symlink_to(found / "loop")
    return found


@pytest.mark.parametrize("name", ["in", "in/deeper.git", "link", "not-there-yet", "a%20b", "."])
def test_what_is_below_a_folder_is(repos: Path, name: str) -> None:
    assert is_local_repository(f"file://{repos}/{name}", [Path("/elsewhere"), repos])
    assert is_local_repository(f"FILE://{repos}/{name}", [repos])
    assert not is_local_repository(f"file://{repos}/{name}", [])


@pytest.mark.parametrize(
    "name",
    ["..", "../other", "in/../../other", "%2e%2e/other", "in%2F..%2f..%2Fother", "out/other",
     "loop/x", "x%00", "in?x", "in#x"],
)  # fmt: skip
def test_what_leads_out_of_it_is_not(repos: Path, name: str) -> None:
    assert not is_local_repository(f"file://{repos}/{name}", [repos])


def test_what_is_no_file_url_is_not(repos: Path) -> None:
    for url in (
        f"file://{repos}-other/in",
        f"file://localhost{repos}/in",
        f"https://host{repos}/in",
        f"{repos}/in",
        f"user@host:{repos}/in",
        "file://[",
        "",
    ):
        assert not is_local_repository(url, [repos]), url


def test_a_folder_that_is_a_link_is_where_it_leads(repos: Path, tmp_path: Path) -> None:
    (tmp_path / "also").symlink_to(repos)
    assert is_local_repository(f"file://{repos}/in", [tmp_path / "also"])

"""Proves what of a repository reaches the engine that builds it."""

import io
import os
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestrator.errors import StepError
from orchestrator.source.build_context import CHUNK_BYTES, dockerfile_name, tar_stream


def stream(
    folder: Path,
    dockerfile: str | None = None,
    on_warning: Callable[[str], None] = print,
    max_bytes: int = 10**8,
) -> Iterator[bytes]:
    return tar_stream(
        folder, dockerfile=dockerfile, max_bytes=max_bytes, on_warning=on_warning, on_read=print
    )


def read(
    folder: Path, dockerfile: str | None = None, problems: list[str] | None = None
) -> dict[str, tarfile.TarInfo]:
    told = [] if problems is None else problems
    pieces = stream(folder, dockerfile, told.append)
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
        return {entry.name: entry for entry in tar.getmembers()}


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(os.fsencode(name))


def test_git_never_goes_along_whatever_an_exception_says(tmp_path: Path) -> None:
    put(tmp_path, "a", ".git/config", ".dockerignore")
    (tmp_path / ".dockerignore").write_text("!.git\n!.git/config\n")
    assert list(read(tmp_path)) == [".dockerignore", "a"]


def test_dockerignore_is_heeded_with_its_exceptions(tmp_path: Path) -> None:
    put(tmp_path, "a.log", "logs/b", "logs/keep", "src/c.log", "src/d", ".env")
    (tmp_path / ".dockerignore").write_text("# a comment\n\n**/*.log\nlogs\n!logs/keep\n.env\n")
    assert list(read(tmp_path)) == [".dockerignore", "logs/keep", "src", "src/d"]


def test_secrets_and_what_the_build_makes_stay_out_of_a_generated_build(tmp_path: Path) -> None:
    put(tmp_path, ".env", "a", "node_modules/x/y", "sub/.env.local", "venv/bin/python")
    problems: list[str] = []
    assert list(read(tmp_path, "FROM x", problems)) == ["a", "sub", ".fairlead.Dockerfile"]
    assert problems == ["excluded .env: add a .dockerignore to decide what goes into the image"]
    assert ".env" in read(tmp_path)  # a Dockerfile of its own gets what it may ask for


def test_a_generated_dockerfile_takes_no_files_name(tmp_path: Path) -> None:
    put(tmp_path, ".fairlead.Dockerfile")
    assert dockerfile_name(tmp_path, generated=True) == ".fairlead.Dockerfile_"
    assert list(read(tmp_path, "FROM x")) == [".fairlead.Dockerfile", ".fairlead.Dockerfile_"]


def test_contents_modes_and_owners_are_right_at_every_size(tmp_path: Path) -> None:
    sizes = (0, 1, 511, 512, 513, CHUNK_BYTES, CHUNK_BYTES + 1)
    for size in sizes:
        (tmp_path / f"f{size}").write_bytes(os.urandom(size))
    (tmp_path / "f1").chmod(0o4777)
    pieces = list(stream(tmp_path, "FROM x"))
    assert max(map(len, pieces)) == CHUNK_BYTES
    with tarfile.open(fileobj=io.BytesIO(b"".join(pieces))) as tar:
        for size in sizes:
            file = tar.extractfile(f"f{size}")
            assert file is not None
            assert file.read() == (tmp_path / f"f{size}").read_bytes()
        entry = tar.getmember("f1")
        assert (entry.mode, entry.uid, entry.gid) == (0o755, 0, 0)
        assert tar.getmember("f0").mode == 0o644


def test_names_of_any_length_and_any_bytes_are_kept(tmp_path: Path) -> None:
    names = ["ü" * 100, "long/" + "x" * 150 + "/" + "y" * 150, os.fsdecode(b"\xff\xfe")]
    put(tmp_path, *names)
    assert {os.fsencode(name) for name in names} <= {
        name.encode("utf-8", "surrogateescape") for name in read(tmp_path)
    }


def test_links_stay_links(tmp_path: Path) -> None:
    put(tmp_path, "folder/file")
    (tmp_path / "folder" / "up").symlink_to("../folder/file")
    (tmp_path / "to-folder").symlink_to("folder")
    (tmp_path / "dangling").symlink_to("nothing")
    found = read(tmp_path)
    assert found["folder/up"].linkname == "../folder/file"
    assert found["to-folder"].issym()
    assert found["dangling"].linkname == "nothing"


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "folder/../../outside", ".."])
def test_a_link_that_leads_out_stops_the_build(tmp_path: Path, target: str) -> None:
    tree = tmp_path / "tree"
    put(tree, "folder/file")
    (tree / "link").symlink_to(target)
    with pytest.raises(StepError, match="points outside the repository") as caught:
        read(tree)
    assert caught.value.kind == "context_escape"


def test_a_link_through_another_one_is_followed_to_its_real_end(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    put(tree, "a/b/file")
    (tree / "a" / "b" / "top").symlink_to("../..")
    (tree / "link").symlink_to("a/b/top/../x")
    with pytest.raises(StepError, match="symbolic link link points outside"):
        read(tree)


def test_a_link_that_leads_out_may_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / ".dockerignore").write_text("link")
    assert list(read(tmp_path)) == [".dockerignore"]


def test_a_dockerfile_and_a_dockerignore_may_be_no_links(tmp_path: Path) -> None:
    put(tmp_path, "real")
    (tmp_path / "Dockerfile").symlink_to("real")
    with pytest.raises(StepError, match="the Dockerfile is a symbolic link"):
        read(tmp_path)
    (tmp_path / "Dockerfile").unlink()
    (tmp_path / ".dockerignore").symlink_to("real")
    with pytest.raises(StepError, match="dockerignore is a symbolic link"):
        read(tmp_path)


def test_pipes_are_left_out_and_told(tmp_path: Path) -> None:
    put(tmp_path, "a")
    os.mkfifo(tmp_path / "pipe")
    problems: list[str] = []
    assert list(read(tmp_path, None, problems)) == ["a"]
    assert problems == ["excluded pipe: not a file, directory or symbolic link"]


def test_a_context_that_is_too_large_is_broken_off(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(100_000))
    with pytest.raises(StepError, match="larger than 50000 bytes") as caught:
        list(stream(tmp_path, max_bytes=50_000))
    assert caught.value.kind == "context_too_large"

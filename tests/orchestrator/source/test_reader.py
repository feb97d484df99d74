"""Proves that what a repository does to the process that reads it is the error of its deploy, and
nothing else: hostile repositories, each made here.
"""

import asyncio
import json
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.errors import StepError
from orchestrator.source import reader
from orchestrator.source.detect import Detection
from orchestrator.source.tree import MAX_FILE_BYTES

Make = Callable[[Path], None]

FLASK = "from flask import Flask\napp = Flask(__name__)\n"
DEEP = 20_000
# Takes 1.2 s and 80 MiB in a file of 255 KiB.
LISTS = "x=[" + "1," * 500 + "]\n"


def detected(folder: Path) -> Detection:
    return asyncio.run(reader.detect(folder))


def sent(folder: Path, on_warning: Callable[[str], None] = print) -> int:
    """Bytes of the build context."""

    async def work() -> int:
        pieces = reader.context(folder, dockerfile=None, max_bytes=10**9, on_warning=on_warning)
        return sum([len(piece) async for piece in pieces])

    return asyncio.run(work())


def error(work: Callable[[Path], object], folder: Path) -> str:
    with pytest.raises(StepError) as caught:
        work(folder)
    assert str(caught.value).isprintable()
    return f"{caught.value.kind}: {caught.value}"


def files(**texts: str) -> Make:
    def make(folder: Path) -> None:
        for name, text in texts.items():
            (folder / name.replace("__", ".")).write_text(text)

    return make


def filled_up(text: str, count: int) -> Make:
    """Sources that are as large as any that is read."""

    def make(folder: Path) -> None:
        for number in range(count):
            (folder / f"app{number}.py").write_text(text * (MAX_FILE_BYTES // len(text)))

    return make


@pytest.mark.parametrize(
    ("make", "words"),
    [
        pytest.param(
            files(package__json='{"a":' * DEEP), "package.json: it is nested too deeply", id="json"
        ),
        pytest.param(
            files(pyproject__toml="a = " + "[" * DEEP, app__py=FLASK),
            "pyproject.toml: it is nested too deeply",
            id="toml",
        ),
        pytest.param(
            files(package__json='{"scripts": ["start"]}'), "package.json is not a valid", id="list"
        ),
        pytest.param(
            files(pyproject__toml="project = 3", main__py=""),
            "bad_file: cannot read pyproject.toml",
            id="project-3",
        ),
        pytest.param(
            files(pyproject__toml="[project]\nscripts = 3", main__py=""),
            "bad_file: cannot read pyproject.toml",
            id="scripts-3",
        ),
        pytest.param(
            files(Dockerfile="FROM x\n" + "#" * MAX_FILE_BYTES), "larger than 256 KiB", id="large"
        ),
        pytest.param(lambda folder: os.mkfifo(folder / "Dockerfile"), "no regular file", id="pipe"),
        pytest.param(
            lambda folder: (folder / "Dockerfile").write_bytes(b"FROM \xff"),
            "not UTF-8",
            id="bytes",
        ),
        pytest.param(
            lambda folder: (folder / "Dockerfile").symlink_to("Dockerfile"), "link", id="loop"
        ),
        pytest.param(
            files(Dockerfile="version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n"),
            "git LFS",
            id="lfs",
        ),
    ],
)
def test_a_hostile_file_is_named_in_the_error(tmp_path: Path, make: Make, words: str) -> None:
    make(tmp_path)
    assert words in error(detected, tmp_path)


def test_sources_beyond_the_limit_of_cpu_time_end_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "DETECT_CPU", 2)
    filled_up(LISTS, 100)(tmp_path)
    assert "s of CPU time, or all memory in app" in error(detected, tmp_path)


def test_a_source_that_takes_more_memory_than_there_is_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "MEMORY", 160 * 2**20)
    filled_up("x,", 1)(tmp_path)
    assert "too_large: cannot read app0.py: it takes more than 160 MiB" in error(detected, tmp_path)


def test_the_loop_goes_on_while_a_repository_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "DETECT_CPU", 1)
    filled_up(LISTS, 20)(tmp_path)
    turns = 0

    async def work() -> None:
        nonlocal turns
        reading = asyncio.ensure_future(reader.detect(tmp_path))
        while not reading.done():
            await asyncio.sleep(0.01)
            turns += 1
        assert isinstance(reading.exception(), StepError)

    asyncio.run(work())
    assert turns > 20


def test_names_with_line_breaks_escapes_and_no_text_are_harmless(tmp_path: Path) -> None:
    for name in (b"a\nb\x1b[31m.py", b"\xff\xfe.py", b"c\\.py", b"'\"$(id).py"):
        (tmp_path / os.fsdecode(name)).write_text(FLASK)
    found = detected(tmp_path)
    assert json.loads(json.dumps(found.options["command"]).encode()) == found.options["command"]
    assert sent(tmp_path) > 4 * 1024


def test_pipes_sockets_and_devices_are_told_of_in_few_words(tmp_path: Path) -> None:
    for number in range(300):
        os.mkfifo(tmp_path / f"pipe\n{number:03}")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
    if os.geteuid() == 0:
        os.mknod(tmp_path / "zero", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    warnings: list[str] = []
    assert sent(tmp_path, warnings.append) == 1024
    assert warnings[0] == r"excluded 'pipe\n000': not a file, directory or symbolic link"
    assert warnings[100].endswith("more of these")
    assert len(warnings) == 101


@pytest.mark.parametrize(
    "folders", [10, pytest.param(100, marks=[pytest.mark.chaos, pytest.mark.timeout(300)])]
)
def test_many_thousand_files_are_read(tmp_path: Path, folders: int) -> None:
    for folder in range(folders):
        (tmp_path / str(folder)).mkdir()
        for number in range(1000):
            (tmp_path / str(folder) / f"{number}.py").touch()
    (tmp_path / ".dockerignore").write_text("**/*5.py\n*/1*\n!**/15*\n")
    assert "unknown_runtime" in error(detected, tmp_path)
    assert sent(tmp_path) > folders * 700 * 512


@pytest.mark.parametrize("pattern", ["*a" * 7 + "b", "**/" * 200 + "b", "[a-z]*" * 200 + "\\*"])
def test_patterns_of_a_bomb_match_at_once(tmp_path: Path, pattern: str) -> None:
    (tmp_path / ("a" * 90)).touch()
    (tmp_path / ".dockerignore").write_text(pattern)
    assert sent(tmp_path) == 2 * 512 + len(pattern) + -len(pattern) % 512 + 1024


def test_a_megabyte_of_patterns_ends_at_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "CONTEXT_CPU", 3)
    for number in range(2000):
        (tmp_path / f"{number}{'a' * 240}").touch()
    (tmp_path / ".dockerignore").write_text("*a*a*b\n" * 140_000)
    assert "3 s of CPU time, or all memory in .dockerignore" in error(sent, tmp_path)


def test_a_dockerignore_that_docker_refuses_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").write_text("a\n[\n")
    assert "bad_dockerignore" in error(sent, tmp_path)


def test_links_in_circles_are_sent_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "here").symlink_to(".")
    assert sent(tmp_path) == 3 * 512 + 1024
    (tmp_path / "out").symlink_to("/proc/self/mem")
    assert "context_escape" in error(sent, tmp_path)


def test_the_process_learns_no_secret_and_imports_nothing_of_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("json", "orchestrator", "resource", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text("import os; os._exit(7)")
    (tmp_path / "index.html").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FAIRLEAD_API_TOKEN", "secret")
    (tmp_path / "app.py").write_text(FLASK)
    assert detected(tmp_path).runtime == "python"


def test_whoever_stops_in_the_middle_leaves_no_process(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(4 * 2**20))

    async def work() -> None:
        before = _children()  # other tests' programs may run beside
        pieces = reader.context(tmp_path, dockerfile=None, max_bytes=10**9, on_warning=print)
        await anext(pieces)
        assert len(_children() - before) == 1
        await pieces.aclose()
        assert _children() <= before

    asyncio.run(work())


def _children() -> set[str]:
    found = (path.read_text().split() for path in Path("/proc/self/task").glob("*/children"))
    return {pid for each in found for pid in each}

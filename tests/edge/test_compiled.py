"""Proves which conversation runs: the compiled one where all of it is there and from these sources,
else the sources, whatever is wrong with it.
"""

import ast
import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from edge import compiled
from edge.compiled import CONSTANTS, MODULES, PURE, library_file, shim_name, source_of
from tests.edge.damaged import warns_once_and_serves
from tests.harness import Conversation, Upstream

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = Path(compiled.__file__).parent

needs_compiled = pytest.mark.skipif(
    not library_file().is_file(), reason="the conversation is not compiled"
)


def chosen(code: str = "", **environ: str) -> str:
    """What a process says of its choice that runs `code` first; the client's module is that one."""
    code = (
        f"import edge.compiled\n{code}\nchoice = edge.compiled.use()\n"
        "import edge.proxy.client\nprint(choice, choice.failure, sep=';', end=';')\n"
        "print(edge.proxy.client.__file__.rpartition('.')[2])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={name: text for name, text in os.environ.items() if name != PURE} | environ,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    return done.stdout.strip()


def with_files_of(folder: Path) -> str:
    return f"edge.compiled.__path__[:] = [{str(folder)!r}]"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A folder with all that is compiled."""
    return Path(shutil.copytree(FOLDER, tmp_path / "compiled"))


def cut_off(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def cut_off_library(folder: Path) -> None:
    cut_off(folder / library_file().name)


def shim_of(module: str, folder: Path) -> Path:
    (found,) = folder.glob(f"{shim_name(module).rpartition('.')[2]}.*.so")
    return found


def cut_off_a_shim(folder: Path) -> None:
    cut_off(shim_of("edge.proxy.exchange", folder))


def take_one_shim_for_another(folder: Path) -> None:
    shutil.copyfile(shim_of("edge.proxy.retry", folder), shim_of("edge.net.read_gate", folder))


DAMAGE: Final = [
    pytest.param(cut_off_library, "the file ends too soon"),
    pytest.param(cut_off_a_shim, "the file ends too soon"),
    pytest.param(take_one_shim_for_another, "does not define module export function"),
]


class TestTheList:
    def test_no_two_have_one_shim(self) -> None:
        assert len({shim_name(name) for name in MODULES}) == len(MODULES)

    def test_what_is_compiled_in_is_in_the_name_of_the_library(self) -> None:
        """mypyc writes the value of a Final where it is used, of another module's too."""
        elsewhere: set[str] = set()
        for name in MODULES:
            for node in ast.walk(ast.parse(source_of(name).read_text())):
                if isinstance(node, ast.ImportFrom) and str(node.module).startswith("edge."):
                    module = importlib.import_module(str(node.module))
                    values = (getattr(module, each.name) for each in node.names)
                    if any(isinstance(value, int | float | str | bytes) for value in values):
                        elsewhere.add(module.__name__)
        assert elsewhere - {*MODULES} <= {*CONSTANTS}


class TestTheChoice:
    @needs_compiled
    def test_is_the_compiled_one_where_it_is(self) -> None:
        assert chosen() == "compiled;;so"

    def test_is_the_sources_where_they_are_asked_for(self) -> None:
        assert chosen(FAIRLEAD_PURE="1") == "pure (FAIRLEAD_PURE is set);;py"

    def test_is_the_sources_where_nothing_was_compiled(self, tmp_path: Path) -> None:
        assert chosen(with_files_of(tmp_path)) == "pure (not compiled);;py"

    def test_is_the_sources_where_others_were_compiled(self, tmp_path: Path) -> None:
        (tmp_path / "conversation_0123456789abcdef__mypyc.so").touch()
        assert chosen(with_files_of(tmp_path)) == "pure (not compiled from these sources);;py"

    @needs_compiled
    @pytest.mark.parametrize("first", ["edge.proxy.client", "edge.upstream.target"])
    def test_is_the_sources_where_one_was_imported_before(self, first: str) -> None:
        assert chosen(f"import {first}") == "pure (imported before);;py"

    @needs_compiled
    @pytest.mark.parametrize(("damage", "said"), DAMAGE)
    def test_is_the_sources_where_what_is_there_does_not_load(
        self, copy: Path, damage: Callable[[Path], None], said: str
    ) -> None:
        damage(copy)
        choice, failure, kind = chosen(with_files_of(copy)).split(";")
        assert choice == "pure (the compiled one does not load)"
        assert failure.startswith("ImportError: ")
        assert said in failure
        assert kind == "py"


@needs_compiled
@pytest.mark.parametrize(("damage", "said"), DAMAGE)
def test_an_edge_warns_once_and_serves(
    conversation: Conversation,
    copy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    upstream: Upstream,
    damage: Callable[[Path], None],
    said: str,
) -> None:
    damage(copy)
    patch = f"import edge.compiled; {with_files_of(copy)}"
    warns_once_and_serves(
        "conversation", patch, said, conversation, upstream, tmp_path, monkeypatch
    )

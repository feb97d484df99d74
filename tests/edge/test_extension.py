"""Proves that a compiled module that is damaged, or of another Python, stops nobody: the real codec
cut off anywhere, and an edge that serves beside such files.
"""

import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import edge.wire
from edge.extension import load
from tests.edge.damaged import warns_once_and_serves
from tests.edge.wire.twins import needs_compiled
from tests.harness import Conversation, Upstream

NAME = f"_codec{EXTENSION_SUFFIXES[0]}"
COMPILED = Path(edge.wire.__file__).with_name(NAME)

COMPILER = shlex.split(sysconfig.get_config_var("CC") or "cc")[0]
needs_compiler = pytest.mark.skipif(
    shutil.which(COMPILER) is None or not Path(sysconfig.get_path("include"), "Python.h").is_file(),
    reason=f"there is no {COMPILER}, or no headers of Python",
)

RAISES = """
#include <Python.h>
PyMODINIT_FUNC PyInit__codec(void) {
    PyErr_SetString(PyExc_ZeroDivisionError, "it has a fault");
    return NULL;
}
"""
# What there is in no Python, as what one has that another has not.
OTHER_API = """
extern void *PyAnother_Function(void);
void *PyInit__codec(void) { return PyAnother_Function(); }
"""


def compile_to(path: Path, source: str) -> None:
    """A shared object of C."""
    command = [COMPILER, "-shared", "-fPIC", f"-I{sysconfig.get_path('include')}", "-o", str(path)]
    subprocess.run([*command, "-x", "c", "-"], input=source, text=True, check=True)


def cut_off(folder: Path) -> None:
    (folder / NAME).write_bytes(COMPILED.read_bytes()[: COMPILED.stat().st_size // 2])


def of_another_api(folder: Path) -> None:
    compile_to(folder / NAME, OTHER_API)


def that_raises(folder: Path) -> None:
    compile_to(folder / NAME, RAISES)


def of_another_python(folder: Path) -> None:
    (folder / "_codec.cpython-27-x86_64-linux-gnu.so").write_bytes(b"\x7fELF")


DAMAGE = [
    pytest.param(cut_off, "ends too soon", marks=needs_compiled),
    pytest.param(of_another_api, "undefined symbol: PyAnother_Function", marks=needs_compiler),
    pytest.param(that_raises, "ZeroDivisionError: it has a fault", marks=needs_compiler),
    pytest.param(of_another_python, "it was compiled for another Python"),
]


class TestLoad:
    @pytest.fixture
    def package(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """The folder of a package that has no compiled module yet."""
        folder = tmp_path / "damaged"
        folder.mkdir()
        (folder / "__init__.py").write_text("")
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "damaged", raising=False)
        return folder

    @pytest.mark.parametrize(("damage", "said"), DAMAGE)
    def test_what_is_damaged_raises(
        self, package: Path, damage: Callable[[Path], None], said: str
    ) -> None:
        damage(package)
        with pytest.raises(Exception) as raised:
            load("damaged._codec")
        assert said in f"{raised.type.__name__}: {raised.value}"
        assert not isinstance(raised.value, ModuleNotFoundError)

    @needs_compiled
    def test_no_part_of_a_file_ends_the_process(self, package: Path) -> None:
        whole = COMPILED.read_bytes()
        for size in (*range(130), *range(130, len(whole) // 2, 997)):
            (package / NAME).write_bytes(whole[:size])
            with pytest.raises(ImportError):
                load("damaged._codec")

    @pytest.mark.parametrize("content", [b"", b"text\n" * 50, b"\x7fELF\x02\x01" + bytes(58)])
    def test_what_is_no_shared_object_raises(self, package: Path, content: bytes) -> None:
        (package / NAME).write_bytes(content)
        with pytest.raises(ImportError):
            load("damaged._codec")

    def test_what_nobody_has_compiled_is_not_found(self, package: Path) -> None:
        with pytest.raises(ModuleNotFoundError) as raised:
            load("damaged._codec")
        assert raised.value.name == "damaged._codec"


@pytest.mark.parametrize(("damage", "said"), DAMAGE)
def test_an_edge_warns_once_and_serves(
    conversation: Conversation,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    upstream: Upstream,
    damage: Callable[[Path], None],
    said: str,
) -> None:
    folder = tmp_path / "wire"
    shutil.copytree(COMPILED.parent, folder, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    damage(folder)
    patch = f"import edge.wire; edge.wire.__path__[:] = [{str(folder)!r}]"
    warns_once_and_serves("codec", patch, said, conversation, upstream, tmp_path, monkeypatch)

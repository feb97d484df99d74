"""Proves that no program of ours gives a shell a text that it was not written with.

A shell is found by how it is reached: by a function that starts one, by `shell=`, and by a command
that names one, whose script must then be a constant.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("bench", "edge", "fairlead", "orchestrator")

# Each of these starts a shell, whatever it is given.
FUNCTIONS = {
    "os.popen",
    "os.system",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "asyncio.create_subprocess_shell",
}
NAMES = {each.rpartition(".")[2] for each in FUNCTIONS} | {"subprocess_shell"}
SHELLS = {"sh", "ash", "bash", "dash", "ksh", "zsh", "busybox"}

# What is meant: by the file and the source of the command.
ALLOWED = {
    (
        "orchestrator/source/detect_python.py",
        "['sh', '-c', command.strip()]",
    ): "the app's own line of its Procfile, run by its own container",
}


def texts_for_a_shell(source: str) -> Iterator[tuple[int, str]]:
    """The lines of `source` in which a shell may get a text from elsewhere, and that code."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.expr | ast.ImportFrom) and _is_for_a_shell(node):
            yield node.lineno, ast.unparse(node)


def _is_for_a_shell(node: ast.expr | ast.ImportFrom) -> bool:
    match node:
        case ast.ImportFrom():
            return any(f"{node.module}.{each.name}" in FUNCTIONS for each in node.names)
        case ast.Attribute():
            # `platform.system` is none.
            return node.attr in NAMES and (node.attr != "system" or _is_of(node, "os"))
        case ast.List() | ast.Tuple():
            return _is_script_made_here(node.elts)
        case ast.Call() if any(
            each.arg == "shell" and not _is_false(each.value) for each in node.keywords
        ):
            return True
        case ast.JoinedStr() | ast.BinOp():
            return _names_a_shell(_constants_of(node))
        case ast.Call() if _is_format(node):
            return _names_a_shell(_constants_of(node))
    return False


def _is_of(node: ast.Attribute, module: str) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id == module


def _constants_of(node: ast.expr) -> list[str]:
    """The words of all texts in it."""
    texts = (each.value for each in ast.walk(node) if isinstance(each, ast.Constant))
    return [word for text in texts if isinstance(text, str) for word in text.split()]


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def _is_format(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("format", "join", "format_map")
    )


def _is_script_made_here(elements: list[ast.expr]) -> bool:
    words = [each.value if isinstance(each, ast.Constant) else None for each in elements]
    for at, word in enumerate(words):
        if isinstance(word, str) and word.rpartition("/")[2] in SHELLS:
            rest = words[at + 1 :]
            if any(isinstance(each, str) and _is_command_option(each) for each in rest):
                return None in rest
    return False


def _names_a_shell(words: list[str]) -> bool:
    return any(
        word.rpartition("/")[2] in SHELLS and any(map(_is_command_option, words[at + 1 : at + 4]))
        for at, word in enumerate(words)
    )


def _is_command_option(word: str) -> bool:
    return word.startswith("-") and not word.startswith("--") and word.endswith("c")


PLANTED = [
    "subprocess.run(f'ls {folder}', shell=True)",
    "subprocess.Popen(command, shell=is_text)",
    "os.system('ls ' + folder)",
    "os.popen(command).read()",
    "from os import system",
    "from subprocess import getoutput as run",
    "await asyncio.create_subprocess_shell(command)",
    "await loop.subprocess_shell(make, command)",
    "subprocess.run(['sh', '-c', command])",
    "subprocess.run(('/bin/bash', '-ec', f'ls {folder}'))",
    "subprocess.run(['busybox', 'sh', '-c', 'ls ' + folder])",
    "subprocess.run(['env', 'sh', '-c', *rest])",
    "container.exec_run(f\"sh -c 'ls {folder}'\")",
    "container.exec_run('sh -c ' + command)",
    "container.exec_run('sh -c %s' % command)",
    "container.exec_run('/bin/sh -c {}'.format(command))",
    "container.exec_run(' '.join(['sh', '-c', command]))",
]
HARMLESS = [
    "subprocess.run(['git', '-C', folder, 'status'], shell=False)",
    "subprocess.run(['sh', '-c', 'exec sleep 1'])",
    "platform.system()",
    "wish = f'publish {count} -c'",
    "raise Error(f'{name}: use a shell')",
]


@pytest.mark.parametrize("source", PLANTED)
def test_what_is_planted_is_found(source: str) -> None:
    wrapped = f"async def f():\n    {source}\n"
    assert list(texts_for_a_shell(wrapped))


@pytest.mark.parametrize("source", HARMLESS)
def test_what_is_harmless_is_left_alone(source: str) -> None:
    assert list(texts_for_a_shell(source)) == []


def test_no_shell_gets_a_text_from_elsewhere() -> None:
    found = {
        (str(path.relative_to(ROOT)), code): line
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        for line, code in texts_for_a_shell(path.read_text())
    }
    assert found.keys() == ALLOWED.keys(), found


def test_a_template_gives_a_shell_what_is_quoted_or_ours() -> None:
    """`json` makes the list that no shell reads, `shell` quotes; the others are constants."""
    ours = {"base", "port", "user"}
    folder = ROOT / "orchestrator/source/templates"
    placeholders = [
        inner.partition("}}")[0].strip()
        for path in folder.glob("*.Dockerfile.j2")
        for inner in path.read_text().split("{{")[1:]
    ]
    assert len(placeholders) > len(ours)
    for text in placeholders:
        value, _, filtered = map(str.strip, text.rpartition("|"))
        assert (filtered in ("json", "shell") and value) or text in ours, text

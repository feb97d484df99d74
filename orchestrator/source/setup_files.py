"""Owns what `pip install` of a project asks of an index beside its `project.dependencies`. Pure.

setup.py is a program: only what it says in so many words is known, and it is never run here.
"""

import ast
import configparser
from collections.abc import Mapping
from typing import Any, Final

from orchestrator.source.tree import Tree

_KEYS: Final = ("install_requires", "setup_requires")


class UnknownError(Exception):
    """What is asked for cannot be known; the text says by which file."""


def requirements(tree: Tree, project: Mapping[str, Any]) -> list[str]:
    """Of setup.cfg, setup.py and the build, each as it is written. Raises UnknownError."""
    found = [str(each) for each in project.get("build-system", {}).get("requires", ())]
    lists = False
    for name, read in (("setup.cfg", _of_setup_cfg), ("setup.py", _of_setup_py)):
        if name in tree.links:
            raise UnknownError(name)
        if name in tree.files:
            found += read(tree.text(name))
            lists = True
    if "dependencies" in project.get("project", {}).get("dynamic", ()) and not lists:
        raise UnknownError("pyproject.toml (dynamic)")
    if project.get("tool", {}).get("setuptools", {}).get("dynamic", {}).get("dependencies"):
        raise UnknownError("pyproject.toml (tool.setuptools.dynamic)")
    return found


def _of_setup_cfg(text: str) -> list[str]:
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(text)
    except configparser.Error:
        raise UnknownError("setup.cfg") from None
    found: list[str] = []
    for key in _KEYS:
        listed = parser.get("options", key, fallback="")
        if listed.lstrip().startswith(("file:", "attr:")):
            raise UnknownError("setup.cfg")
        # Lines, or one line with semicolons between: what follows one may be a marker, too.
        found += listed.splitlines() if "\n" in listed.strip() else listed.split(";")
    return found


def _of_setup_py(text: str) -> list[str]:
    try:
        module = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        raise UnknownError("setup.py") from None
    found: list[str] = []
    for node in ast.walk(module):
        if isinstance(node, ast.keyword) and node.arg is None:
            raise UnknownError("setup.py")  # setup(**whatever)
        if isinstance(node, ast.keyword) and node.arg in _KEYS:
            try:
                listed = ast.literal_eval(node.value)
            except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
                raise UnknownError("setup.py") from None
            found += listed.splitlines() if isinstance(listed, str) else map(str, listed)
    return found

"""Owns whether a worker's conversation runs compiled: which modules mypyc makes extensions of,
where those are, and which of the two is imported.

Beside this file are, where they were built, a library with all of `MODULES` and a shim for each.
Python's own import does not find them there: without `use`, the sources run. All are taken or none,
for compiled code holds the types of its own kind, and would crash on a mixture.
"""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from importlib.util import source_hash, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Final

from edge import extension

PURE: Final = "FAIRLEAD_PURE"
"""The variable of the environment that asks for the sources, unless it is empty, 0 or false."""

MODULES: Final = (
    "edge.net.read_gate",
    "edge.proxy.access_entry",
    "edge.proxy.client",
    "edge.proxy.exchange",
    "edge.proxy.failure",
    "edge.proxy.local_replies",
    "edge.proxy.response_relay",
    "edge.proxy.retry",
    "edge.proxy.route_state",
    "edge.proxy.state",
    "edge.proxy.timeouts",
    "edge.proxy.upstream_head",
    "edge.routing.table",
    "edge.telemetry.metrics",
    "edge.upstream.connection",
    "edge.upstream.pool",
    "edge.upstream.target",
    "edge.wire.framing",
    "edge.wire.request_body",
)
"""What is compiled: what a request passes through, but for its heads (`edge.wire.codec`)."""

CONSTANTS: Final = (
    "edge.proxy.deadlines",
    "edge.proxy.pause",
    "edge.wire.response_reader",
)
"""Where `MODULES` have constants from, whose values are compiled in."""

_ROOT: Final = Path(__file__).parents[2]


class Choice:
    """Which one runs, and why it is not the compiled one; `failure` if that is there and broken."""

    __slots__ = ("failure", "name", "why")

    def __init__(self, name: str, why: str = "", failure: str = "") -> None:
        self.name = name
        self.why = why
        self.failure = failure

    def __str__(self) -> str:
        return f"{self.name} ({self.why})" if self.why else self.name


_chosen = Choice("pure", "compiled for workers only")


def chosen() -> Choice:
    """Which one runs here."""
    return _chosen


def is_pure_wanted() -> bool:
    """Whether the environment asks for the sources."""
    return os.environ.get(PURE, "").lower() not in ("", "0", "false")


def library_name() -> str:
    """The group of modules, as mypyc calls it, that is made of the sources as they are now.

    By its name, what was compiled from other ones is not used for them.
    """
    sources = b"".join(source_of(name).read_bytes() for name in (*MODULES, *CONSTANTS))
    return f"{__name__}.conversation_{source_hash(sources).hex()}"


def library_file() -> Path:
    """Where the library of these sources is, or would be."""
    return _file_of(_library())


def source_of(module: str) -> Path:
    """The file of a module of the edge."""
    return _ROOT.joinpath(*module.split(".")).with_suffix(".py")


def shim_name(module: str) -> str:
    """The extension that is a module, compiled, as its file is named."""
    return f"{__name__}.{module.rpartition('.')[2]}"


def found() -> Choice:
    """Which one a worker runs, as far as that can be seen without importing it."""
    if is_pure_wanted():
        return Choice("pure", f"{PURE} is set")
    if not library_file().is_file():
        others = any(Path(__path__[0]).glob("conversation_*"))
        return Choice("pure", "not compiled from these sources" if others else "not compiled")
    try:
        extension.load(_library())
        for name in MODULES:
            extension.check(_file_of(shim_name(name)))
    except Exception as error:
        return _broken(error)
    return Choice("compiled")


def use() -> Choice:
    """Have the compiled modules imported, if they are there and load; which ones run from now on.

    It is too late where one of them was imported before.
    """
    global _chosen
    if _chosen.name == "pure":
        _chosen = found()
        if _chosen.name == "compiled":
            _chosen = _import()
    return _chosen


def _import() -> Choice:
    if not sys.modules.keys().isdisjoint(MODULES):
        return Choice("pure", "imported before")
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        for name in MODULES:
            import_module(name)
    except Exception as error:
        sys.meta_path.remove(finder)
        for name in finder.found:
            _forget(name)
        return _broken(error)
    return Choice("compiled")


def _broken(error: Exception) -> Choice:
    # A damaged file can raise anything, and none of it may stop us.
    return Choice("pure", "the compiled one does not load", f"{type(error).__name__}: {error}")


class _Finder(MetaPathFinder):
    """Finds the extensions of `MODULES`."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in MODULES:
            return None
        self.found.append(fullname)
        file = _file_of(shim_name(fullname))
        loader = ExtensionFileLoader(fullname, str(file))
        return spec_from_file_location(fullname, file, loader=loader)


def _library() -> str:
    return f"{library_name()}__mypyc"


def _file_of(name: str) -> Path:
    """The extension of that name."""
    return Path(__path__[0], name.rpartition(".")[2] + EXTENSION_SUFFIXES[0])


def _forget(module: str) -> None:
    """As if it had not been imported."""
    sys.modules.pop(module, None)
    package, _, name = module.rpartition(".")
    vars(sys.modules[package]).pop(name, None)

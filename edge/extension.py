"""Owns how a compiled module is loaded that may be missing, damaged or another Python's."""

import os
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from struct import Struct
from types import ModuleType
from typing import Final

_IDENTITY: Final = b"\x7fELF\x02\x01"  # 64 bits, the lowest octet first
_HEADER: Final = Struct("<32xQ16xH6x")  # where the table of segments is, and how many it has
_SEGMENT: Final = Struct("<8xQ16xQ16x")  # where it begins in the file, and how long it is there


def load(name: str) -> ModuleType:
    """The module of that name, `package.module`, whose package is imported.

    Raises ModuleNotFoundError with this name where nobody has compiled it; ImportError where what
    there is cannot be loaded; and whatever the module itself raises.
    """
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise _missing(name)
    check(Path(spec.origin))
    return import_module(name)


def check(path: Path) -> None:
    """Raises ImportError if an end of the file is missing, and OSError if there is none."""
    if not _is_whole(path):
        raise ImportError(f"{path}: the file ends too soon")


def _missing(name: str) -> ImportError:
    package, _, module = name.rpartition(".")
    for folder in import_module(package).__path__:
        for path in Path(folder).glob(f"{module}.*.so"):
            return ImportError(f"{path}: it was compiled for another Python")
    return ModuleNotFoundError(f"{name} is not there", name=name)


def _is_whole(path: Path) -> bool:
    """Whether all segments of an ELF file are there; what is none, the system's loader refuses.

    That loader does not ask. It maps what is missing too, and the first to touch it is ended by
    SIGBUS, which no `except` sees.
    """
    with path.open("rb") as file:
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size or not header.startswith(_IDENTITY):
            return True
        start, count = _HEADER.unpack(header)
        file.seek(start)
        table = file.read(count * _SEGMENT.size)
        size = os.fstat(file.fileno()).st_size
    return len(table) == count * _SEGMENT.size and all(
        offset + length <= size for offset, length in _SEGMENT.iter_unpack(table)
    )

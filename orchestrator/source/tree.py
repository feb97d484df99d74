"""Owns what detection may see of a repository: its names, and the small files that decide.

Links are listed apart and never followed: what is read is in the repository.
"""

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

# Files that are listed at most, and how many folders deep: enough to find where a program starts.
MAX_FILES: Final = 20_000
MAX_DEPTH: Final = 3
# What is read: bytes of one file, and files in all.
MAX_FILE_BYTES: Final = 256 * 1024
MAX_READ_FILES: Final = 500
# Folders in which nothing is the repository's own.
SKIPPED_FOLDERS: Final = frozenset(
    {".git", "node_modules", "vendor", "venv", ".venv", "__pycache__"}
)
# What is read beside sources.
MANIFESTS: Final = frozenset({"Procfile", "go.mod", "package.json", "pyproject.toml"})
REQUIREMENTS_PREFIX: Final = "requirements"
SOURCE_SUFFIXES: Final = (".go", ".py")


@dataclass(frozen=True, slots=True)
class Tree:
    """Paths are relative, with slashes; `contents` has those that were read."""

    files: frozenset[str]
    contents: Mapping[str, str] = field(default_factory=dict)
    links: frozenset[str] = frozenset()

    def has_folder(self, name: str) -> bool:
        """Whether something is in it."""
        return any(path.startswith(f"{name}/") for path in self.files)


def read_tree(folder: Path) -> Tree:
    """What is in a folder; blocking."""
    files: set[str] = set()
    links: set[str] = set()
    contents: dict[str, str] = {}
    for path, entry in _walk(folder, "", MAX_DEPTH):
        if entry.is_symlink():
            links.add(path)
            continue
        files.add(path)
        if _is_read(entry.name) and len(contents) < MAX_READ_FILES:
            text = _text(entry.path)
            if text is not None:
                contents[path] = text
        if len(files) == MAX_FILES:
            break
    return Tree(frozenset(files), contents, frozenset(links))


def _is_read(name: str) -> bool:
    return (
        name in MANIFESTS or name.endswith(SOURCE_SUFFIXES) or name.startswith(REQUIREMENTS_PREFIX)
    )


def _walk(folder: Path, prefix: str, depth: int) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    # Files first, so that the top of a huge repository is seen whole.
    folders = []
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if not entry.is_dir(follow_symlinks=False):
            yield prefix + entry.name, entry
        elif entry.name not in SKIPPED_FOLDERS and depth > 0:
            folders.append(entry)
    for entry in folders:
        yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", depth - 1)


def _text(path: str) -> str | None:
    """None for what is no small file of text."""
    # Nothing can take the file's place by a link or a pipe between the look and the reading.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FILE_BYTES:
            return None
        try:
            return file.read(MAX_FILE_BYTES).decode("utf-8-sig")
        except UnicodeDecodeError:
            return None

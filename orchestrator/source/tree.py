"""Owns what detection may see of a repository: its names, and the small files that decide.

Links are listed apart and never followed: what is read is in the repository.
"""

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from edge.errors import MAX_QUOTED, quote
from orchestrator.errors import StepError

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
LOCKS: Final = frozenset(
    {
        *("Pipfile.lock", "pdm.lock", "poetry.lock", "uv.lock"),
        *("bun.lock", "pnpm-lock.yaml", "yarn.lock"),
    }
)
# Bytes of a lock: those of large applications take some megabytes.
MAX_LOCK_BYTES: Final = 8 * 2**20
MANIFESTS: Final = frozenset(
    {"Dockerfile", "Procfile", "go.mod", "package.json", "pyproject.toml", "setup.cfg"}
)
REQUIREMENTS_PREFIX: Final = "requirements"
SOURCE_SUFFIXES: Final = (".go", ".py")

# What git LFS leaves in the place of a file.
LFS_POINTER: Final = "version https://git-lfs.github.com/spec/"

OnRead = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Tree:
    """Paths are relative, with slashes; `contents` has those that were read."""

    files: frozenset[str]
    contents: Mapping[str, str] = field(default_factory=dict)
    links: frozenset[str] = frozenset()

    def has_folder(self, name: str) -> bool:
        """Whether something is in it."""
        return any(path.startswith(f"{name}/") for path in self.files)

    def text(self, name: str) -> str:
        """What is in a file that there is. Raises StepError where that cannot be known."""
        found = self.contents.get(name)
        if found is None:
            raise StepError(
                "bad_file",
                f"cannot read {shown(name)}: it is no regular file, or not UTF-8 text, or larger"
                f" than {_max_bytes(name) // 1024} KiB",
            )
        if found.startswith(LFS_POINTER):
            raise StepError(
                "bad_file",
                f"{shown(name)} is a pointer of git LFS, which is not fetched: commit the file",
            )
        return found


class _Announced(Mapping[str, str]):
    """Contents, each of which is announced before anybody looks at it."""

    def __init__(self, contents: Mapping[str, str], on_read: OnRead) -> None:
        self._contents = contents
        self._on_read = on_read

    def __getitem__(self, path: str) -> str:
        text = self._contents[path]
        self._on_read(path)
        return text

    def __iter__(self) -> Iterator[str]:
        return iter(self._contents)

    def __len__(self) -> int:
        return len(self._contents)


def shown(path: str) -> str:
    """A path as an error or a log may show it: with nothing that a terminal obeys, and bounded."""
    return path if path.isprintable() and len(path) <= MAX_QUOTED else quote(path)


def read_tree(folder: Path, on_read: OnRead) -> Tree:
    """What is in a folder; blocking. `on_read` is told of each folder and file before it is looked
    at, and of what is in a file again whenever it is looked at, so that whoever fails knows where.

    Names that are no UTF-8 decide nothing, and are left out.
    """
    files: set[str] = set()
    links: set[str] = set()
    contents: dict[str, str] = {}
    for path, entry in _walk(folder, "", MAX_DEPTH, on_read):
        if entry.is_symlink():
            links.add(path)
            continue
        files.add(path)
        if path in MANIFESTS | LOCKS or (_is_read(entry.name) and len(contents) < MAX_READ_FILES):
            on_read(path)
            text = _text(entry.path, _max_bytes(path))
            if text is not None:
                contents[path] = text
        if len(files) == MAX_FILES:
            break
    return Tree(frozenset(files), _Announced(contents, on_read), frozenset(links))


def _is_read(name: str) -> bool:
    return (
        name in MANIFESTS or name.endswith(SOURCE_SUFFIXES) or name.startswith(REQUIREMENTS_PREFIX)
    )


def _walk(
    folder: Path, prefix: str, depth: int, on_read: OnRead
) -> Iterator[tuple[str, "os.DirEntry[str]"]]:
    # Files first, so that the top of a huge repository is seen whole.
    on_read(prefix)
    folders = []
    with os.scandir(folder) as entries:
        found = sorted(filter(_has_text_name, entries), key=lambda entry: entry.name)
    for entry in found:
        if not entry.is_dir(follow_symlinks=False):
            yield prefix + entry.name, entry
        elif entry.name not in SKIPPED_FOLDERS and depth > 0:
            folders.append(entry)
    for entry in folders:
        yield from _walk(Path(entry.path), f"{prefix}{entry.name}/", depth - 1, on_read)


def _has_text_name(entry: "os.DirEntry[str]") -> bool:
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _max_bytes(path: str) -> int:
    return MAX_LOCK_BYTES if path in LOCKS else MAX_FILE_BYTES


def _text(path: str, max_bytes: int) -> str | None:
    """None for what is no small file of text."""
    # Nothing can take the file's place by a link or a pipe between the look and the reading.
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > max_bytes:
            return None
        try:
            return file.read(max_bytes).decode("utf-8-sig")
        except UnicodeDecodeError:
            return None

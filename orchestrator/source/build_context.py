"""Owns what of a repository is sent to the engine that builds it: a tar, made piece by piece.

Links stay links, and one that leads out of the repository stops the build: what it points to is
not the repository's. `.git` never goes along.
"""

import os
import posixpath
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from edge.errors import quote
from orchestrator.errors import StepError
from orchestrator.source.dockerignore import Dockerignore, Place
from orchestrator.source.tree import OnRead, shown

# Of a file that is read at once.
CHUNK_BYTES: Final = 256 * 1024
MAX_DOCKERIGNORE_BYTES: Final = 1024 * 1024
GENERATED_DOCKERFILE: Final = ".fairlead.Dockerfile"
# What is left out for a Dockerfile of ours where the repository does not say itself: secrets of
# whoever works on it, and what the build makes anew.
DEFAULT_IGNORES: Final = (
    "**/.env",
    "**/.env.*",
    "**/node_modules",
    "**/__pycache__",
    ".venv",
    "venv",
)

_ZEROS: Final = b"\0" * tarfile.BLOCKSIZE


def dockerfile_name(folder: Path, *, generated: bool) -> str:
    """What the Dockerfile is called in the context; a generated one takes no file's name."""
    if not generated:
        return "Dockerfile"
    name = GENERATED_DOCKERFILE
    while os.path.lexists(folder / name):
        name += "_"
    return name


def tar_stream(
    folder: Path,
    *,
    dockerfile: str | None,
    max_bytes: int,
    on_warning: Callable[[str], None],
    on_read: OnRead,
) -> Iterator[bytes]:
    """The tar of a build's context, with the text `dockerfile` in it if there is one; blocking.

    `on_warning` is told what is left out and is worth a line in the log, `on_read` what is looked
    at: the patterns, which are all the work but for copying. Raises StepError when it comes to
    something that must not be sent.
    """
    name = dockerfile_name(folder, generated=dockerfile is not None)
    if dockerfile is None and (folder / name).is_symlink():
        raise StepError(
            "unsafe_dockerfile", "the Dockerfile is a symbolic link: replace it with a file"
        )
    on_read(".dockerignore")
    lines = _dockerignore(folder)
    if lines is None:
        lines = []
        if dockerfile is not None:
            lines = list(DEFAULT_IGNORES)
            if (folder / ".env").is_file():
                on_warning("excluded .env: add a .dockerignore to decide what goes into the image")
    if dockerfile is None:
        lines.append(f"!{name}")
    ignored = Dockerignore(lines)
    left = max_bytes
    root = folder.resolve()
    for piece in _members(root, name, dockerfile, ignored, on_warning):
        left -= len(piece)
        if left < 0:
            raise StepError(
                "context_too_large",
                f"the build context is larger than {max_bytes} bytes: exclude what the build does"
                " not need with a .dockerignore",
            )
        yield piece


def _members(
    root: Path,
    name: str,
    dockerfile: str | None,
    ignored: Dockerignore,
    on_warning: Callable[[str], None],
) -> Iterator[bytes]:
    for path in _included(root, ignored):
        full = root / path
        status = full.lstat()
        entry = tarfile.TarInfo(path)
        entry.mtime = int(status.st_mtime)
        if stat.S_ISLNK(status.st_mode):
            entry.type = tarfile.SYMTYPE
            entry.linkname = _checked_link(root, path)
            yield _head(entry)
        elif stat.S_ISDIR(status.st_mode):
            entry.type = tarfile.DIRTYPE
            entry.mode = 0o755
            yield _head(entry)
        elif stat.S_ISREG(status.st_mode):
            entry.mode = 0o755 if status.st_mode & 0o100 else 0o644
            entry.size = status.st_size
            yield _head(entry)
            yield from _content(full, path, entry.size)
        else:
            on_warning(f"excluded {shown(path)}: not a file, directory or symbolic link")
    if dockerfile is not None:
        content = dockerfile.encode()
        entry = tarfile.TarInfo(name)
        entry.size = len(content)
        yield _head(entry)
        yield content + _padding(entry.size)
    yield _ZEROS * 2


def _included(root: Path, ignored: Dockerignore) -> Iterator[str]:
    """All paths that no pattern leaves out, a folder before what is in it."""
    todo: list[tuple[str, Place, bool]] = []

    def enter(folder: str, place: Place) -> None:
        with os.scandir(root / folder) as entries:
            found = sorted(
                ((each.name, each.is_dir(follow_symlinks=False)) for each in entries), reverse=True
            )
        for name, is_folder in found:
            if folder or name != ".git":  # whatever an exception brings back
                path = f"{folder}/{name}" if folder else name
                todo.append((path, ignored.place(place, name), is_folder))

    enter("", ignored.top)
    while todo:
        path, place, is_folder = todo.pop()
        if not place.is_excluded:
            yield path
        if is_folder and (place.may_include or not place.is_excluded):
            enter(path, place)


def _head(entry: tarfile.TarInfo) -> bytes:
    # GNU's format takes a name as the bytes that it is on disk, whatever they mean.
    return entry.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")


def _padding(size: int) -> bytes:
    return _ZEROS[: -size % tarfile.BLOCKSIZE]


def _content(full: Path, path: str, size: int) -> Iterator[bytes]:
    with os.fdopen(os.open(full, os.O_RDONLY | os.O_NOFOLLOW), "rb", buffering=0) as file:
        left = size
        while left:
            piece = file.read(min(left, CHUNK_BYTES))
            if not piece:
                raise StepError("context_changed", f"{shown(path)} was truncated while it was read")
            left -= len(piece)
            yield piece
    yield _padding(size)


def _checked_link(root: Path, path: str) -> str:
    """Where the link leads, if that is in the tree, both by its text and through other links."""
    target = str((root / path).readlink())
    by_text = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    real = Path(os.path.realpath(root / path))
    if (
        posixpath.isabs(target)
        or by_text.split("/")[0] == ".."
        or not (real == root or root in real.parents)
    ):
        raise StepError(
            "context_escape",
            f"symbolic link {shown(path)} points outside the repository, to {quote(target)}: remove"
            " it, or exclude it with a .dockerignore",
        )
    return target


def _dockerignore(folder: Path) -> list[str] | None:
    """The patterns of .dockerignore; None where there is none."""
    path = folder / ".dockerignore"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError:
        raise StepError(
            "context_escape", ".dockerignore is a symbolic link: replace it with a file"
        ) from None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise StepError("context_escape", ".dockerignore is not a regular file")
        data = file.read(MAX_DOCKERIGNORE_BYTES + 1)
    if len(data) > MAX_DOCKERIGNORE_BYTES:
        raise StepError("context_too_large", ".dockerignore is larger than 1 MiB")
    text = data.decode("utf-8-sig", "surrogateescape")
    lines = (line.strip() for line in text.split("\n") if not line.startswith("#"))
    return [line for line in lines if line]

"""Owns how one commit of a repository gets into a folder: running git, within limits of time and
bytes, and what its failures mean.
"""

import asyncio
import codecs
import os
import re
import resource
import shutil
import signal
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from orchestrator.errors import StepError
from orchestrator.security.redact import RedactedStream, Redactor
from orchestrator.source.git_commands import (
    NO_FILE,
    Source,
    checkout_command,
    credentials_environment,
    environment,
    fetch_command,
    has_command,
    head_command,
    init_command,
    list_command,
    status_command,
    submodule_commands,
)

# A server may refuse to hand out a commit by its id (uploadpack.allowReachableSHA1InWant). Then it
# is looked for in the branch: at its tip, near it, and in all of its history.
FETCH_DEPTHS: Final = (1, 50, 2147483647)
# Seconds between two looks at how much there is, at least; a look takes no more than a fifth of
# the time.
SIZE_CHECK_INTERVAL: Final = 0.2
# Bytes that a file counts beside its content: a tree of a million empty files is not small.
ENTRY_BYTES: Final = 1024
# Lines of git's output, and characters of each, that an error shows.
TAIL_LINES: Final = 20
LINE_LENGTH: Final = 2000
# Bytes of memory of each process of git, and of its threads together: a pack of 5 MB can hold files
# of half a gigabyte each as changes of each other, of which every thread makes two at a time.
MEMORY: Final = 2**30
# Seconds that counting the changes of a working tree may take; it is only for a warning.
STATUS_TIMEOUT: Final = 10.0

_is_commit: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}").fullmatch

OnLine = Callable[[str], None]


class Git:
    """`timeout` is in seconds and for all that one clone does; `max_bytes` is what it may leave
    on the disk, its history included. What git says is shown as the `redactor` leaves it."""

    def __init__(
        self, *, timeout: float, max_bytes: int, submodules: bool, redactor: Redactor
    ) -> None:
        self._timeout = timeout
        self._max_bytes = max_bytes
        self._submodules = submodules
        self._redactor = redactor

    async def clone(self, source: Source, folder: Path, on_line: OnLine) -> str:
        """Put a commit into `folder`, which must be empty or missing, and return the commit's id.

        Raises StepError. However it ends, no process of git is left.
        """
        if source.commit and not _is_commit(source.commit):
            raise StepError("commit_missing", f"{source.commit!r} is not a commit id")
        try:
            async with asyncio.timeout(self._timeout):
                return await self._clone(source, folder, on_line)
        except TimeoutError:
            raise StepError(
                "clone_timeout",
                f"cloning {source.url} timed out after {self._timeout:g} s: the repository is too"
                " large or its server too slow; FAIRLEAD_GIT_TIMEOUT sets the limit",
            ) from None

    async def _clone(self, source: Source, folder: Path, on_line: OnLine) -> str:
        home = folder / ".git" / "fairlead"  # what is in .git never gets into an image
        configuration = _write_config(home, source)
        settings = environment(os.environ, source, home, configuration)
        run = _Runner(settings, folder, self._max_bytes, on_line, self._redactor)
        # What does not speak with the server does not know the credentials.
        fetch = _Runner(
            {**settings, **credentials_environment(source)},
            *(folder, self._max_bytes, on_line, self._redactor),
        )
        try:
            await run(init_command(folder))
            await self._fetch(run, fetch, source, folder)
            if self._submodules:
                for command in submodule_commands(folder, source.url):
                    await fetch(command)
            commit = (await run(head_command(folder), on_line)).strip()
        except _CommandError as error:
            raise _step_error(error, source) from None
        if source.commit and commit != source.commit:
            raise StepError(
                "commit_missing",
                f"{source.url} returned commit {commit} instead of {source.commit}",
            )
        return commit

    async def _fetch(self, run: "_Runner", fetch: "_Runner", source: Source, folder: Path) -> None:
        if source.branch:
            try:
                await run(["git", "check-ref-format", source.reference])
            except _CommandError:
                raise StepError(
                    "branch_missing", f"{source.branch!r} is not a valid branch name"
                ) from None
        try:
            what = source.commit or source.reference
            await fetch(fetch_command(folder, source.url, what, 1))
        except _CommandError as error:
            if not source.commit or not error.mentions("unadvertised object", "not valid"):
                raise
        else:
            await self._checkout(run, folder, "FETCH_HEAD")
            return
        for depth in FETCH_DEPTHS:
            await fetch(fetch_command(folder, source.url, source.reference, depth))
            try:
                await run(has_command(folder, source.commit))
            except _CommandError:
                continue
            await self._checkout(run, folder, source.commit)
            return
        raise _missing_commit(source)

    async def _checkout(self, run: "_Runner", folder: Path, what: str) -> None:
        # A few kilobytes of trees can stand for billions of files. Git would first list them all in
        # memory, so they are counted before.
        left = self._max_bytes

        def count(line: str) -> None:
            nonlocal left
            _, _, _, size, *_ = line.split(maxsplit=4)
            left -= ENTRY_BYTES + (int(size) if size.isdecimal() else 0)
            if left < 0:
                raise _too_large(self._max_bytes)

        await run(list_command(folder, what), count)
        await run(checkout_command(folder, what))

    async def dirty_files(self, url: str) -> int:
        """How many files of the repository at a file:// URL differ from its last commit.

        0 where that cannot be told: a bare repository, or another user's, whose settings could
        make git run a program.
        """
        source = Source(url)  # without being allowed: nothing is fetched here
        settings = environment(os.environ, source, NO_FILE)
        lines = 0

        def count(_: str) -> None:
            nonlocal lines
            lines += 1

        try:
            async with asyncio.timeout(STATUS_TIMEOUT):
                run = _Runner(settings, None, 0, count, self._redactor)
                await run(status_command(source.path))
        except (_CommandError, StepError, TimeoutError):
            return 0
        return lines


class _CommandError(Exception):
    """Git said no; `tail` is the end of what it said."""

    def __init__(self, tail: str) -> None:
        super().__init__(tail)
        self.tail = tail

    def mentions(self, *texts: str) -> bool:
        return any(text in self.tail for text in texts)


class _Runner:
    """Runs commands, one at a time, and looks meanwhile how much there is in `folder`, if one is
    given."""

    def __init__(
        self,
        settings: Mapping[str, str],
        folder: Path | None,
        max_bytes: int,
        on_line: OnLine,
        redactor: Redactor,
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._max_bytes = max_bytes
        self._on_line = on_line
        self._redactor = redactor

    async def __call__(self, command: list[str], on_line: OnLine | None = None) -> str:
        """The end of its output. Raises _CommandError, StepError, or what `on_line` raises.

        With an `on_line` of its own, the output is one that a program reads: it is left as it is.
        """
        if self._path_of("git") is None:
            raise StepError(
                "git_missing", "git is not installed, or not on the PATH of the orchestrator"
            )
        limited = () if self._path_of("prlimit") is None else ("prlimit", f"--data={_memory()}")
        process = await asyncio.create_subprocess_exec(
            *(*limited, *command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=self._settings,
            start_new_session=True,  # so that what git starts can be ended with it
        )
        shown = self._redactor if on_line is None else Redactor()
        reading = asyncio.create_task(self._read(process, shown.stream(), on_line or self._on_line))
        watching = asyncio.create_task(self._watch())
        try:
            await asyncio.wait((reading, watching), return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                watching.result()
            tail = await reading
        finally:
            if not reading.done() or reading.exception() is not None:
                _kill_group(process.pid)
            reading.cancel()
            watching.cancel()
            await asyncio.gather(reading, watching, return_exceptions=True)
            await process.wait()
        await self._check_size()
        if process.returncode:
            raise _CommandError(tail)
        return tail

    def _path_of(self, program: str) -> str | None:
        return shutil.which(program, path=self._settings.get("PATH"))

    async def _read(
        self, process: asyncio.subprocess.Process, redacted: RedactedStream, on_line: OnLine
    ) -> str:
        assert process.stdout is not None  # noqa: S101  narrows a type
        tail: deque[str] = deque(maxlen=TAIL_LINES)
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        rest = ""
        at_end = False
        while not at_end:
            data = await process.stdout.read(65536)
            at_end = not data
            # Before any line is cut: a secret that was cut is not found any more.
            text = redacted.feed(decode(data, at_end))
            if at_end:
                text += redacted.flush()
            # Progress is written over itself by carriage returns.
            *lines, rest = re.split(r"[\r\n]", rest + text)
            rest = rest[:LINE_LENGTH]
            for line in filter(None, [*lines, rest] if at_end else lines):
                tail.append(line[:LINE_LENGTH])
                on_line(tail[-1])
        return "\n".join(tail)

    async def _watch(self) -> None:
        """Ends only by an error, or when it is cancelled."""
        clock = asyncio.get_running_loop().time
        pause = SIZE_CHECK_INTERVAL
        while True:
            await asyncio.sleep(pause)
            began = clock()
            await self._check_size()
            pause = max(SIZE_CHECK_INTERVAL, 4 * (clock() - began))

    async def _check_size(self) -> None:
        if self._folder is None:
            return
        if await asyncio.to_thread(is_larger, self._folder, self._max_bytes):
            raise _too_large(self._max_bytes)


def is_larger(folder: Path, max_bytes: int) -> bool:
    """Whether what is in `folder` takes more. What vanishes meanwhile counts nothing."""
    left = max_bytes
    folders = [str(folder)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
                    try:
                        left -= ENTRY_BYTES + entry.stat(follow_symlinks=False).st_size
                    except FileNotFoundError:
                        continue
                    if left < 0:
                        return True
        except FileNotFoundError:
            continue
    return False


def _memory() -> int:
    """No more than this process itself may give."""
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    return MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard)


def _kill_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        pass  # all of it has just ended


def _write_config(home: Path, source: Source) -> Path:
    """Git's one file of settings; `home` is made for it."""
    home.mkdir(parents=True)
    if not source.is_file:
        return NO_FILE
    # It may belong to another user than ours; the caller was allowed to name it.
    repository = source.path
    trusted = (repository, repository / ".git")
    configuration = home / "config"
    configuration.write_text(
        "[safe]\n" + "".join(f'\tdirectory = "{_quoted(path)}"\n' for path in trusted)
    )
    return configuration


def _quoted(path: Path) -> str:
    """In the syntax of git's configuration files."""
    return str(path).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _too_large(max_bytes: int) -> StepError:
    return StepError(
        "clone_too_large",
        f"the repository is larger than the limit of {max_bytes} bytes, FAIRLEAD_GIT_MAX_BYTES",
    )


def _missing_commit(source: Source) -> StepError:
    return StepError(
        "commit_missing",
        f"commit {source.commit} not found in {source.url}: it may have been overwritten by a"
        " force push; push again, or deploy the branch",
    )


def _step_error(error: _CommandError, source: Source) -> StepError:
    """What git said, and what can be done about it."""
    if error.mentions("not our ref", "not valid"):
        return _missing_commit(source)
    if error.mentions("couldn't find remote ref"):
        name = f"branch {source.branch!r}" if source.branch else "default branch"
        return StepError("branch_missing", f"{name} not found in {source.url}")
    hint = next((hint for text, hint in _HINTS.items() if text in error.tail), "")
    return StepError("clone_failed", f"git fetch of {source.url} failed{hint}:\n{error.tail}")


_HINTS: Final = {
    "Authentication failed": ": the credentials in the clone URL are wrong or have expired",
    "could not read Username": ": it is private or does not exist; put credentials in the clone"
    " URL (https://user:token@host/...), or use ssh",
    "Permission denied (publickey)": ": the server accepts no ssh key of this user; add a deploy"
    " key",
    "Host key verification failed": ": unknown ssh host key; connect once as this user, or add"
    " the host to known_hosts",
    "not allowed": ": only https://, ssh:// and git@host:path are allowed",
    "SSL certificate problem": ": its certificate is not trusted; set SSL_CERT_FILE to a file with"
    " its CA",
    "certificate verification failed": ": its certificate is not trusted; set SSL_CERT_FILE to a"
    " file with its CA",
    "Could not resolve host": ": host not found",
    "No space left on device": ": the disk is full",
    **dict.fromkeys(
        ("Out of memory", "out of memory", "unable to malloc"),
        f": git would need more than {MEMORY // 2**20} MiB of memory for its largest files",
    ),
}

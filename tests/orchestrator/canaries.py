"""Owns secrets that a test plants, and the search for them in whatever a program has written."""

import base64
import contextlib
import json
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

LOOK_SECONDS = 0.01
# Of each process, at least: it begins as a copy of the one that has started it.
LOOKS = 3


class Canary(str):
    """A secret with characters that each encoding writes in its own way. No two are alike."""

    __slots__ = ()

    @classmethod
    def make(cls) -> "Canary":
        """A new one."""
        return cls(f"/c4n+{secrets.token_hex(8)}=")

    @property
    def quoted(self) -> str:
        """As in the user information of a URL."""
        return quote(self, safe="")

    def spellings(self) -> dict[str, str]:
        """What a program makes of it, by the name of the encoding."""
        raw = self.encode()
        return {
            "plain": str(self),
            "base64": base64.b64encode(raw).decode(),
            "Basic": base64.b64encode(b"deployer:" + raw).decode(),
            "URL": self.quoted,
            "URL, lower case": self.quoted.lower(),
            "JSON": json.dumps(self).replace("/", "\\/")[1:-1],
            "JSON of .NET": self.replace("+", "\\u002B"),
            "hexadecimal": raw.hex(),
        }

    def traces(self) -> list[bytes]:
        """What shows that it was there, in any spelling, also where its beginning or end is cut."""
        # What every encoding of texts leaves as it is, and that part in base64, without the
        # characters that what stands before and after it decides too.
        core = self[5:-1].encode()
        inside = [base64.b64encode(b"x" * before + core)[4:-4] for before in range(3)]
        return [core, *inside, *(each.encode() for each in self.spellings().values())]


class Canaries:
    """All that are planted; `[way]` makes the one of a way in, or gives it again."""

    def __init__(self) -> None:
        self.planted: dict[str, Canary] = {}
        self._traces: list[tuple[str, list[bytes]]] = []

    def __getitem__(self, way: str) -> Canary:
        if way not in self.planted:
            self.plant(way, Canary.make())
        return self.planted[way]

    def plant(self, way: str, canary: Canary) -> None:
        """One that somebody else has made."""
        self.planted[way] = canary
        self._traces.append((way, canary.traces()))

    def found_in(self, data: bytes) -> set[str]:
        """The ways of those that are in it."""
        return {way for way, traces in list(self._traces) if any(map(data.__contains__, traces))}


def script_that_says(canaries: list[Canary]) -> str:
    """A shell script that prints each in every spelling, and plain in two pieces, and then "said
    all". In itself they are in octal, so that it can be part of an image."""

    def octal(text: str) -> str:
        return "".join(f"\\0{byte:03o}" for byte in text.encode())

    lines = []
    for canary in canaries:
        lines += [f"printf '%b\\n' '{octal(text)}'" for text in canary.spellings().values()]
        half = len(canary) // 2
        lines += [
            f"printf '%b' '{octal(canary[:half])}'",
            "usleep 50000",
            f"printf '%b\\n' '{octal(canary[half:])}'",
        ]
    return "\n".join([*lines, "echo said all", ""])


@contextmanager
def watched(root: int, look: Callable[[str, bytes, bytes], None]) -> Iterator[None]:
    """Until the block ends, `look` gets each process that comes up: its program's name, arguments
    and environment; the last one is empty unless it descends from the process `root`."""
    ended = threading.Event()

    def watches() -> None:
        looks: dict[int, int] = {}
        while not ended.wait(LOOK_SECONDS):
            pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
            looks = {pid: looks.get(pid, 0) + 1 for pid in pids}
            for pid in (pid for pid in pids if looks[pid] <= LOOKS):
                with contextlib.suppress(OSError):  # it has just ended
                    folder = Path(f"/proc/{pid}")
                    is_ours = _descends(pid, root)
                    arguments = (folder / "cmdline").read_bytes()
                    if arguments:  # else it is the kernel's, or has ended
                        look(
                            (folder / "comm").read_text().strip(),
                            arguments,
                            (folder / "environ").read_bytes() if is_ours else b"",
                        )

    thread = threading.Thread(target=watches)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _descends(pid: int, root: int) -> bool:
    while pid > 1 and pid != root:
        stat = Path(f"/proc/{pid}/stat").read_text()
        pid = int(stat.rpartition(")")[2].split()[1])
    return pid == root

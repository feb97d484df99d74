"""Owns the format of the hostile inputs, which README.md describes: text in, a case out."""

import re
from dataclasses import dataclass
from pathlib import Path

KEYS = frozenset(
    ("expect", "why", "ways", "sees", "body", "with", "without", "request", "end", "upstream")
)

WAYS = ("whole", "pieces", "trailing")

_COMMENT = re.compile(r"# ([a-z]+): (.*)")
_ESCAPE = re.compile(
    r"\\(?:repeat\((?P<times>\d+), (?P<what>.+?)\)|x(?P<hex>[0-9a-f]{2})|(?P<simple>[rnt0\\]))"
)
_SIMPLE = {"r": "\r", "n": "\n", "t": "\t", "0": "\0", "\\": "\\"}


@dataclass(frozen=True)
class Case:
    """One file: what is sent, and what is to come of it."""

    name: str
    notes: dict[str, list[str]]
    data: bytes

    @classmethod
    def read(cls, path: Path) -> "Case":
        """Raises ValueError, with the path in it, for a file that is not in the format."""
        try:
            return cls.parse(path.stem, path.read_text("ascii"))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    @classmethod
    def parse(cls, name: str, text: str) -> "Case":
        """Raises ValueError for a text that is not in the format."""
        notes: dict[str, list[str]] = {}
        lines = text.splitlines()
        while lines and (comment := _COMMENT.fullmatch(lines[0])):
            key, value = comment.groups()
            if key not in KEYS:
                raise ValueError(f"unknown note {key!r}")
            notes.setdefault(key, []).append(value)
            del lines[0]
        for key in ("expect", "why"):
            if key not in notes:
                raise ValueError(f"no note {key!r}")
        for line in lines:
            if line != line.rstrip():
                raise ValueError(f"blanks at the end of {line!r} would get lost: write \\x20")
        return cls(name, notes, unescape("".join(lines)))

    @property
    def expected(self) -> list[str]:
        """What is to come, one after the other."""
        return self.note("expect").split(", ")

    @property
    def ways(self) -> list[str]:
        """In which ways the input is sent."""
        return self.note("ways", ", ".join(WAYS)).split(", ")

    def note(self, key: str, default: str = "") -> str:
        """The first note of that key."""
        return self.notes.get(key, [default])[0]


def unescape(text: str) -> bytes:
    r"""The bytes that a text stands for. Raises ValueError for a backslash that begins nothing."""
    parts, position = [], 0
    for escape in _ESCAPE.finditer(text):
        parts += [_plain(text[position : escape.start()]), _escaped(escape)]
        position = escape.end()
    return b"".join([*parts, _plain(text[position:])])


def _plain(text: str) -> bytes:
    if "\\" in text:
        raise ValueError(f"a backslash in {text!r} begins no escape: write two")
    return text.encode("ascii")


def _escaped(escape: re.Match[str]) -> bytes:
    simple, octet, times, what = escape.group("simple", "hex", "times", "what")
    if simple is not None:
        return _SIMPLE[simple].encode("ascii")
    if octet is not None:
        return bytes([int(octet, 16)])
    return unescape(what) * int(times)


def cases(folder: str, more_ways: tuple[str, ...] = ()) -> list[tuple[Case, str]]:
    """Every case of a folder beside this file, in each of its ways and in `more_ways`."""
    paths = sorted((Path(__file__).parent / folder).glob("*.http"))
    return [(case, way) for case in map(Case.read, paths) for way in (*case.ways, *more_ways)]

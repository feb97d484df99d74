"""Owns which paths a `.dockerignore` leaves out, by Docker's rules, in linear time. Pure.

All patterns together are one automaton without back-tracking: a state is a set of positions in
them, held as the bits of one integer, and a character moves all of them at once (the Shift-And
algorithm, G. Navarro and M. Raffinot, "Flexible Pattern Matching in Strings", section 4). So a path
costs its length times the length of the patterns, whatever they say; regular expressions, which
docker-py makes of them, take 5 s for seven stars.

The rules are those of github.com/moby/patternmatcher: `*` and `?` match no slash, `**` any number
of folders, a pattern matches what is in a folder that it matches, and the last one that matches
wins.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from edge.errors import quote
from orchestrator.errors import StepError

# How a pattern's wildcards move. A run of them is at most two: see `_shorten`.
_STAR: Final = "*"  # any characters but slashes
_FOLDERS: Final = "**/"  # nothing, or anything that ends in a slash
_ALL: Final = "**"  # any characters


class _Class(NamedTuple):
    """`[a-z]`, `[^a-z]`; a question mark is one that excludes nothing but the slash."""

    is_negated: bool
    ranges: tuple[tuple[str, str], ...]

    def holds(self, character: str) -> bool:
        if character == "/":
            return False
        return self.is_negated != any(low <= character <= high for low, high in self.ranges)


_ANY: Final = _Class(True, ())

# Wildcards are the strings above; a literal is a backslash and the character.
_Token = str | _Class
_SLASH: Final = "\\/"


@dataclass(frozen=True, slots=True)
class Place:
    """How far the patterns have come at the end of a path; `is_excluded` is the answer for it.

    `may_include` is whether something in it, if it is a folder, may be brought back.
    """

    is_excluded: bool
    may_include: bool
    state: int
    hits: int  # the patterns that match it, or a folder that it is in, by the bit of their end


class Dockerignore:
    """The patterns of one file. `place` is asked from folder to folder, beginning at `top`."""

    def __init__(self, lines: Iterable[str]) -> None:
        """Raises StepError for a pattern that Docker refuses."""
        positions: defaultdict[_Token, list[int]] = defaultdict(list)
        begins: list[int] = []
        ends: list[int] = []
        including: list[int] = []
        size = 0
        for line in lines:
            pattern = line.removeprefix("!").strip()
            if not pattern:
                raise _bad(line)
            tokens = list(_tokens(_clean(pattern)))
            if not tokens:
                continue  # the top itself, which is always there
            begins.append(size)
            for place, token in enumerate((_SLASH, *tokens), size):
                positions[token].append(place)
            ends.append(size + len(tokens) + 1)
            if line.startswith("!"):
                including += range(size, ends[-1] + 1)
            size = ends[-1] + 1
        self._stars = _bits(positions.pop(_STAR, ()))
        self._alls = _bits(positions.pop(_ALL, ()))
        self._folders = _bits(positions.get(_FOLDERS, ()))
        positions[_SLASH] += positions.pop(_FOLDERS, ())
        self._skips = self._stars | self._alls | self._folders
        self._ends = _bits(ends)
        self._including = _bits(including)  # all that the exceptions are
        self._classes = {
            token: _bits(where) for token, where in positions.items() if isinstance(token, _Class)
        }
        # Character -> positions that it takes one further; by classes only once asked for.
        self._literals = {
            token[1]: _bits(where) for token, where in positions.items() if isinstance(token, str)
        }
        self._moves: dict[str, int] = {}
        self.top = Place(False, bool(including), _bits(begins), 0)

    def place(self, parent: Place, name: str) -> Place:
        """That of the path `name` in the folder of `parent`."""
        state = self._after(parent.state, "/")
        for character in name:
            if not state:
                break
            state = self._after(state, character)
        hits = parent.hits | (state & self._ends)
        last = 1 << (hits.bit_length() - 1) if hits else 0
        inside = self._after(state, "/") & self._including
        return Place(bool(last & ~self._including), bool(inside), state, hits)

    def _after(self, state: int, character: str) -> int:
        moves = self._moves.get(character)
        if moves is None:
            moves = self._moves[character] = self._moves_of(character)
        moved = (state & moves) << 1
        moved |= state & (self._alls if character == "/" else self._alls | self._stars)
        # Behind wildcards that match nothing; two may follow each other.
        moved |= (moved & self._skips) << 1
        moved |= (moved & self._skips) << 1
        # What waits for the end of a folder stays, but may not be left out any more.
        return moved | (state & self._folders)

    def _moves_of(self, character: str) -> int:
        moves = self._literals.get(character, 0)
        for one, bits in self._classes.items():
            if one.holds(character):
                moves |= bits
        return moves


def _bits(positions: Sequence[int]) -> int:
    if not positions:
        return 0
    filled = bytearray(max(positions) // 8 + 1)
    for position in positions:
        filled[position // 8] |= 1 << position % 8
    return int.from_bytes(filled, "little")


def _clean(pattern: str) -> str:
    """As Go's filepath.Clean makes it, and relative to the top."""
    parts: list[str] = []
    for part in pattern.split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part == ".." and pattern.startswith("/"):
            continue  # above the root is the root
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _tokens(pattern: str) -> Iterator[_Token]:
    run: list[str] = []
    rest = pattern
    while rest:
        token, rest = _next_token(pattern, rest)
        if isinstance(token, str) and not token.startswith("\\"):
            run.append(token)
            continue
        yield from _shorten(run)
        run.clear()
        yield token
    yield from _shorten(run)


def _next_token(pattern: str, rest: str) -> tuple[_Token, str]:
    """The first token, and what follows it."""
    if rest.startswith("**"):
        after = rest[2:].removeprefix("/")
        return (_FOLDERS if after else _ALL), after
    if rest[0] == "*":
        return _STAR, rest[1:]
    if rest[0] == "?":
        return _ANY, rest[1:]
    if rest[0] == "[":
        return _read_class(pattern, rest)
    if rest[0] == "\\":
        if len(rest) == 1:
            raise _bad(pattern)
        return rest[:2], rest[2:]
    return f"\\{rest[0]}", rest[1:]


def _read_class(pattern: str, rest: str) -> tuple[_Class, str]:
    """`[` or `[^`, characters and ranges, `]`; a first `]`, an outer `-` stand for themselves."""
    is_negated = rest.startswith("[^")
    at = 2 if is_negated else 1
    ranges: list[tuple[str, str]] = []

    def character() -> str:
        nonlocal at
        at += rest[at : at + 1] == "\\"
        if at >= len(rest):
            raise _bad(pattern)
        at += 1
        return rest[at - 1]

    while not (ranges and rest[at : at + 1] == "]"):
        low = high = character()
        if rest[at : at + 1] == "-" and rest[at + 1 : at + 2] != "]":
            at += 1
            high = character()
        ranges.append((low, high))
    return _Class(is_negated, tuple(ranges)), rest[at + 1 :]


def _shorten(run: list[str]) -> list[str]:
    """One or two wildcards that match the same as a whole run of them.

    `**/**/` is `**/`. A star that follows folders, whatever is before, takes any characters up to
    the last slash and after it: all. So what is left is `*`, `**/`, `**`, or `*` with `**/`.
    """
    short: list[str] = []
    for wildcard in run:
        if short and short[-1] in (_ALL, wildcard):
            continue
        if wildcard == _ALL or (short and (short[-1], wildcard) == (_FOLDERS, _STAR)):
            short = [_ALL]
        else:
            short.append(wildcard)
    return short


def _bad(pattern: str) -> StepError:
    return StepError("bad_dockerignore", f".dockerignore: {quote(pattern)} is not a valid pattern")

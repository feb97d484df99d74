"""Owns how the lines of a Dockerfile become instructions, and words with their variables. Pure.

As the engine's own parser does it (github.com/moby/buildkit, frontend/dockerfile: `parser` and
`shell`), since what is read in another way than the engine reads it is not checked at all.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from edge.errors import quote
from orchestrator.errors import StepError

# Of a word: a variable whose value nobody can tell before the engine does. No instruction has it.
UNKNOWN: Final = "\0"

# What engines of different versions, or we, could read differently: control characters (Go and
# Python differ in which of them are spaces), a lone CR, an escaped escape at the end of a line.
_AMBIGUOUS: Final = (
    (re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x85]|\r(?!\n)"), "a control character"),
    # The engine leaves it out where a word begins.
    (re.compile("\ufeff"), "a byte order mark that is not at its beginning"),
    (re.compile(r"(?m)(\\\\|``)[ \t\r]*$"), "a doubled escape character at the end of a line"),
)
_ESCAPE_DIRECTIVE: Final = re.compile(r"\s*#\s*escape\s*=", re.IGNORECASE)
_KNOWN_ESCAPE: Final = re.compile(r"#[ \t]*escape[ \t]*=[ \t]*([\\`])[ \t\r]*", re.IGNORECASE)
# Where a word begins, also behind a variable that is not set.
_HEREDOC: Final = re.compile(r"(?:(?:^|[\s}+-])\d*|\$\w+)<<-?[^<\s]")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]+|[@*#?!$-]")
# In a flag: what the engine reads byte by byte, or escapes with a backslash whatever escapes else.
_NOT_IN_FLAG: Final = re.compile(r"[^\t\v\f\r -~]|[\\`]")
_BLANKS: Final = "\t\v\f\r "
# What an engine may set by itself, whatever ARG says.
_PLATFORM: Final = re.compile(r"(?:TARGET|BUILD)(?:PLATFORM|OS|OSVERSION|ARCH|VARIANT|STAGE)")
_SPACES: Final = re.compile(r"[\t\v\f\r ]+")
_decode_json: Final = json.JSONDecoder().raw_decode


class Instruction(NamedTuple):
    """`name` is in capitals, `flags` are words that begin with `--`, without it."""

    line: int  # the number of its first
    name: str
    flags: tuple[str, ...]
    rest: str

    def words(self) -> list[str]:
        """The arguments between spaces, still with quotes and variables."""
        return [word for word in _SPACES.split(self.rest) if word]

    def sources(self) -> list[str]:
        """All arguments but the last, also those of a JSON list, as they stand in it."""
        found = self.words()[:-1]
        if self.rest.startswith("["):
            try:
                # Some engines do not care what follows it, to others it is no list then.
                listed, _ = _decode_json(self.rest)
            except (ValueError, RecursionError):
                pass  # the engine takes it for words then, too
            else:
                if isinstance(listed, list) and all(isinstance(one, str) for one in listed):
                    found += listed[:-1]
        return found


class Dockerfile:
    """A Dockerfile's text, in instructions; `escape` is what continues a line."""

    def __init__(self, text: str) -> None:
        """Raises StepError for what cannot be read with certainty."""
        for ambiguous, what in _AMBIGUOUS:
            found = ambiguous.search(text)
            if found is not None:
                raise unsafe(text.count("\n", 0, found.start()) + 1, f"contains {what}")
        self._lines = text.split("\n")
        self.escape = "\\"
        for number, line in enumerate(self._lines, 1):
            if not line.lstrip().startswith("#"):
                break
            if _ESCAPE_DIRECTIVE.match(line):
                # Engines differ in where they look for it, and in what may follow.
                known = _KNOWN_ESCAPE.fullmatch(line)
                if number > 1 or known is None:
                    raise unsafe(
                        number,
                        "the escape directive must be the first line, and name"
                        " one of the two characters",
                    )
                self.escape = known[1]

    def instructions(self) -> Iterator[Instruction]:
        """In the order of the file."""
        lines = iter(enumerate(self._lines, 1))
        for number, line in lines:
            if line.lstrip().startswith("#") or not line.strip():
                continue
            whole, goes_on = self._continued(line)
            while goes_on:
                following = next(lines, None)
                if following is None:
                    break
                if following[1].lstrip().startswith("#") or not following[1].strip():
                    continue
                part, goes_on = self._continued(following[1])
                whole += part
            if whole.strip():
                yield self.instruction(number, whole)

    def instruction(self, number: int, text: str) -> Instruction:
        """One, as it stands in a line or behind ONBUILD."""
        name, *rest = _SPACES.split(text.strip(), maxsplit=1)
        if not name.isascii():
            raise unsafe(number, f"{quote(name)} is no instruction")
        flags, arguments = self._flags(number, rest[0] if rest else "")
        if name.upper() in ("ADD", "COPY", "RUN") and _HEREDOC.search(arguments):
            raise unsafe(
                number,
                "a heredoc needs BuildKit, which is not used here: use lines that"
                " end in a backslash",
            )
        return Instruction(number, name.upper(), flags, arguments.strip())

    def pairs(self, text: str) -> list[tuple[str, str]]:
        """What ENV sets: `name=value ...`, or the old form `name value`; with quotes and all."""
        words = self.quoted_words(text)
        if words and "=" not in words[0]:
            name, *value = _SPACES.split(text, maxsplit=1)
            return [(name, "".join(value))]
        return [(name, value) for name, _, value in (word.partition("=") for word in words)]

    def expanded(self, word: str, variables: Mapping[str, str], *, base_is_known: bool) -> str:
        """A word without its quotes, and with variables replaced.

        Where the base image is not known, it may define any variable that `variables` has not.
        """
        return _Word(word, self.escape, variables, base_is_known).expanded()

    def _continued(self, line: str) -> tuple[str, bool]:
        line = line.removesuffix("\r")
        body = line.rstrip(" \t")
        if body.endswith(self.escape) and body[-2:-1] != self.escape:
            return body[:-1], True
        return line, False

    def _flags(self, number: int, text: str) -> tuple[tuple[str, ...], str]:
        """Leading words that begin with `--`, without quotes; a bare `--` ends them."""
        flags: list[str] = []
        rest = text.lstrip(_BLANKS)
        while rest.startswith("--"):
            word, rest = self._flag(number, rest)
            rest = rest.lstrip(_BLANKS)
            if word == "--":
                break
            flags.append(word.removeprefix("--"))
        return tuple(flags), rest

    def quoted_words(self, text: str) -> list[str]:
        """Words with their quotes, in which a space does not end them."""
        words: list[str] = []
        word = mark = ""
        at = 0
        while at < len(text):
            character = text[at]
            if character.isspace() and not mark:
                words += [word] if word else []
                word = ""
            else:
                if character == self.escape and mark != "'" and at + 1 < len(text):
                    word += character
                    at += 1
                elif character in (mark or "\"'"):
                    mark = "" if mark else character
                word += text[at]
            at += 1
        return [*words, word] if word else words

    def _flag(self, number: int, text: str) -> tuple[str, str]:
        word = mark = ""
        at = 0
        while at < len(text):
            character = text[at]
            if _NOT_IN_FLAG.match(character):
                raise unsafe(number, f"a flag with {quote(character)} is not certain: remove it")
            if mark:
                mark = "" if character == mark else mark
                word += character if mark else ""
            elif character in "\"'":
                mark = character
            elif character.isspace():
                break
            else:
                word += character
            at += 1
        return word, text[at:]


class _Word:
    """One word while it is expanded."""

    def __init__(
        self, word: str, escape: str, variables: Mapping[str, str], base_is_known: bool
    ) -> None:
        self._word = word.removeprefix("\ufeff")  # of a JSON list; the engine leaves it out
        self._escape = escape
        self._variables = variables
        self._base_is_known = base_is_known
        self._at = 0

    def expanded(self) -> str:
        return self._until("")

    def _until(self, end: str) -> str:
        """Up to a character, which is taken too: a quote or a brace; "" is the end of the word."""
        made: list[str] = []
        while self._at < len(self._word):
            character = self._take()
            if character == end:
                return "".join(made)
            if character == "$":
                made.append(self._variable())
            elif character == self._escape:
                made.append(self._escaped(end))
            elif character == "'" and end != '"':
                made.append(self._literal())
            elif character == '"' and end != '"':
                made.append(self._until('"'))
            else:
                made.append(character)
        return "".join(made)

    def _take(self) -> str:
        character = self._word[self._at]
        self._at += 1
        return character

    def _escaped(self, end: str) -> str:
        if self._at == len(self._word):
            return ""
        if end == '"' and self._word[self._at] not in ('"', "$", self._escape):
            return self._escape
        return self._take()

    def _literal(self) -> str:
        start = self._at
        end = self._word.find("'", start)
        self._at = len(self._word) if end < 0 else end + 1
        return self._word[start:] if end < 0 else self._word[start:end]

    def _variable(self) -> str:
        if self._word.startswith("{", self._at):
            return self._braced()
        found = _NAME.match(self._word, self._at)
        end = found.end() if found else self._at
        # The engine knows letters that are not ASCII, which then are part of the name.
        is_whole = self._word[end : end + 1].isascii()
        self._at = end
        if found is None:
            return "$" if is_whole else UNKNOWN
        return self._value(found[0]) if is_whole else UNKNOWN

    def _braced(self) -> str:
        found = _NAME.match(self._word, self._at + 1)
        if found is None:
            self._at = len(self._word)
            return UNKNOWN
        name, self._at = found[0], found.end()
        rest = self._word[self._at :]
        if rest.startswith("}"):
            self._at += 1
            return self._value(name)
        # ${name:-word}, ${name:+word} and the same without the colon; the rest cuts and replaces.
        operator = next((one for one in (":-", ":+", "-", "+") if rest.startswith(one)), "")
        self._at += len(operator)
        word = self._until("}")
        value = self._value(name)
        if value == UNKNOWN and self._base_is_known and not _PLATFORM.fullmatch(name):
            value = ""
        if not operator or UNKNOWN in value:
            return UNKNOWN
        is_set = bool(value) if operator.startswith(":") else name in self._variables
        if operator.endswith("-"):
            return value if is_set else word
        return word if is_set else ""

    def _value(self, name: str) -> str:
        return UNKNOWN if _PLATFORM.fullmatch(name) else self._variables.get(name, UNKNOWN)


def unsafe(line: int, reason: str) -> StepError:
    """The error of a Dockerfile that nothing is built with."""
    return StepError("unsafe_dockerfile", f"Dockerfile, line {line}: {reason}")

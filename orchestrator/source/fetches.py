"""Owns what a Dockerfile makes the engine fetch: images, and what ADD names by a URL. Pure.

The engine fetches both in the network of the host, not in that of the build. So what is fetched is
known before the build begins, or nothing is built: a variable that only the engine can tell, and
what happens only in a build on top of this image (ONBUILD), are refused.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from platform import machine
from typing import Final
from urllib.parse import urlsplit

from edge.errors import quote
from orchestrator.errors import StepError
from orchestrator.source.dockerfile_words import UNKNOWN, Dockerfile, Instruction, unsafe

# What ADD takes for a URL, and what newer builders do: any scheme, and git's short form.
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|git@")
# What a text that ends here may still become, once a variable is put behind it.
_MAY_BECOME_URL: Final = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*(?::/?)?)?")
_NO_IMAGE: Final = "scratch"
# What sets a variable may be expanded itself, in names too: these are what they look like.
_is_plain: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*").fullmatch
# More than references have (github.com/distribution/reference), and nothing that leads elsewhere.
_is_image: Final = re.compile(r"(?!.*\.\.)[A-Za-z0-9\[][A-Za-z0-9._:/@+\[\]-]*").fullmatch
# The one that engine and containers have: they are on this machine.
_MACHINES: Final = {"x86_64": "amd64", "aarch64": "arm64"}
OWN_PLATFORM: Final = f"linux/{_MACHINES.get(machine(), machine())}"
# Flags that say what is fetched, or from where. Some engines take the next word for their value.
_FETCHING: Final = frozenset({"from", "mount", "network", "platform", "security"})


@dataclass(frozen=True, slots=True)
class Fetch:
    """`image` is a name of FROM, or `host` one of ADD's URL; the other one is empty.

    `platform` is what FROM asks for: an image of another one would be fetched anew.
    """

    line: int
    instruction: str
    image: str = ""
    host: str = ""
    platform: str = ""

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


def fetches(text: str) -> list[Fetch]:
    """All that a Dockerfile names. Raises StepError, kind "unsafe_dockerfile", where that is not
    certain, or where it asks for the network of the host."""
    return _Reading(Dockerfile(text)).fetches()


def check_triggers(image: str, triggers: Sequence[str]) -> None:
    """Raises StepError for triggers of a base image that would fetch what nobody has looked at."""
    for trigger in triggers:
        try:
            if "\n" in trigger or "\r" in trigger:
                # The engine reads it as a Dockerfile of its own, with directives.
                raise StepError("unsafe_dockerfile", "it has more than one line")
            fetches(f"FROM {_NO_IMAGE}\nONBUILD {trigger}")
        except StepError as error:
            raise StepError(
                error.kind,
                f"the base image {quote(image)} has a trigger (ONBUILD {quote(trigger)}) that is"
                f" refused: {error}",
            ) from None


class _Reading:
    def __init__(self, dockerfile: Dockerfile) -> None:
        self._dockerfile = dockerfile
        self._found: list[Fetch] = []
        self._arguments: dict[str, str] = {}  # of ARG before the first FROM
        self._stages: dict[str, dict[str, str]] = {}  # name -> what ENV has set; of past stages
        # Of the stage: what ENV has set, which nothing of the base image can change.
        self._set: dict[str, str] | None = None
        self._triggered: set[str] = set()  # what its triggers set in a stage that builds on it
        self._name = ""
        self._count = 0

    def fetches(self) -> list[Fetch]:
        for instruction in self._dockerfile.instructions():
            self._read(instruction, is_trigger=False)
        return self._found

    def _read(self, instruction: Instruction, *, is_trigger: bool) -> None:
        self._check_flags(instruction)
        match instruction.name:
            case "ARG" if self._set is None:
                self._set_arguments(instruction)
            case "FROM":
                self._begin_stage(instruction)
            case "ENV":
                self._set_variables(instruction, is_trigger=is_trigger)
            case "ADD":
                self._add(instruction, is_trigger=is_trigger)
            case "COPY" | "RUN":
                self._copy_from(instruction, is_trigger=is_trigger)
            case "ONBUILD" if is_trigger:
                raise _refused(instruction, "a trigger may not set another one")
            case "ONBUILD":
                inner = self._dockerfile.instruction(instruction.line, instruction.rest)
                self._read(inner, is_trigger=True)

    def _check_flags(self, instruction: Instruction) -> None:
        for flag in instruction.flags:
            name, equals, value = flag.partition("=")
            if (name.lower(), value.lower()) in (("network", "host"), ("security", "insecure")):
                raise _refused(instruction, f"--{flag} is not allowed: remove it")
            if name.lower() in _FETCHING and not equals:
                raise _refused(instruction, f"--{name} has no value: write --{name}=VALUE")

    def _set_arguments(self, instruction: Instruction) -> None:
        for word in self._dockerfile.quoted_words(instruction.rest):
            name, equals, value = word.partition("=")
            self._check_name(instruction, name)
            if equals:
                self._arguments[name] = self._dockerfile.expanded(
                    value, self._arguments, base_is_known=True
                )
            elif name in self._arguments:
                raise _refused(instruction, f"what {name} is from here on is not certain")

    def _set_variables(self, instruction: Instruction, *, is_trigger: bool) -> None:
        pairs = self._dockerfile.pairs(instruction.rest)
        for name, _ in pairs:
            self._check_name(instruction, name)
        if is_trigger:
            self._triggered |= {name for name, _ in pairs}
        elif self._set is not None:  # before a FROM, the engine refuses it
            self._set.update({name: self._expanded(value) for name, value in pairs})

    def _check_name(self, instruction: Instruction, name: str) -> None:
        if not _is_plain(name):
            raise _refused(
                instruction,
                f"the name of a variable, {quote(name)}, is not certain: use A-Z, a-z, 0-9 and _",
            )

    def _begin_stage(self, instruction: Instruction) -> None:
        words = instruction.words()
        if not words:
            return  # the engine refuses it
        self._end_stage()
        name = self._dockerfile.expanded(words[0], self._arguments, base_is_known=True)
        if UNKNOWN in name or not name:
            raise _refused(
                instruction, "the image is named by a variable that has no value: write its name"
            )
        wanted = ""
        for flag in instruction.flags:
            key, _, value = flag.partition("=")
            if key.lower() == "platform":
                wanted = value
                if wanted != OWN_PLATFORM:
                    # The engine would fetch, and run the triggers of, what nobody looked into.
                    raise _refused(instruction, f"--{flag} is not supported: leave it out")
        inherited = self._stages.get(name.lower())
        if inherited is None and name != _NO_IMAGE:
            self._note(instruction, image=name, platform=wanted)
        self._set = dict(inherited or {})
        if len(words) == 3 and words[1].lower() == "as":
            self._name = words[2].lower()
        self._count += 1

    def _end_stage(self) -> None:
        """Only now can others build on it, or copy from it."""
        if self._set is not None and self._name:
            self._stages[self._name] = self._set | dict.fromkeys(self._triggered, UNKNOWN)
        self._triggered, self._name = set(), ""

    def _copy_from(self, instruction: Instruction, *, is_trigger: bool) -> None:
        for flag in instruction.flags:
            name, _, value = flag.partition("=")
            sources = [value] if name.lower() == "from" else []
            if name.lower() == "mount":
                options = (option.partition("=") for option in value.split(","))
                sources = [
                    given.strip(' "') for key, _, given in options if key.strip(' "') == "from"
                ]
            for source in filter(None, sources):
                if not is_trigger and (source.lower() in self._stages or self._is_number(source)):
                    continue
                if is_trigger or "$" in source:
                    raise _refused(instruction, "the image that it copies from is not certain")
                if source != _NO_IMAGE:
                    self._note(instruction, image=source)

    def _is_number(self, source: str) -> bool:
        return source.isascii() and source.isdecimal() and int(source) < self._count

    def _add(self, instruction: Instruction, *, is_trigger: bool) -> None:
        for word in instruction.sources():
            source = self._expanded(word)
            known, unknown, _ = source.partition(UNKNOWN)
            url = _URL.match(known)
            # Up to the slash behind it, a host is not whole: a variable may make it another one.
            if unknown and (
                (url and not re.search(r"[/?#]", known[url.end() :]))
                or (not url and _MAY_BECOME_URL.fullmatch(known))
            ):
                raise _refused(
                    instruction,
                    f"what {quote(word)} stands for is not certain, as the base image can set the"
                    " variable: set it by ENV in the same stage, or use COPY for a file of the"
                    " repository",
                )
            if url is None:
                continue
            if is_trigger:
                raise _refused(instruction, "ONBUILD may not fetch a URL")
            self._note(instruction, host=_host(known, instruction))

    def _expanded(self, word: str) -> str:
        return self._dockerfile.expanded(word, self._set or {}, base_is_known=False)

    def _note(
        self, instruction: Instruction, *, image: str = "", host: str = "", platform: str = ""
    ) -> None:
        if image and not _is_image(image):
            raise _refused(instruction, f"{quote(image)} is no name of an image")
        self._found.append(Fetch(instruction.line, instruction.name, image, host, platform))


def _host(url: str, instruction: Instruction) -> str:
    if url.lower().startswith("git@"):
        return url[4:].partition(":")[0].partition("/")[0]
    try:
        host = urlsplit(url).hostname
    except ValueError:
        host = None
    # Where programs differ about what is the host of a URL, the engine may take another one.
    authority = re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0]
    if not host or re.search(r"[^!-~]|[\\%]", authority) or authority.count("@") > 1:
        raise _refused(instruction, f"{quote(url)} names no host")
    return host


def _refused(instruction: Instruction, reason: str) -> StepError:
    return unsafe(instruction.line, f"{instruction.name}: {reason}")

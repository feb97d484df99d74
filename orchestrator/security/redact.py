"""Owns the redaction of secrets in texts: each is replaced wherever it stands, however written.

Pure. A secret is known by its value: as it is, in base64 wherever it begins in what was encoded,
URL-encoded, and escaped in JSON.
"""

import json
from base64 import b64encode, urlsafe_b64encode
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, quote_plus

MASK: Final = "***"
# Characters. What is shorter stands in too many texts by chance, and is no secret.
MIN_SECRET_LENGTH: Final = 4
# Secrets; the one that was not added for the longest time is forgotten for a new one. Tokens in
# clone URLs may change with every push, and every line is searched for each of them.
MAX_SECRETS: Final = 1000


@dataclass(frozen=True, slots=True)
class _Table:
    """The spellings of all secrets, sorted."""

    spellings: tuple[str, ...] = ()
    firsts: frozenset[str] = frozenset()
    longest: int = 0


class Redactor:
    """Replaces every secret that was added. May be used from several threads at once."""

    def __init__(self) -> None:
        self._secrets: dict[str, frozenset[str]] = {}
        self.table = _Table()

    def __repr__(self) -> str:
        return f"<Redactor of {len(self._secrets)} secrets>"

    def add(self, secret: str) -> None:
        """Replace this from now on; nothing that is shorter than `MIN_SECRET_LENGTH`."""
        if len(secret) < MIN_SECRET_LENGTH:
            return
        secrets = dict(self._secrets)
        known = secrets.pop(secret, None)
        secrets[secret] = known or frozenset(_spellings(secret))
        self._secrets = secrets
        if known:
            return
        if len(secrets) > MAX_SECRETS:
            del secrets[next(iter(secrets))]
        spellings = tuple(sorted(frozenset().union(*secrets.values())))
        # One assignment: a thread that redacts meanwhile has the old table or the new one.
        self.table = _Table(
            spellings, frozenset(each[0] for each in spellings), max(map(len, spellings))
        )

    def add_credentials(self, credentials: str) -> None:
        """Replace "user:password" (whose base64 is HTTP's Basic), and the password alone.

        Where there is no password, the user is a token.
        """
        user, _, password = credentials.partition(":")
        self.add(credentials)
        self.add(password or user)

    def redact(self, text: str) -> str:
        """The text with `MASK` in place of every secret."""
        return _redact(text, self.table)

    def redact_json(self, value: Any) -> Any:
        """A value of JSON, with every text in it redacted, keys too."""
        if isinstance(value, str):
            return self.redact(value)
        if isinstance(value, dict):
            return {self.redact_json(key): self.redact_json(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return [self.redact_json(each) for each in value]
        return value

    def stream(self) -> "RedactedStream":
        """For a text that comes in pieces, which may cut a secret anywhere."""
        return RedactedStream(self)


class RedactedStream:
    """What `Redactor.redact` would give for the whole text, piece by piece.

    Only what may be the beginning of a secret is held back, until it is known not to be one.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._pending = ""

    def feed(self, text: str) -> str:
        """Take a piece; give what can be shown by now."""
        table = self._redactor.table
        text = self._pending + text
        shown: list[str] = []
        at = 0
        for start, end in _matches(text, table):
            partial = _partial_match(text, at, start + 1, table)
            if partial is not None:
                break
            shown += (text[at:start], MASK)
            at = end
        else:
            partial = _partial_match(text, at, len(text), table)
        cut = len(text) if partial is None else partial
        shown.append(text[at:cut])
        self._pending = text[cut:]
        return "".join(shown)

    def flush(self) -> str:
        """What was held back, at the end of the text."""
        held, self._pending = self._pending, ""
        return self._redactor.redact(held)


def _redact(text: str, table: _Table) -> str:
    shown: list[str] = []
    at = 0
    for start, end in _matches(text, table):
        shown += (text[at:start], MASK)
        at = end
    return "".join((*shown, text[at:])) if at else text


def _matches(text: str, table: _Table) -> Iterator[tuple[int, int]]:
    """Where secrets stand, from left to right; the longest one where several begin."""
    # Nearly no text has any: to look for all of them is a search of the C library's for each.
    places = {each: place for each in table.spellings if (place := text.find(each)) >= 0}
    while places:
        start, length, _ = min((place, -len(each), each) for each, place in places.items())
        end = start - length
        yield start, end
        for each in [each for each, place in places.items() if place < end]:
            places[each] = text.find(each, end)
            if places[each] < 0:
                del places[each]


def _partial_match(text: str, begin: int, end: int, table: _Table) -> int | None:
    """The first place before `end` from which the rest of the text may become a secret."""
    spellings = table.spellings
    for place in range(max(begin, len(text) - table.longest + 1), end):
        if text[place] in table.firsts:
            rest = text[place:]
            # The first spelling that is not before `rest` begins with it, if any does. `rest`
            # itself is a secret, and only what is longer would be in doubt.
            after = bisect_left(spellings, rest)
            if after < len(spellings) and spellings[after] == rest:
                after += 1
            if after < len(spellings) and spellings[after].startswith(rest):
                return place
    return None


def _spellings(secret: str) -> Iterator[str]:
    for each in _encodings(secret):
        if len(each) >= MIN_SECRET_LENGTH:
            yield each


def _encodings(secret: str) -> Iterator[str]:
    yield secret
    raw = secret.encode("utf-8", "surrogatepass")
    for encode in (b64encode, urlsafe_b64encode):
        whole = encode(raw).decode("ascii")
        yield whole
        yield whole.rstrip("=")
        for before in range(3):
            yield _inside_base64(encode(bytes(before) + raw).decode("ascii"), before, len(raw))
    for safe in ("", "/", "!'()*~"):  # all; as for a path; as JavaScript's encodeURIComponent
        yield from _both_cases(quote(raw, safe))
    yield from _both_cases(quote_plus(raw))
    for ascii_only in (True, False):
        escaped = json.dumps(secret, ensure_ascii=ascii_only)[1:-1]
        yield escaped
        yield escaped.replace("/", "\\/")


def _inside_base64(encoded: str, before: int, length: int) -> str:
    """The characters that stand for the secret alone, whatever is encoded before and after it."""
    first = (before * 8 + 5) // 6
    last = (before + length) * 8 // 6
    return encoded[first:last]


def _both_cases(quoted: str) -> Iterator[str]:
    yield quoted
    parts = quoted.split("%")
    yield "%".join([parts[0], *(part[:2].lower() + part[2:] for part in parts[1:])])

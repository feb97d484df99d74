"""Owns the redaction of secrets in texts: each is replaced wherever it stands, however written.

Pure. A secret is known by its value: as it is, in hexadecimal digits, in base64 wherever it begins
in what was encoded, URL-encoded, escaped in JSON, and either of these once more in a form.
"""

import json
import re
from array import array
from base64 import b64encode, urlsafe_b64encode
from bisect import bisect_right
from collections.abc import Collection, Iterator
from typing import Any, Final
from urllib.parse import quote, quote_plus

MASK: Final = "***"
# Characters. What is shorter stands in too many texts by chance, and is no secret.
MIN_SECRET_LENGTH: Final = 4
# Secrets; the one that was not added for the longest time is forgotten for a new one: tokens in
# clone URLs may change with every push.
MAX_SECRETS: Final = 1000
# Characters of all of them. Each has some 100 spellings, most of them longer than it is, and the
# table of all is made anew when one is added.
MAX_TOTAL: Final = 64 * 1024

_MASKED: Final = MASK.encode()
# Bytes that are looked up at once, those of a C integer; no spelling is shorter.
_GRAM: Final = array("I").itemsize
_HEAD: Final = 8  # bytes
# What is escaped in JSON besides what all do: nothing; by Go, by .NET, by Django's escapejs.
_ESCAPED: Final = ("", "<>&", "<>&'+`", "<>&'=-;`")
# Names in JSON that are ours. Who makes one of them a password must not make it unreadable to all.
_is_own_name: Final = re.compile(r"[a-z_]+").fullmatch
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


class _Table:
    """The spellings of all secrets, in UTF-8, and how to find them in one pass over a text.

    A spelling can only begin where its first four bytes stand. To look up all groups of four bytes
    of a text in one set is C's work, and takes as long for one secret as for a thousand.
    """

    def __init__(self, spellings: Collection[bytes] = ()) -> None:
        self.spellings = sorted(spellings)
        self._known = frozenset(spellings)
        self._lengths = sorted(set(map(len, spellings)))
        self._grams = frozenset(array("I", b"".join(each[:_GRAM] for each in spellings)))
        # Tokens of one kind begin alike: more of the beginning is looked at where the first suits.
        self._head = min((_HEAD, *self._lengths[:1]))
        self._heads = frozenset(each[: self._head] for each in spellings)
        self._firsts = frozenset(each[0] for each in spellings)
        self._alphabet = bytes(set(b"".join(spellings)))

    def matches(self, text: bytes) -> Iterator[tuple[int, int]]:
        """Where secrets stand, from left to right; the longest one where several begin."""
        end = 0
        for start in self._candidates(text):
            if start >= end and text[start : start + self._head] in self._heads:
                length = self._longest_at(text, start)
                if length:
                    end = start + length
                    yield start, end

    def _candidates(self, text: bytes) -> list[int]:
        found: list[int] = []
        for offset in range(_GRAM):
            grams = array("I", text[offset : len(text) - (len(text) - offset) % _GRAM])
            if not self._grams.isdisjoint(grams):
                found += [
                    offset + _GRAM * index
                    for index, gram in enumerate(grams)
                    if gram in self._grams
                ]
        return sorted(found)

    def _longest_at(self, text: bytes, start: int) -> int:
        rest = text[start : start + self._lengths[-1]]
        before = bisect_right(self.spellings, rest)
        if not before:
            return 0
        nearest = self.spellings[before - 1]
        if rest.startswith(nearest):
            return len(nearest)
        # Whatever `rest` begins with lies between itself and `rest`, and so begins `nearest` too.
        common = _common_length(rest, nearest)
        for index in range(bisect_right(self._lengths, common) - 1, -1, -1):
            if rest[: self._lengths[index]] in self._known:
                return self._lengths[index]
        return 0

    def partial_match(self, text: bytes, begin: int, end: int) -> int | None:
        """The first place before `end` from which the rest of the text may become a secret."""
        if not self.spellings:
            return None
        begin = max(begin, len(text) - self._lengths[-1] + 1)
        # A byte that is in no spelling ends whatever stands before it.
        begin += len(text[begin:].rstrip(self._alphabet))
        for place in range(begin, end):
            if text[place] in self._firsts:
                rest = text[place:]
                # The first spelling that is not before `rest` begins with it, if any does. `rest`
                # itself is a secret, and only what is longer would be in doubt.
                after = bisect_right(self.spellings, rest)
                if after < len(self.spellings) and self.spellings[after].startswith(rest):
                    return place
        return None


class Redactor:
    """Replaces every secret that was added. May be used from several threads at once."""

    def __init__(self) -> None:
        self._secrets: dict[str, frozenset[bytes]] = {}
        self._kept: frozenset[str] = frozenset()
        self._made = self._secrets, _Table()  # the table, and what it was made of

    def __repr__(self) -> str:
        return f"<Redactor of {len(self._secrets)} secrets>"

    def keep(self, secret: str) -> None:
        """Replace this from now on, and never forget it: a secret of the settings."""
        self._kept |= {secret}
        self.add(secret)

    def add(self, secret: str) -> None:
        """Replace this from now on; nothing that is shorter than `MIN_SECRET_LENGTH`."""
        if len(secret) < MIN_SECRET_LENGTH:
            return
        secrets = dict(self._secrets)
        known = secrets.pop(secret, frozenset())
        secrets[secret] = known or frozenset(_spellings(secret))
        total = sum(map(len, secrets))
        for oldest in [each for each in secrets if each != secret and each not in self._kept]:
            if len(secrets) <= MAX_SECRETS and total <= MAX_TOTAL:
                break
            del secrets[oldest]
            total -= len(oldest)
        # One assignment: a thread that redacts meanwhile has the old ones or the new ones.
        self._secrets = secrets

    def add_credentials(self, credentials: str) -> None:
        """Replace "user:password" (whose base64 is HTTP's Basic), and the password alone.

        Where there is no password, the user is a token.
        """
        for each in _parts(credentials):
            self.add(each)

    def keep_credentials(self, credentials: str) -> None:
        """The same, and never forget them."""
        for each in _parts(credentials):
            self.keep(each)

    @property
    def table(self) -> _Table:
        """That of all secrets, made when it is first needed: many may be added in a row."""
        secrets = self._secrets
        made_of, table = self._made
        if made_of is not secrets:
            table = _Table(frozenset().union(*secrets.values()))
            self._made = secrets, table
        return table

    def redact(self, text: str) -> str:
        """The text with `MASK` in place of every secret."""
        raw = _encode(text)
        shown: list[bytes] = []
        at = 0
        for start, end in self.table.matches(raw):
            shown += (raw[at:start], _MASKED)
            at = end
        return _decode(b"".join((*shown, raw[at:]))) if at else text

    def redact_json(self, value: Any) -> Any:
        """A value of JSON, with every text in it redacted, keys too, unless they can be ours."""
        if isinstance(value, str):
            return self.redact(value)
        if isinstance(value, dict):
            return {
                key
                if isinstance(key, str) and _is_own_name(key)
                else self.redact_json(key): self.redact_json(each)
                for key, each in value.items()
            }
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
        self._pending = b""

    def feed(self, text: str) -> str:
        """Take a piece; give what can be shown by now."""
        table = self._redactor.table
        raw = self._pending + _encode(text)
        shown: list[bytes] = []
        at = 0
        for start, end in table.matches(raw):
            partial = table.partial_match(raw, at, start + 1)
            if partial is not None:
                break
            shown += (raw[at:start], _MASKED)
            at = end
        else:
            partial = table.partial_match(raw, at, len(raw))
        cut = len(raw) if partial is None else partial
        shown.append(raw[at:cut])
        self._pending = raw[cut:]
        return _decode(b"".join(shown))

    def flush(self) -> str:
        """What was held back, at the end of the text."""
        held, self._pending = self._pending, b""
        return self._redactor.redact(_decode(held))


def _parts(credentials: str) -> tuple[str, str]:
    user, _, password = credentials.partition(":")
    return credentials, password or user


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _decode(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogatepass")


def _common_length(one: bytes, other: bytes) -> int:
    """Of the beginning that both have."""
    least, most = 0, min(len(one), len(other))
    while least < most:
        middle = (least + most + 1) // 2
        if one[:middle] == other[:middle]:
            least = middle
        else:
            most = middle - 1
    return least


def _spellings(secret: str) -> Iterator[bytes]:
    for each in _encodings(secret):
        raw = _encode(each)
        if len(raw) >= max(MIN_SECRET_LENGTH, _GRAM):
            yield raw


def _encodings(secret: str) -> Iterator[str]:
    yield from _base64s(_encode(secret))
    yield from (_encode(secret).hex(), _encode(secret).hex().upper())
    for each in {secret, *_percents(_encode(secret)), *_escapes(secret)}:
        yield each
        yield from _forms(_encode(each))


def _base64s(raw: bytes) -> Iterator[str]:
    for encode in (b64encode, urlsafe_b64encode):
        whole = encode(raw).decode("ascii")
        yield whole
        yield whole.rstrip("=")
        for before in range(3):
            yield _inside_base64(encode(bytes(before) + raw).decode("ascii"), before, len(raw))


def _inside_base64(encoded: str, before: int, length: int) -> str:
    """The characters that stand for the secret alone, whatever is encoded before and after it."""
    first = (before * 8 + 5) // 6
    last = (before + length) * 8 // 6
    return encoded[first:last]


def _percents(raw: bytes) -> Iterator[str]:
    # All; as for a path; as JavaScript's encodeURIComponent; as user information, user and
    # password each.
    for safe in ("", "/", "!'()*~", ":"):
        yield from _both_cases(quote(raw, safe), "%")


def _forms(raw: bytes) -> Iterator[str]:
    """As application/x-www-form-urlencoded: Python's, and that of browsers (WHATWG URL, 5.2)."""
    yield from _both_cases(quote_plus(raw), "%")
    yield from _both_cases(quote_plus(raw, "*").replace("~", "%7E"), "%")


def _escapes(secret: str) -> Iterator[str]:
    """As in a JSON string, by whatever program: which characters are escaped is its choice."""
    for ascii_only in (True, False):
        escaped = json.dumps(secret, ensure_ascii=ascii_only)[1:-1]
        for extra in _ESCAPED:
            written = _escape(escaped, extra)
            yield from _both_cases(written, "\\u")
            yield written.replace("/", "\\/")
            yield from _both_cases(_escape(written, "/"), "\\u")
    # Everything that can be in doubt.
    doubtful = {each for each in secret if each.isascii() and each not in _UNRESERVED} - {'"', "\\"}
    yield from _both_cases(_escape(json.dumps(secret)[1:-1], doubtful), "\\u")


def _escape(written: str, characters: Collection[str]) -> str:
    return "".join(f"\\u{ord(each):04x}" if each in characters else each for each in written)


def _both_cases(written: str, mark: str) -> Iterator[str]:
    """With the hexadecimal digits after each mark as they are, in upper and in lower case."""
    yield written
    digits = 2 if mark == "%" else 4
    first, *parts = written.split(mark)
    for case in (str.upper, str.lower):
        yield mark.join([first, *(case(part[:digits]) + part[digits:] for part in parts)])

"""Owns how the tests write HTTP/1 messages, and how they read what the edge wrote, strictly.

It knows no sockets. The readers accept exactly what a careful sender writes: a head with a bare
CR, a chunk with an extension or a trailer is an error here, because the edge never sends one.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
DATE = "Date: Tue, 15 Nov 1994 08:12:31 GMT"
CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}")

Framing = int | Literal["chunked", "close"]


class MalformedError(AssertionError):
    """The edge wrote something that is not a well-formed message."""


def request(
    line: str, *fields: str, body: bytes | str = b"", host: str | None = "app.test"
) -> bytes:
    """Bytes of a request. `line` without a version gets HTTP/1.1; `host` None leaves Host out."""
    if not re.search(r" HTTP/\d\.\d$", line):
        line += " HTTP/1.1"
    lines = [line, *((f"Host: {host}",) if host is not None else ()), *fields]
    return _message(lines, body)


def response(status: str, *fields: str, body: bytes | str = b"") -> bytes:
    """Bytes of a response whose fields are exactly those given."""
    return _message([f"HTTP/1.1 {status}", *fields], body)


def ok(body: bytes | str = b"", *fields: str) -> bytes:
    """Bytes of a 200 with Content-Length and Date, as nearly every server sends it."""
    return response("200 OK", f"Content-Length: {len(body)}", DATE, *fields, body=body)


def chunk(data: bytes | str) -> bytes:
    """One chunk, or the last one with its empty trailer section if there is no data."""
    raw = data.encode() if isinstance(data, str) else data
    return b"%x\r\n%b\r\n" % (len(raw), raw)


def chunks(*pieces: bytes | str) -> bytes:
    """A whole chunked body."""
    return b"".join(chunk(piece) for piece in pieces) + chunk(b"")


def _message(lines: list[str], body: bytes | str) -> bytes:
    head = "".join(f"{line}\r\n" for line in lines).encode("latin-1")
    return head + b"\r\n" + (body.encode() if isinstance(body, str) else body)


@dataclass(frozen=True)
class Head:
    """A start line and fields, names as they were written, values without outer whitespace."""

    raw: bytes
    line: str
    fields: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, raw: bytes) -> "Head":
        """Reads a head up to its blank line. Raises MalformedError (RFC 9112 section 2.1)."""
        text = raw.decode("latin-1")
        if not text.endswith("\r\n\r\n"):
            raise MalformedError(f"a head that does not end with a blank line: {raw!r}")
        first, *rest = text[:-4].split("\r\n")
        if re.search(r"[\x00-\x08\x0a-\x1f\x7f]", first + "".join(rest)):
            raise MalformedError(f"a control character in a head: {raw!r}")
        return cls(raw, first, tuple(cls._field(line) for line in rest))

    @staticmethod
    def _field(line: str) -> tuple[str, str]:
        name, colon, value = line.partition(":")
        if not colon or not TOKEN.fullmatch(name):
            raise MalformedError(f"not a field line: {line!r}")
        return name, value.strip(" \t")

    @property
    def method(self) -> str:
        """The first word of a request line."""
        return self.line.split(" ")[0]

    @property
    def target(self) -> str:
        """The second word of a request line."""
        return self.line.split(" ")[1]

    @property
    def version(self) -> str:
        """The version of either kind of start line."""
        return self.line.split(" ")[0 if self.line.startswith("HTTP/") else 2]

    @property
    def status(self) -> int:
        """The status code. Raises MalformedError if it is not three digits (RFC 9112 section 4)."""
        match = re.match(r"HTTP/1\.[01] (\d{3}) ", self.line)
        if not match:
            raise MalformedError(f"not a status line: {self.line!r}")
        return int(match.group(1))

    @property
    def reason(self) -> str:
        """What follows the status code."""
        return self.line.split(" ", 2)[2]

    @property
    def names(self) -> list[str]:
        """Field names in lower case, in order."""
        return [name.lower() for name, _ in self.fields]

    def all(self, name: str) -> list[str]:
        """Values of every field of that name, in order."""
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def __contains__(self, name: str) -> bool:
        return bool(self.all(name))

    def __getitem__(self, name: str) -> str:
        values = self.all(name)
        if len(values) != 1:
            raise AssertionError(f"{len(values)} fields {name!r} in {self.raw!r}, expected one")
        return values[0]

    def tokens(self, name: str) -> Iterator[str]:
        """Members of the comma-separated list in the fields of that name, in lower case."""
        for value in self.all(name):
            yield from (member.strip(" \t").lower() for member in value.split(","))

    def closes(self) -> bool:
        """Whether it says that the connection ends after this message (RFC 9112 section 9.6)."""
        return "close" in self.tokens("Connection")

    def request_framing(self) -> Framing:
        """How the body is delimited (RFC 9112 section 6.3). Raises MalformedError if in doubt."""
        return self._framing(default=0)

    def response_framing(self, to: str) -> Framing:
        """How the body of this answer to a request of method `to` is delimited."""
        if to == "HEAD" or self.status < 200 or self.status in (204, 304):
            return 0
        return self._framing(default="close")

    def _framing(self, default: Framing) -> Framing:
        codings, lengths = self.all("Transfer-Encoding"), self.all("Content-Length")
        if codings and (codings != ["chunked"] or lengths):
            raise MalformedError(f"doubtful framing: {self.raw!r}")
        if codings:
            return "chunked"
        if lengths and (len(lengths) > 1 or not lengths[0].isdecimal()):
            raise MalformedError(f"doubtful framing: {self.raw!r}")
        return int(lengths[0]) if lengths else default


@dataclass(frozen=True)
class Message(Head):
    """A head with its whole body, decoded."""

    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()


class BodyReader:
    """Decodes one body out of a buffer, as far as it has come."""

    def __init__(self, framing: Framing) -> None:
        self.framing = framing
        self.data = bytearray()
        self.chunk_sizes: list[int] = []
        self.complete = framing == 0
        self._left = framing if isinstance(framing, int) else 0

    def feed(self, buffer: bytearray) -> None:
        """Takes from `buffer` what belongs to the body. Raises MalformedError on a bad chunk."""
        if self.framing == "chunked":
            while not self.complete and self._take_chunk(buffer):
                pass
        elif self.framing == "close":
            self._take(buffer, len(buffer))
        else:
            self._left -= self._take(buffer, self._left)
            self.complete = self._left == 0

    def _take(self, buffer: bytearray, most: int) -> int:
        piece = buffer[:most]
        del buffer[:most]
        self.data += piece
        return len(piece)

    def _take_chunk(self, buffer: bytearray) -> bool:
        """Takes one whole chunk, or the part of one that is there; False if more must come."""
        if self._left == 0:
            end = buffer.find(b"\r\n")
            if end < 0:
                return False
            line = bytes(buffer[:end])
            if not CHUNK_SIZE.fullmatch(line):
                raise MalformedError(f"not a chunk size: {line!r}")
            size = int(line, 16)
            if size == 0:
                return self._take_last(buffer, end)
            del buffer[: end + 2]
            self.chunk_sizes.append(size)
            self._left = size + 2
        data = max(self._left - 2, 0)
        self._left -= self._take(buffer, data)
        if self._left > 2 or len(buffer) < self._left:
            return False
        if buffer[:2] != b"\r\n":
            raise MalformedError(f"a chunk does not end with CRLF but with {bytes(buffer[:2])!r}")
        del buffer[:2]
        self._left = 0
        return True

    def _take_last(self, buffer: bytearray, end: int) -> bool:
        tail = bytes(buffer[end + 2 : end + 4])
        if len(tail) < 2:
            return False
        if tail != b"\r\n":
            raise MalformedError(f"a trailer after the last chunk: {bytes(buffer)!r}")
        del buffer[: end + 4]
        self.complete = True
        return True


def is_whole_request(raw: bytes) -> bool:
    """Whether these bytes begin with a request that ends where its framing says."""
    end = raw.find(b"\r\n\r\n")
    if end < 0:
        return False
    body = BodyReader(Head.parse(raw[: end + 4]).request_framing())
    body.feed(bytearray(raw[end + 4 :]))
    return body.complete

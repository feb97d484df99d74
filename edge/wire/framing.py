"""Owns the question how long a body is, and the chunked coding. Pure: bytes in, bytes out.

Everything here refuses by raising `FramingError`; what that costs the peer (400, 502, a broken
connection) is for the caller to know.
"""

import enum
import re
from collections.abc import Sequence

# A body's length is a plain int on the path of a request; these two are the lengths that are not
# known in advance.
CHUNKED = -1
UNTIL_CLOSE = -2

# 18 digits stay below 2**63, so no upstream that counts in 64 bits can be made to overflow.
_CONTENT_LENGTH = re.compile(rb"[0-9]{1,18}")
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,15})(;[\t\x20-\x7e\x80-\xff]*)?\r\n")
_PARTIAL_CHUNK_LINE = re.compile(
    rb"[0-9A-Fa-f]{0,15}(?:(?<=[0-9A-Fa-f]);[\t\x20-\x7e\x80-\xff]*)?\r?"
)
_TRAILER_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*\r\n")
_PARTIAL_TRAILER_LINE = re.compile(
    rb"(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?::[\t\x20-\x7e\x80-\xff]*)?)?\r?"
)

# Bytes of chunk extensions that one message may carry in total (RFC 9112 section 7.1.1 asks for a
# limit): nobody uses them, and without a limit a body of one byte could cost a gigabyte.
MAX_EXTENSIONS = 16 * 1024
# Chunks up to this size are copied together; larger ones are passed on where they lie.
SMALL_CHUNK = 4 * 1024
# Bytes of one chunk-size line, and bytes of a whole trailer section.
MAX_CHUNK_LINE = 4 * 1024
MAX_TRAILERS = 16 * 1024


class FramingError(ValueError):
    """The end of this message cannot be known for certain; the text says why."""


def request_length(codings: Sequence[bytes], lengths: Sequence[bytes], minor: int) -> int:
    """Length of a request's body: bytes, or `CHUNKED` (RFC 9112 section 6.3).

    `codings` and `lengths` are the values of every Transfer-Encoding and Content-Length field,
    `minor` the minor version of the message. Raises `FramingError`.
    """
    if codings:
        # Step 3: a message with both is an attack on somebody behind us.
        if lengths:
            raise FramingError("both Content-Length and Transfer-Encoding")
        _check_codings(codings, minor)
        return CHUNKED
    if lengths:
        return _content_length(lengths)
    # Step 7: a request without either has no body.
    return 0


def response_length(codings: Sequence[bytes], lengths: Sequence[bytes], minor: int) -> int:
    """Length of a response's body: bytes, `CHUNKED` or `UNTIL_CLOSE` (RFC 9112 section 6.3).

    It is what the fields say; step 1, by which some responses have no body whatever they say, is
    the business of who knows the request. A server whose framing contradicts itself is not to be
    trusted with the next response either. Raises `FramingError`.
    """
    # Step 8.
    return request_length(codings, lengths, minor) if codings or lengths else UNTIL_CLOSE


def _check_codings(codings: Sequence[bytes], minor: int) -> None:
    # Section 6.1: in an HTTP/1.0 message Transfer-Encoding means that somebody did not understand
    # what was forwarded.
    if minor == 0:
        raise FramingError("Transfer-Encoding in an HTTP/1.0 message")
    # Steps 3 and 4, narrowed: the one coding that both sides surely read in the same way.
    if len(codings) != 1 or codings[0].lower() != b"chunked":
        raise FramingError("Transfer-Encoding other than chunked")


def _content_length(lengths: Sequence[bytes]) -> int:
    # Step 5; equal duplicates may be repaired or refused, and are refused.
    if len(lengths) != 1 or not _CONTENT_LENGTH.fullmatch(lengths[0]):
        raise FramingError("invalid or repeated Content-Length")
    return int(lengths[0])


class _Expect(enum.Enum):
    """What a chunked body must go on with."""

    SIZE = enum.auto()
    DATA = enum.auto()
    DATA_END = enum.auto()
    TRAILER = enum.auto()
    NOTHING = enum.auto()


class ChunkedReader:
    """Reads one chunked body, piece by piece (RFC 9112 section 7.1).

    Extensions are ignored and trailers dropped; both are bounded. After `done`, `leftover` holds
    what came behind the body.
    """

    __slots__ = ("_expect", "_extensions", "_partial", "_remaining", "_trailers", "leftover")

    def __init__(self) -> None:
        self._expect = _Expect.SIZE
        self._partial = b""  # a line whose end has not come yet
        self._remaining = 0  # bytes of the present chunk that have not come yet
        self._extensions = 0
        self._trailers = 0
        self.leftover = b""

    @property
    def done(self) -> bool:
        """Whether the body is complete."""
        return self._expect is _Expect.NOTHING

    def feed(self, data: bytes) -> list[bytearray | memoryview]:
        """The content in `data`, in few pieces: an object for each of many tiny chunks would take
        a hundred times their size.

        Raises `FramingError` at the first octet that cannot belong to a chunked body.
        """
        if self._partial:
            data = self._partial + data
            self._partial = b""
        pieces: list[bytearray | memoryview] = []
        joined = bytearray()  # the last of the pieces, while chunks are small
        view = memoryview(data)
        position, end = 0, len(data)
        while position < end:
            if self._expect is _Expect.DATA:
                size = min(self._remaining, end - position)
                if size > SMALL_CHUNK:
                    pieces.append(view[position : position + size])
                    joined = bytearray()
                else:
                    if not joined:
                        pieces.append(joined)
                    joined += view[position : position + size]
                position += size
                self._remaining -= size
                if not self._remaining:
                    self._expect = _Expect.DATA_END
                continue
            if self._expect is _Expect.NOTHING:
                self.leftover = data[position:]
                break
            step = self._line(data, position)
            if step is None:
                self._partial = data[position:]
                break
            position = step
        return pieces

    def _line(self, data: bytes, position: int) -> int | None:
        """Read the line at `position`; where it ends, or None if its end has not come yet."""
        if self._expect is _Expect.DATA_END:
            line = data[position : position + 2]
            if line == b"\r\n":
                self._expect = _Expect.SIZE
                return position + 2
            if line == b"\r":
                return None
            raise FramingError("chunk not followed by CRLF")
        if self._expect is _Expect.SIZE:
            return self._size_line(data, position)
        return self._trailer_line(data, position)

    def _size_line(self, data: bytes, position: int) -> int | None:
        line = _CHUNK_LINE.match(data, position)
        if line is None:
            begun = data[position:]
            if len(begun.removesuffix(b"\r")) > MAX_CHUNK_LINE or not _PARTIAL_CHUNK_LINE.fullmatch(
                begun
            ):
                raise FramingError("invalid chunk size")
            return None
        if line.end() - 2 - position > MAX_CHUNK_LINE:
            raise FramingError("invalid chunk size")
        digits, extension = line.groups()
        if extension is not None:
            self._extensions += len(extension)
            if self._extensions > MAX_EXTENSIONS:
                raise FramingError("too many chunk extensions")
        self._remaining = int(digits, 16)
        self._expect = _Expect.DATA if self._remaining else _Expect.TRAILER
        return line.end()

    def _trailer_line(self, data: bytes, position: int) -> int | None:
        if data.startswith(b"\r\n", position):
            self._expect = _Expect.NOTHING
            return position + 2
        line = _TRAILER_LINE.match(data, position)
        if line is None:
            begun = data[position:]
            if self._trailers + len(begun) > MAX_TRAILERS:
                raise FramingError("trailer section too large")
            if not _PARTIAL_TRAILER_LINE.fullmatch(begun):
                raise FramingError("invalid trailer field")
            return None
        self._trailers += line.end() - position
        if self._trailers > MAX_TRAILERS:
            raise FramingError("trailer section too large")
        return line.end()


Piece = bytes | bytearray | memoryview


def chunk(pieces: Sequence[Piece]) -> list[Piece]:
    """`pieces` as one chunk; nothing for nothing, because an empty chunk would end the body."""
    size = sum(map(len, pieces))
    return [b"%x\r\n" % size, *pieces, b"\r\n"] if size else []


LAST_CHUNK = b"0\r\n\r\n"

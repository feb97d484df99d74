# cython: language_level=3, binding=False, wraparound=False, boundscheck=False, annotation_typing=False
"""Owns the compiled head codec: the readers of `request_reader` and `response_reader` in one pass.

It takes ordinary heads and nothing else. Whatever is unusual, and all that must be refused, goes to
the pure readers, which decide: so nothing is refused here, and nothing taken that they would refuse.

Memory safety does not depend on the rules below being right:

- A `Text` is read by `octet_at` and by loops over spans that were cut by `line_at`; neither knows
  of octets behind the end. What is behind it reads as NUL, which no rule takes.
- A `Writer` has the room that was asked for and writes nothing beyond it; a head that does not fill
  it exactly is a bug, and an error.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeASCII
from libc.string cimport memchr, memcpy

from edge.wire import fields as _fields
from edge.wire.forwarding import forwarding_lines
from edge.wire.framing import CHUNKED as _CHUNKED
from edge.wire.framing import UNTIL_CLOSE as _UNTIL_CLOSE
from edge.wire.request_id import line_for
from edge.wire.request_reader import RequestReader as _PureRequestReader
from edge.wire.response_reader import JOIN_LIMIT as _JOIN_LIMIT
from edge.wire.response_reader import ResponseReader as _PureResponseReader

ctypedef const unsigned char* octets

cdef Py_ssize_t CHUNKED = _CHUNKED
cdef Py_ssize_t UNTIL_CLOSE = _UNTIL_CLOSE
cdef Py_ssize_t JOIN_LIMIT = _JOIN_LIMIT

include "_codec_octets.pxi"


# Rules that both directions have in common


cdef inline int minor_version(Text* text, Py_ssize_t place) noexcept nogil:
    """The minor version in the `HTTP/1.0` or `HTTP/1.1` that is there; -1 if it is neither."""
    cdef const char* version = b"HTTP/1."
    cdef Py_ssize_t i
    for i in range(7):
        if octet_at(text, place + i) != <unsigned char>version[i]:
            return -1
    if octet_at(text, place + 7) == c"1":
        return 1
    return 0 if octet_at(text, place + 7) == c"0" else -1


cdef struct Framing:
    bint chunked
    bint has_length
    Py_ssize_t length


# What frames a body is taken only without blanks behind it: llhttp has its own mind about those.


cdef inline bint read_coding(Text* text, Span value, Framing* framing) noexcept nogil:
    if octet_at(text, value.end) != c"\r":
        return False
    if framing.chunked or framing.has_length or not says(text, value, b"chunked", 7):
        return False
    framing.chunked = True
    return True


cdef inline bint read_length(Text* text, Span value, Framing* framing) noexcept nogil:
    if framing.chunked or framing.has_length or octet_at(text, value.end) != c"\r":
        return False
    framing.length = number(text, value, MAX_DIGITS)
    framing.has_length = True
    return framing.length >= 0


cdef struct Options:
    bint close
    bint keep_alive


cdef inline bint read_options(Text* text, Span value, Options* options) noexcept nogil:
    """The options of a Connection field; false if one names a field that has to be removed."""
    cdef Span member
    while value.start < value.end:
        member = next_member(text, &value)
        if member.start == member.end:
            continue
        if says(text, member, b"close", 5):
            options.close = True
        elif says(text, member, b"keep-alive", 10):
            options.keep_alive = True
        elif not says(text, member, b"upgrade", 7) and not says(text, member, b"te", 2):
            return False
    return True


cdef inline bint persists(Options* options, int minor) noexcept nogil:
    return not options.close and (minor == 1 or options.keep_alive)


include "_codec_requests.pxi"
include "_codec_responses.pxi"

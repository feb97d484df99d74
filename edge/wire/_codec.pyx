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

cdef enum:
    # Stretches of fields that are passed on as they came. Between two of them there is a field that
    # is not: a browser's head has two or three.
    MAX_RUNS = 24
    MAX_DIGITS = 18  # of a Content-Length, as in `framing`
    MAX_HOST = 253  # characters, as in `hosts`

# What octets are, by the rules of the pure readers.
cdef unsigned char TOKEN[256]
cdef unsigned char HOST_CHAR[256]
cdef unsigned char LOWER[256]
cdef unsigned char FOLDED[256]  # and `_` is `-`, because CGI and WSGI read both as one name

cdef int fill_tables() except -1:
    cdef int i
    for i in range(256):
        octet = bytes((i,))
        TOKEN[i] = _fields.TOKEN.fullmatch(octet) is not None
        HOST_CHAR[i] = octet.isalnum() or octet in b"_~-"
        LOWER[i] = octet.lower()[0]
        FOLDED[i] = octet.lower().replace(b"_", b"-")[0]
    return 0

fill_tables()


# Reading within bounds


cdef struct Text:
    octets start
    Py_ssize_t size


cdef struct Span:
    # Octets from `start`, up to `end`; both are places in a Text.
    Py_ssize_t start
    Py_ssize_t end


cdef inline Text text_of(bytes data) noexcept:
    return Text(<octets>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


cdef inline unsigned char octet_at(Text* text, Py_ssize_t place) noexcept nogil:
    return text.start[place] if <size_t>place < <size_t>text.size else 0


cdef inline bint line_at(Text* text, Py_ssize_t start, Span* line) noexcept nogil:
    """Cut out the line that begins at `start`, without its CRLF; false if its end has not come."""
    cdef octets found
    if <size_t>start >= <size_t>text.size:
        return False
    found = <octets>memchr(text.start + start, c"\n", text.size - start)
    if found == NULL:
        return False
    line.start = start
    line.end = found - text.start - 1
    return line.end >= start and text.start[line.end] == c"\r"


cdef inline Span trimmed(Text* text, Span span) noexcept nogil:
    """`span` without the blanks around it."""
    while span.start < span.end and octet_at(text, span.start) in (c" ", c"\t"):
        span.start += 1
    while span.start < span.end and octet_at(text, span.end - 1) in (c" ", c"\t"):
        span.end -= 1
    return span


cdef inline bint is_value(Text* text, Span span) noexcept nogil:
    """Whether all of it may be in a field's value (RFC 9110 section 5.5), or in a reason phrase."""
    cdef unsigned char bad = 0, c
    cdef Py_ssize_t i
    if span.start < 0 or span.end > text.size:
        return False
    # Without a way out of the loop, so that the compiler can take 16 octets at once (`-O3`).
    for i in range(span.start, span.end):
        c = text.start[i]
        bad |= ((c < 0x20) & (c != 0x09)) | (c == 0x7f)
    return bad == 0


cdef inline Py_ssize_t name_end(Text* text, Span line) noexcept nogil:
    """Where the name of a field ends, at its colon; 0 if it has none (RFC 9112 section 5.1)."""
    cdef Py_ssize_t i = line.start
    while i < line.end and TOKEN[octet_at(text, i)]:
        i += 1
    return i if i > line.start and octet_at(text, i) == c":" else 0


cdef inline bint same(
    Text* text, Span span, const char* word, Py_ssize_t size, const unsigned char* folded
) noexcept nogil:
    cdef Py_ssize_t i
    if span.end - span.start != size:
        return False
    for i in range(size):
        if folded[octet_at(text, span.start + i)] != <unsigned char>word[i]:
            return False
    return True


cdef inline bint says(Text* text, Span span, const char* word, Py_ssize_t size) noexcept nogil:
    """Whether it is `word` (lower case) in any case."""
    return same(text, span, word, size, LOWER)


cdef inline bint is_called(Text* text, Span name, const char* word, Py_ssize_t size) noexcept nogil:
    """Whether some program could take it for the field `word`."""
    return same(text, name, word, size, FOLDED)


cdef inline Py_ssize_t number(Text* text, Span span, Py_ssize_t max_digits) noexcept nogil:
    """The number that it is, with 1 to `max_digits` digits; -1 if it is none."""
    cdef Py_ssize_t value = 0, i
    cdef unsigned char c
    if not 0 < span.end - span.start <= max_digits:
        return -1
    for i in range(span.start, span.end):
        c = octet_at(text, i)
        if not c"0" <= c <= c"9":
            return -1
        value = value * 10 + (c - c"0")
    return value


cdef inline Span next_member(Text* text, Span* rest) noexcept nogil:
    """Cut the first member off a list (RFC 9110 section 5.6.1); it may be empty."""
    cdef Py_ssize_t i = rest.start
    cdef Span member
    while i < rest.end and octet_at(text, i) != c",":
        i += 1
    member = Span(rest.start, i)
    rest.start = i + 1
    return trimmed(text, member)


cdef inline bytes cut(Text* text, Span span):
    if not 0 <= span.start <= span.end <= text.size:
        raise SystemError("a span lies outside its text")
    return PyBytes_FromStringAndSize(<const char*>text.start + span.start, span.end - span.start)


# Writing within bounds


cdef struct Runs:
    Py_ssize_t count
    Py_ssize_t size  # octets of all of them
    Span run[MAX_RUNS]


cdef inline bint keep(Runs* runs, Py_ssize_t start, Py_ssize_t end) noexcept nogil:
    """Pass on what is between; false if there are too many pieces."""
    runs.size += end - start
    if runs.count and runs.run[runs.count - 1].end == start:
        runs.run[runs.count - 1].end = end
        return True
    if runs.count == MAX_RUNS:
        return False
    runs.run[runs.count] = Span(start, end)
    runs.count += 1
    return True


cdef struct Writer:
    char* place
    Py_ssize_t room  # negative once something did not fit


cdef inline void put(Writer* to, const char* source, Py_ssize_t size) noexcept nogil:
    if 0 <= size <= to.room:
        memcpy(to.place, source, size)
        to.place += size
        to.room -= size
    else:
        to.room = -1


cdef inline void put_bytes(Writer* to, bytes source) noexcept:
    put(to, PyBytes_AS_STRING(source), PyBytes_GET_SIZE(source))


cdef inline void put_span(Writer* to, Text* text, Span span) noexcept nogil:
    if 0 <= span.start <= span.end <= text.size:
        put(to, <const char*>text.start + span.start, span.end - span.start)
    else:
        to.room = -1


cdef inline void put_runs(Writer* to, Text* text, Runs* runs) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(runs.count):
        put_span(to, text, runs.run[i])


cdef inline bytes written(bytes whole, Writer* to):
    if to.room != 0:
        raise SystemError("a head has another size than was worked out")
    return whole


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


# Requests


cdef enum Kind:
    KEPT
    DROPPED
    UNUSUAL
    HOST
    CONTENT_LENGTH
    TRANSFER_ENCODING
    CONNECTION
    EXPECT
    MAX_FORWARDS
    FORWARDED  # what proxies before have said, Via and X-Request-Id among it


cdef Kind request_kind(Text* text, Span name) noexcept nogil:
    """What a field is to a proxy."""
    cdef Py_ssize_t size = name.end - name.start
    cdef unsigned char first = FOLDED[octet_at(text, name.start)]
    if first == c"x":
        if size >= 12 and is_called(
            text, Span(name.start, name.start + 12), b"x-forwarded-", 12
        ):
            return FORWARDED
        if is_called(text, name, b"x-real-ip", 9) or is_called(text, name, b"x-request-id", 12):
            return FORWARDED
    elif first == c"h":
        if is_called(text, name, b"host", 4):
            return HOST
        if is_called(text, name, b"http2-settings", 14):
            return DROPPED
    elif first == c"c":
        if is_called(text, name, b"connection", 10):
            return CONNECTION
        if is_called(text, name, b"content-length", 14):
            return CONTENT_LENGTH
    elif first == c"t":
        if is_called(text, name, b"te", 2) or is_called(text, name, b"trailer", 7):
            return DROPPED
        if is_called(text, name, b"transfer-encoding", 17):
            return TRANSFER_ENCODING
    elif first == c"p":
        if (
            is_called(text, name, b"proxy", 5)
            or is_called(text, name, b"proxy-connection", 16)
            or is_called(text, name, b"proxy-authorization", 19)
        ):
            return DROPPED
    elif first == c"k":
        if is_called(text, name, b"keep-alive", 10):
            return DROPPED
    elif first == c"e":
        if is_called(text, name, b"expect", 6):
            return EXPECT
    elif first == c"f":
        if is_called(text, name, b"forwarded", 9):
            return FORWARDED
    elif first == c"v":
        if is_called(text, name, b"via", 3):
            return FORWARDED
    elif first == c"m":
        if is_called(text, name, b"max-forwards", 12):
            return MAX_FORWARDS
    elif first == c"u":
        if is_called(text, name, b"upgrade", 7):
            return UNUSUAL
    return KEPT


cdef inline bint has_underscore(Text* text, Span name) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(name.start, name.end):
        if octet_at(text, i) == c"_":
            return True
    return False


cdef Span host_of(Text* text, Span authority) noexcept nogil:
    """The host in `host[:port]`, without a trailing dot; empty if it is not a name, or malformed."""
    cdef Py_ssize_t i = authority.start, label = authority.start
    cdef Span host, none = Span(0, 0)
    while i < authority.end:
        if octet_at(text, i) == c".":
            if i == label:
                return none
            label = i + 1
        elif not HOST_CHAR[octet_at(text, i)]:
            break
        i += 1
    host = Span(authority.start, i)
    if i < authority.end:
        if octet_at(text, i) != c":" or not 0 <= number(text, Span(i + 1, authority.end), 5) < 65536:
            return none
    if host.start < host.end and label == i:
        host.end -= 1
    return host if 0 < host.end - host.start <= MAX_HOST else none


cdef inline str lower_text(Text* text, Span span):
    cdef char lower[MAX_HOST]
    cdef Py_ssize_t size = span.end - span.start, i
    if not 0 <= size <= MAX_HOST:
        raise SystemError("a host is longer than a host can be")
    for i in range(size):
        lower[i] = <char>LOWER[octet_at(text, span.start + i)]
    return PyUnicode_DecodeASCII(lower, size, NULL)


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class RequestFields:
    """As `request_head.RequestFields`, of an ordinary request."""

    cdef bytes _head  # as it came
    cdef Py_ssize_t _start  # of the fields, at the CRLF before them
    cdef dict _forwarded
    cdef readonly bytes authority
    cdef readonly str host
    cdef readonly Py_ssize_t length
    cdef readonly int minor
    cdef readonly bint keep_alive
    cdef readonly bint default_handling
    cdef readonly bint expects_continue
    cdef readonly bytes max_forwards
    cdef public bytes user_agent

    def __repr__(self):
        return f"<RequestFields host={self.host!r} length={self.length}>"

    @property
    def raw(self):
        return self._head[self._start:]

    @property
    def forwarded(self):
        return {} if self._forwarded is None else self._forwarded

    @property
    def upgrade(self):
        return ()

    def value(self, bytes name not None):
        cdef Text text = text_of(self._head)
        cdef Span line
        cdef Py_ssize_t start = self._start + 2, colon
        cdef list values = []
        while line_at(&text, start, &line):
            colon = name_end(&text, line)
            if colon and says(
                &text, Span(line.start, colon), PyBytes_AS_STRING(name), PyBytes_GET_SIZE(name)
            ):
                values.append(cut(&text, trimmed(&text, Span(colon + 1, line.end))))
            start = line.end + 2
        return values[0] if len(values) == 1 else b", ".join(values)


@cython.final
@cython.no_gc
cdef class RequestReader:
    """As `request_reader.RequestReader`."""

    cdef object _peer
    cdef bytes _forwarding
    cdef object _request_id_lines
    cdef unsigned int _max_target, _max_head, _max_fields
    cdef bint _trusted, _with_forwarded

    def __init__(self, peer, unsigned int max_target, unsigned int max_head,
                 unsigned int max_fields, request_id_lines):
        self._peer = peer
        self._forwarding = peer.forwarding
        self._trusted = peer.trusted
        self._with_forwarded = peer.with_forwarded
        self._max_target = max_target
        self._max_head = max_head
        self._max_fields = max_fields
        self._request_id_lines = request_id_lines

    def __repr__(self):
        return f"<RequestReader of {self._peer!r}>"

    def read(self, bytes data not None):
        """As the pure one's."""
        taken = self.take(data)
        if taken is None:
            taken = _PureRequestReader(
                self._peer,
                self._max_target,
                self._max_head,
                self._max_fields,
                self._request_id_lines,
            ).read(data)
        return taken

    cpdef tuple take(self, bytes data):
        """The request, if it is an ordinary one, and there as a whole."""
        cdef Text text = text_of(data)
        cdef Span line, name, value, method, target, authority, host
        cdef Span max_forwards = Span(0, 0)
        cdef Py_ssize_t place, colon, fields_start
        cdef unsigned int count = 0
        cdef int minor
        cdef Kind kind
        cdef Runs runs
        cdef Framing framing = Framing(False, False, 0)
        cdef Options options = Options(False, False)
        cdef bint has_host = False, expects_continue = False, has_max_forwards = False
        cdef dict said = None
        cdef RequestFields fields

        # The request line (RFC 9112 section 3)
        if not line_at(&text, 0, &line) or line.end > self._max_target:
            return None
        place = 0
        while TOKEN[octet_at(&text, place)]:
            place += 1
        method = Span(0, place)
        if place == 0 or octet_at(&text, place) != c" " or octet_at(&text, place + 1) != c"/":
            return None
        if says(&text, method, b"connect", 7):
            return None
        place += 1
        target.start = place
        while 0x20 < octet_at(&text, place) < 0x7f and octet_at(&text, place) != c"#":
            place += 1
        target.end = place
        if line.end - place != 9 or octet_at(&text, place) != c" ":
            return None
        minor = minor_version(&text, place + 1)
        if minor < 0:
            return None

        # The fields
        runs.count = 0
        runs.size = 0
        authority = Span(0, 0)
        fields_start = line.end
        while True:
            if not line_at(&text, line.end + 2, &line):
                return None
            if line.start == line.end:
                break
            count += 1
            colon = name_end(&text, line)
            if colon == 0 or not is_value(&text, Span(colon + 1, line.end)):
                return None
            name = Span(line.start, colon)
            kind = request_kind(&text, name)
            if kind == KEPT:
                if not keep(&runs, line.start - 2, line.end):
                    return None
                continue
            if has_underscore(&text, name):
                return None
            value = trimmed(&text, Span(colon + 1, line.end))
            if kind == FORWARDED:
                if said is None:
                    said = {}
                said.setdefault(cut(&text, name).lower(), []).append(cut(&text, value))
            elif kind == HOST:
                if has_host:
                    return None
                has_host = True
                authority = value
            elif kind == CONNECTION:
                if not read_options(&text, value, &options):
                    return None
            elif kind == TRANSFER_ENCODING:
                if not minor or not read_coding(&text, value, &framing):
                    return None
            elif kind == CONTENT_LENGTH:
                if not read_length(&text, value, &framing):
                    return None
                if not keep(&runs, line.start - 2, line.end):
                    return None
            elif kind == EXPECT:
                if not minor or expects_continue or not says(&text, value, b"100-continue", 12):
                    return None
                expects_continue = True
                if not keep(&runs, line.start - 2, line.end):
                    return None
            elif kind == MAX_FORWARDS:
                if has_max_forwards or not keep(&runs, line.start - 2, line.end):
                    return None
                has_max_forwards = True
                max_forwards = value
            elif kind == UNUSUAL:
                return None
        place = line.end + 2  # behind the head
        host = host_of(&text, authority)
        if host.start == host.end or count > self._max_fields or place > self._max_head:
            return None

        fields = RequestFields.__new__(RequestFields)
        fields._head = data if place == text.size else cut(&text, Span(0, place))
        fields._start = fields_start
        fields._forwarded = said
        fields.authority = cut(&text, authority)
        fields.host = lower_text(&text, host)
        fields.length = CHUNKED if framing.chunked else framing.length
        fields.minor = minor
        fields.keep_alive = persists(&options, minor)
        fields.default_handling = fields.keep_alive and minor == 1
        fields.expects_continue = expects_continue
        fields.max_forwards = cut(&text, max_forwards) if has_max_forwards else None
        fields.user_agent = None
        return self._compose(&text, method, target, fields, &runs, place)

    cdef tuple _compose(self, Text* text, Span method, Span target, RequestFields fields,
                        Runs* runs, Py_ssize_t size):
        cdef bytes lines, head, request_id_line = b""
        cdef bytes authority = fields.authority
        cdef Writer to
        cdef Py_ssize_t room
        cdef bint plain = not self._with_forwarded
        if fields._forwarded is not None and (self._trusted or b"via" in fields._forwarded):
            plain = False
            if self._trusted and b"x-request-id" in fields._forwarded:
                request_id_line = line_for(fields._forwarded[b"x-request-id"])
        lines = self._forwarding if plain else forwarding_lines(fields, self._peer)
        if not request_id_line:
            request_id_line = next(self._request_id_lines)
        room = (
            method.end - method.start + 1 + target.end - target.start + 17
            + PyBytes_GET_SIZE(authority) + runs.size + PyBytes_GET_SIZE(lines) + 2
            + PyBytes_GET_SIZE(request_id_line)
        )
        if plain:
            room += PyBytes_GET_SIZE(authority) + 19
        if fields.length == CHUNKED:
            room += 28
        head = PyBytes_FromStringAndSize(NULL, room)
        to = Writer(PyBytes_AS_STRING(head), room)
        put_span(&to, text, method)
        put(&to, b" ", 1)
        put_span(&to, text, target)
        put(&to, b" HTTP/1.1\r\nHost: ", 17)
        put_bytes(&to, authority)
        put_runs(&to, text, runs)
        put_bytes(&to, lines)
        if plain:
            put_bytes(&to, authority)
            put(&to, b"\r\nVia: 1.1 fairlead" if fields.minor else b"\r\nVia: 1.0 fairlead", 19)
        put(&to, b"\r\n", 2)
        if fields.length == CHUNKED:
            put(&to, b"Transfer-Encoding: chunked\r\n", 28)
        put_bytes(&to, request_id_line)
        return (
            cut(text, method),
            cut(text, target),
            fields,
            written(head, &to),
            request_id_line,
            size,
        )


# Responses


cdef enum ResponseKind:
    PASSED
    LEFT_OUT
    ODD
    SERVER
    DATE
    LENGTH
    CODING
    OPTIONS
    KEEP_ALIVE


cdef ResponseKind response_kind(Text* text, Span name) noexcept nogil:
    """What a field is to a proxy."""
    cdef unsigned char first = LOWER[octet_at(text, name.start)]
    if first == c"c":
        if says(text, name, b"content-length", 14):
            return LENGTH
        if says(text, name, b"connection", 10):
            return OPTIONS
    elif first == c"d":
        if says(text, name, b"date", 4):
            return DATE
    elif first == c"s":
        if says(text, name, b"server", 6):
            return SERVER
    elif first == c"t":
        if says(text, name, b"transfer-encoding", 17):
            return CODING
        if says(text, name, b"te", 2) or says(text, name, b"trailer", 7):
            return LEFT_OUT
    elif first == c"k":
        if says(text, name, b"keep-alive", 10):
            return KEEP_ALIVE
    elif first == c"p":
        if name.end - name.start >= 6 and says(
            text, Span(name.start, name.start + 6), b"proxy-", 6
        ):
            return LEFT_OUT
    elif first == c"u":
        if says(text, name, b"upgrade", 7):
            return ODD
    elif first == c"x":
        if says(text, name, b"x-request-id", 12):
            return LEFT_OUT
    return PASSED


cdef inline Py_ssize_t keep_alive_timeout(Text* text, Span value) noexcept nogil:
    """Seconds in `timeout=N` (RFC 2068 section 19.7.1); -1 if unsaid."""
    cdef Span member
    cdef Py_ssize_t seconds
    while value.start < value.end:
        member = next_member(text, &value)
        if member.end - member.start > 8 and says(
            text, Span(member.start, member.start + 8), b"timeout=", 8
        ):
            seconds = number(text, Span(member.start + 8, member.end), 6)
            if seconds >= 0:
                return seconds
    return -1


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class ResponseHead:
    """As `response_head.ResponseHead`, of an ordinary response."""

    cdef bytes _start  # it begins with `fields`
    cdef Py_ssize_t _fields_size
    cdef Py_ssize_t _keep_alive_seconds  # -1 if unsaid
    cdef readonly Py_ssize_t size
    cdef readonly int status
    cdef readonly Py_ssize_t framing_length
    cdef readonly Py_ssize_t passthrough_length
    cdef readonly bint keep_alive
    cdef readonly bint has_date
    cdef public tuple changed

    def __repr__(self):
        return f"<ResponseHead {self.status} framing_length={self.framing_length}>"

    @property
    def fields(self):
        return self._start[:self._fields_size]

    @property
    def keep_alive_seconds(self):
        return None if self._keep_alive_seconds < 0 else self._keep_alive_seconds

    @property
    def upgrade(self):
        return ()

    def length(self, bytes method not None):
        return 0 if self.lacks_body() or method == b"HEAD" else self.framing_length

    cdef bint lacks_body(self):
        """Whatever its fields say (RFC 9112 section 6.3, step 1)."""
        return self.status < 200 or self.status == 204 or self.status == 304


@cython.final
@cython.no_gc
cdef class ResponseReader:
    """As `response_reader.ResponseReader`."""

    cdef unsigned int _max_head, _max_fields
    cdef bint _hide_server

    def __init__(self, unsigned int max_head, unsigned int max_fields, bint hide_server):
        self._max_head = max_head
        self._max_fields = max_fields
        self._hide_server = hide_server

    def read(self, bytes data not None, bytes request_id_line not None):
        """As the pure one's."""
        taken = self.take(data, request_id_line)
        if taken is None:
            taken = _PureResponseReader(
                self._max_head, self._max_fields, self._hide_server
            ).read(data, request_id_line)
        return taken

    cpdef tuple take(self, bytes data, bytes request_id_line):
        """The head and the response's beginning, if it is an ordinary one, and there as a whole."""
        cdef Text text = text_of(data)
        cdef Span line, name, value, reason
        cdef Py_ssize_t place, colon, status, seconds = -1
        cdef unsigned int count = 0
        cdef int minor
        cdef ResponseKind kind
        cdef Runs runs
        cdef Framing framing = Framing(False, False, 0)
        cdef Options options = Options(False, False)
        cdef bint has_date = False, has_keep_alive = False
        cdef ResponseHead head

        # The status line (RFC 9112 section 4)
        if not line_at(&text, 0, &line):
            return None
        minor = minor_version(&text, 0)
        status = number(&text, Span(9, 12), 3)
        # Interim ones, and the one whose Upgrade is for the client, are for the pure reader.
        if minor < 0 or octet_at(&text, 8) != c" " or status < 200 or status == 426:
            return None
        reason = Span(12, line.end)
        if line.end > 12:
            if octet_at(&text, 12) != c" ":
                return None
            reason = Span(13, line.end)
        elif line.end < 12:
            return None
        if not is_value(&text, reason):
            return None

        # The fields
        runs.count = 0
        runs.size = 0
        while True:
            if not line_at(&text, line.end + 2, &line):
                return None
            if line.start == line.end:
                break
            count += 1
            colon = name_end(&text, line)
            if colon == 0 or not is_value(&text, Span(colon + 1, line.end)):
                return None
            name = Span(line.start, colon)
            kind = response_kind(&text, name)
            if kind == DATE:
                has_date = True
            elif kind == SERVER:
                if self._hide_server:
                    continue
            elif kind != PASSED:
                value = trimmed(&text, Span(colon + 1, line.end))
                if kind == LENGTH:
                    if not read_length(&text, value, &framing):
                        return None
                    # No content, so no length either (RFC 9110 section 8.6).
                    if status == 204:
                        continue
                elif kind == OPTIONS:
                    if not read_options(&text, value, &options):
                        return None
                    continue
                elif kind == CODING:
                    if not minor or not read_coding(&text, value, &framing):
                        return None
                    continue
                elif kind == KEEP_ALIVE:
                    if has_keep_alive:
                        return None
                    has_keep_alive = True
                    seconds = keep_alive_timeout(&text, value)
                    continue
                elif kind == LEFT_OUT:
                    continue
                else:
                    return None
            if not keep(&runs, line.start - 2, line.end):
                return None
        place = line.end + 2  # behind the head
        if count > self._max_fields or place > self._max_head:
            return None

        head = ResponseHead.__new__(ResponseHead)
        head.size = place
        head.status = <int>status
        head.keep_alive = persists(&options, minor)
        head.has_date = has_date
        head.changed = None
        head._keep_alive_seconds = seconds
        if framing.chunked:
            head.framing_length = CHUNKED
        else:
            head.framing_length = framing.length if framing.has_length else UNTIL_CLOSE
        if not has_date:
            head.passthrough_length = -1
        elif head.lacks_body():
            head.passthrough_length = 0
        else:
            head.passthrough_length = max(head.framing_length, -1)
        return self._compose(&text, head, reason, &runs, request_id_line)

    cdef tuple _compose(self, Text* text, ResponseHead head, Span reason, Runs* runs,
                        bytes request_id_line):
        cdef Py_ssize_t came = text.size - head.size, room
        cdef bint chunked = head.passthrough_length < 0
        cdef bint begins = (
            head.has_date
            and PyBytes_GET_SIZE(request_id_line) > 0
            and (chunked or came <= head.passthrough_length)
        )
        cdef bint joined = begins and came == head.passthrough_length and came <= JOIN_LIMIT
        cdef Writer to
        cdef bytes start
        head._fields_size = 13 + reason.end - reason.start + runs.size + 2
        room = head._fields_size
        if begins:
            room += PyBytes_GET_SIZE(request_id_line)
            if chunked:
                room += 28
        if joined:
            room += came
        start = PyBytes_FromStringAndSize(NULL, room)
        to = Writer(PyBytes_AS_STRING(start), room)
        put(&to, b"HTTP/1.1 ", 9)
        put_span(&to, text, Span(9, 12))
        put(&to, b" ", 1)
        put_span(&to, text, reason)
        put_runs(&to, text, runs)
        put(&to, b"\r\n", 2)
        if begins:
            if chunked:
                put(&to, b"Transfer-Encoding: chunked\r\n", 28)
            put_bytes(&to, request_id_line)
        if joined:
            put_span(&to, text, Span(head.size, text.size))
        head._start = written(start, &to)
        return (head, start if begins else b"")

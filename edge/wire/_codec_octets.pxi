"""Owns reading octets within their bounds, and writing them. Part of `_codec.pyx`."""

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

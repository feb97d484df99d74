"""Owns ordinary responses: their head, and who reads them. Part of `_codec.pyx`."""

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

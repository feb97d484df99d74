"""Owns ordinary requests: their fields, and who reads them. Part of `_codec.pyx`."""

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

"""Owns how the heads of one upstream's responses are read, and the heads that clients get for them.
Pure; no I/O.

`ResponseReader` is what `codec` takes where the compiled one is not there, and what that one means:
for the same bytes both return the same, and raise the same.
"""

from typing import Final

from edge.wire.framing import FramingError
from edge.wire.response_head import ResponseHead, check_incomplete_response, parse_response_head

# Heads up to this size are remembered per connection, to compare the next one with. Larger ones
# are rare, and 10,000 connections would make them expensive.
MEMO_LIMIT: Final = 4096

# A body up to this size is joined with its head: one buffer is cheaper to send than two. Beyond it
# the copy costs more (a response of 64 KiB: 76 us joined, 61 us apart).
JOIN_LIMIT: Final = 16 * 1024


CHUNKED_LINE: Final = b"Transfer-Encoding: chunked\r\n"


class ResponseReader:
    """Reads the responses of one connection.

    `max_head` is bytes, `max_fields` is a count; `hide_server` takes the field Server away.

    Many upstreams send the same head again and again: it is compared with the one before, and
    parsed only if it differs.
    """

    __slots__ = ("_hide_server", "_max_fields", "_max_head", "_memo")

    def __init__(self, max_head: int, max_fields: int, hide_server: bool) -> None:
        self._max_head = max_head
        self._max_fields = max_fields
        self._hide_server = hide_server
        self._memo: ResponseHead | None = None  # of the response before

    def read(self, data: bytes, request_id_line: bytes) -> tuple[ResponseHead, bytes] | None:
        """The head that `data` begins with, and the beginning of the response for the client; None
        if the head is incomplete.

        The client stays connected and understands HTTP/1.1, and its response ends the head with
        `request_id_line`; if that is empty, more has to be changed, and there is no beginning.
        Nor is there one for an interim response, for one without Date, and where more has come
        than the head allows. A body that is there as a whole is joined to its head up to
        `JOIN_LIMIT`; one whose length is not known is to follow in chunks. Raises `FramingError`.
        """
        head = self._memo
        if head is None or not data.startswith(head.raw):
            end = data.find(b"\r\n\r\n") + 4
            if end < 4:
                check_incomplete_response(data, self._max_head)
                return None
            if end > self._max_head:
                raise FramingError("head too large")
            head = parse_response_head(data[:end], self._max_fields, self._hide_server)
            if head.status >= 200 and end <= MEMO_LIMIT:
                self._memo = head
        size = head.size
        length = len(data) - size
        if not request_id_line or not head.has_date or head.status < 200:
            return head, b""
        if head.passthrough_length < 0:
            return head, head.fields + CHUNKED_LINE + request_id_line
        if length > head.passthrough_length:
            return head, b""
        if length < head.passthrough_length or length > JOIN_LIMIT:
            return head, head.fields + request_id_line
        return head, b"".join((head.fields, request_id_line, data[size:]))

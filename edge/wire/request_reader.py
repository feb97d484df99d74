"""Owns how the heads of one client's requests are read, and the heads that upstreams get for them.
Pure; no I/O.

`RequestReader` is what `codec` takes where the compiled one is not there, and what that one means:
for the same bytes both return the same, and raise the same.
"""

from collections.abc import Iterator
from typing import Final

from edge.errors import HttpError
from edge.hosts import parse_authority
from edge.wire.forwarding import Peer, compose_fields
from edge.wire.request_head import (
    REQUEST_LINE_OVERHEAD,
    RequestFields,
    match_request_line,
    parse_request_fields,
    split_absolute_form,
)
from edge.wire.request_id import line_for

# Field sections up to this size are remembered per connection, to compare the next one with.
MEMO_LIMIT: Final = 4096

# Method, target in origin-form or `*`, field section, the head for an upstream to which nothing of
# it is changed, the line of the request's id that ends it, the size of the head as it came. A
# tuple: one object more for each request is 0.4 us without a compiler.
ReadRequest = tuple[bytes, bytes, RequestFields, bytes, bytes, int]


class RequestReader:
    """Reads the requests of `peer`, each from a head that is whole.

    `max_target` and `max_head` are bytes, `max_fields` is a count. `request_id_lines` gives a line
    (`request_id.new_lines`) to each request that brings no id of its own.

    Most clients send the same fields again and again: the section is compared with the one before,
    and parsed only if it differs.
    """

    __slots__ = (
        "_fields",
        "_max_fields",
        "_max_head",
        "_max_target",
        "_peer",
        "_request_id_line",
        "_request_id_lines",
        "_section",
    )

    def __init__(
        self,
        peer: Peer,
        max_target: int,
        max_head: int,
        max_fields: int,
        request_id_lines: Iterator[bytes],
    ) -> None:
        self._peer = peer
        self._max_target = max_target
        self._max_head = max_head
        self._max_fields = max_fields
        self._request_id_lines = request_id_lines
        # Of the request before
        self._fields: RequestFields | None = None
        self._section = b""  # for the upstream
        self._request_id_line = b""  # empty, unless a trusted proxy has given it an id

    def __repr__(self) -> str:
        return f"<RequestReader of {self._peer!r}>"

    def read(self, data: bytes) -> ReadRequest | None:
        """The request whose head `data` begins with; None if no request line is there, or no end.

        Raises `HttpError`: 400 and 501 for what must not go on, 414 and 431 for what is too large,
        417 for an unknown expectation.
        """
        line = match_request_line(data)
        if line is None:
            return None
        method, target, version = line.groups()
        minor = 1 if version == b"1" else 0
        start = line.end() - 2
        if start > self._max_target and (
            len(target) > self._max_target or start > self._max_target + REQUEST_LINE_OVERHEAD
        ):
            raise HttpError(414, "the request target is too long")
        fields = self._fields
        if fields is None or not data.startswith(fields.raw, start) or fields.minor != minor:
            end = data.find(b"\r\n\r\n", start) + 4
            if end < 4:
                return None
            if end > self._max_head:
                raise HttpError(431, "the request head is too large")
            fields = parse_request_fields(data[start:end], minor, self._max_fields)
            self._compose(fields)
            self._fields = fields if end - start <= MEMO_LIMIT else None
        if not target.startswith(b"/") or method == b"CONNECT":
            target = self._normalized_target(method, target, fields)
        request_id_line = self._request_id_line or next(self._request_id_lines)
        return (
            method,
            target,
            fields,
            b"".join((method, b" ", target, b" HTTP/1.1\r\n", self._section, request_id_line)),
            request_id_line,
            start + len(fields.raw),
        )

    def _compose(self, fields: RequestFields) -> None:
        peer = self._peer
        self._section = compose_fields(fields, peer)
        said = fields.forwarded.get(b"x-request-id")
        self._request_id_line = line_for(said) if said and peer.trusted else b""

    def _normalized_target(self, method: bytes, target: bytes, fields: RequestFields) -> bytes:
        """The target in origin-form or `*`, for one that did not come in origin-form.

        RFC 9112 section 3.2: in absolute-form its authority replaces the Host.
        """
        if method == b"CONNECT":
            raise HttpError(501, "CONNECT is not supported")
        if target == b"*" and method == b"OPTIONS":
            return target
        split = split_absolute_form(target, method)
        if split is None:
            raise HttpError(400, "the request target is malformed")
        authority, target = split
        fields.host = parse_authority(authority)
        fields.authority = authority
        self._fields = None
        self._compose(fields)
        return target

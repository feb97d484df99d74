"""Owns how the two head codecs are asked, and what of their answers has to be the same."""

from itertools import repeat
from typing import Any

import pytest

from edge.errors import HttpError
from edge.settings.syntax import parse_networks
from edge.wire import request_reader, response_reader
from edge.wire.forwarding import Peer
from edge.wire.framing import FramingError
from edge.wire.request_head import RequestFields
from edge.wire.response_head import ResponseHead

try:
    from edge.wire import _codec
except ImportError:
    COMPILED = False
else:
    COMPILED = True

needs_compiled = pytest.mark.skipif(not COMPILED, reason="the compiled head codec is not built")

CODECS = [
    pytest.param("pure"),
    pytest.param("compiled", marks=needs_compiled),
]


def request_reader_class(codec: str) -> type[request_reader.RequestReader]:
    """That of a codec in `CODECS`."""
    return request_reader.RequestReader if codec == "pure" else _codec.RequestReader


def response_reader_class(codec: str) -> type[response_reader.ResponseReader]:
    """That of a codec in `CODECS`."""
    return response_reader.ResponseReader if codec == "pure" else _codec.ResponseReader


ID_LINE = b"X-Request-Id: 7\r\n\r\n"

STRANGER = Peer("192.0.2.1", ())
TRUSTED = Peer("10.0.0.1", parse_networks("10.0.0.0/8"))
PEERS = (
    STRANGER,
    TRUSTED,
    Peer("2001:db8::1", (), with_forwarded=True),
    Peer("10.0.0.1", parse_networks("10.0.0.0/8"), with_forwarded=True),
)

# Small, so that made-up heads meet them.
MAX_TARGET, MAX_HEAD, MAX_FIELDS = 64, 1024, 9

Outcome = tuple[Any, ...]


def request_reader_of(
    codec: str,
    peer: Peer = STRANGER,
    max_target: int = MAX_TARGET,
    max_head: int = MAX_HEAD,
    max_fields: int = MAX_FIELDS,
) -> request_reader.RequestReader:
    """A reader that gives every request without an id the same one."""
    make = request_reader_class(codec)
    return make(peer, max_target, max_head, max_fields, repeat(ID_LINE))


def response_reader_of(
    codec: str,
    hide_server: bool = False,
    max_head: int = MAX_HEAD,
    max_fields: int = MAX_FIELDS,
) -> response_reader.ResponseReader:
    """A reader of one connection."""
    return response_reader_class(codec)(max_head, max_fields, hide_server)


def request_outcome(reader: request_reader.RequestReader, data: bytes) -> Outcome:
    """All that anybody can learn of what a reader makes of `data`."""
    try:
        read = reader.read(data)
    except HttpError as error:
        return ("refused", error.status, str(error), error.fields, error.kind)
    if read is None:
        return ("incomplete",)
    method, target, fields, head, request_id_line, size = read
    return (
        "read",
        method,
        target,
        head,
        request_id_line,
        size,
        *meaning(fields),
    )


def meaning(fields: RequestFields) -> Outcome:
    """What a request's fields say, to whoever may ask."""
    return (
        fields.raw,
        fields.authority,
        fields.host,
        fields.length,
        fields.minor,
        fields.keep_alive,
        fields.default_handling,
        fields.expects_continue,
        fields.max_forwards,
        fields.upgrade,
        list(fields.forwarded.items()),
        fields.user_agent,
        [
            fields.value(name)
            for name in (b"user-agent", b"cookie", b"via", b"host", b"x-forwarded-for")
        ],
    )


def response_outcome(
    reader: response_reader.ResponseReader, data: bytes, request_id_line: bytes = ID_LINE
) -> Outcome:
    """All that anybody can learn of what a reader makes of `data`."""
    try:
        read = reader.read(data, request_id_line)
    except FramingError as error:
        return ("refused", str(error))
    if read is None:
        return ("incomplete",)
    head, start = read
    return ("read", start, *response_meaning(head))


def response_meaning(head: ResponseHead) -> Outcome:
    """What a response's head says, to whoever may ask."""
    return (
        head.size,
        head.status,
        head.fields,
        head.framing_length,
        head.passthrough_length,
        head.keep_alive,
        head.keep_alive_seconds,
        head.has_date,
        head.upgrade,
        head.changed,
        head.length(b"GET"),
        head.length(b"HEAD"),
    )

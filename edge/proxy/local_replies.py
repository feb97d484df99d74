"""Owns sending the edge's own responses: to a request, and to what is none."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edge.errors import HttpError
from edge.proxy.access_entry import rejection_entry
from edge.wire import local_reply
from edge.wire.request_id import id_in

if TYPE_CHECKING:
    from edge.proxy.client import ClientConnection
    from edge.proxy.exchange import Exchange


def send_error(
    exchange: "Exchange", status: int, detail: str, fields: Sequence[bytes] = ()
) -> None:
    """Answer `exchange` with an error; `fields` are more lines for its head."""
    request_id = id_in(exchange.request_id_line)
    as_json = local_reply.prefers_json(exchange.fields.value(b"accept"))
    media_type, content = local_reply.error_body(status, detail, request_id, as_json)
    send_local_reply(exchange, status, media_type, content, fields)


def send_local_reply(
    exchange: "Exchange",
    status: int,
    media_type: bytes,
    content: bytes,
    fields: Sequence[bytes] = (),
) -> None:
    """Answer `exchange`; the content is left out where it has to be."""
    client = exchange.client
    state = client.state
    route_state = exchange.route_state
    lines = [state.date_line().removesuffix(b"\r\n"), *fields]
    if media_type:
        lines.append(b"Content-Type: " + media_type)
    if route_state is not None and route_state.response_fields is not None:
        lines += route_state.response_fields.local_reply_lines
    if exchange.request_open or state.draining:
        exchange.keep_alive = False
    if not exchange.keep_alive:
        lines.append(b"Connection: close")
    elif not exchange.fields.minor:
        lines.append(b"Connection: keep-alive")
    with_content = exchange.method != b"HEAD"
    exchange.sent = len(content) if with_content else 0
    client.transport.write(
        local_reply.response(status, lines, exchange.request_id_line, content, with_content)
    )


def send_last_hop_reply(exchange: "Exchange") -> None:
    """Answer OPTIONS or TRACE that may go no further (RFC 9110 sections 9.3.7 and 9.3.8)."""
    exchange.status = 200
    if exchange.method == b"TRACE":
        content = local_reply.trace_content(exchange.request_target, exchange.fields)
        send_local_reply(exchange, 200, b"message/http", content)
    else:
        send_local_reply(exchange, 200, b"", b"")


def send_rejection(client: "ClientConnection", error: HttpError, with_content: bool) -> None:
    """Answer what is not a request, count it and log it."""
    state = client.state
    request_id_line = next(state.request_id_lines)
    request_id = id_in(request_id_line)
    media_type, content = local_reply.error_body(error.status, str(error), request_id, False)
    lines = [
        state.date_line().removesuffix(b"\r\n"),
        b"Content-Type: " + media_type,
        b"Connection: close",
    ]
    client.transport.write(
        local_reply.response(error.status, lines, request_id_line, content, with_content)
    )
    state.metrics.unrouted.record(error.status, 0.0)
    if state.access_log is not None:
        sent = len(content) if with_content else 0
        state.access_log.append(
            rejection_entry(client.peer.address, error.status, sent, request_id, str(error))
        )

"""Owns what the access log is told of an exchange, and of what never became one."""

from typing import TYPE_CHECKING

from edge.telemetry.access_record import access_record
from edge.wire.request_id import id_in

if TYPE_CHECKING:
    from edge.proxy.exchange import Exchange


def exchange_entry(exchange: "Exchange", now: float) -> bytes:
    """The line on an exchange that is over."""
    fields = exchange.fields
    client = exchange.client
    route_state = exchange.route_state
    target = exchange.target or (exchange.tried[-1] if exchange.tried else None)
    user_agent = fields.user_agent
    if user_agent is None:
        user_agent = fields.user_agent = fields.value(b"user-agent")
    return access_record(
        client=client.peer.client_address(fields),
        host=fields.host,
        method=exchange.method,
        path=exchange.request_target,
        protocol=f"HTTP/1.{fields.minor}",
        status=exchange.status,
        bytes_received=exchange.received,
        bytes_sent=exchange.sent,
        duration=now - exchange.started,
        upstream=target.address if target is not None else None,
        upstream_duration=now - exchange.upstream_started if exchange.upstream_started else None,
        request_id=id_in(exchange.request_id_line),
        user_agent=user_agent,
        route=route_state.route.key if route_state is not None else None,
        error=exchange.error,
    )


def rejection_entry(address: str, status: int, sent: int, request_id: str, error: str) -> bytes:
    """The line on what came from `address` and is no request."""
    return access_record(
        client=address,
        host="",
        method=b"",
        path=b"",
        protocol="",
        status=status,
        bytes_received=0,
        bytes_sent=sent,
        duration=0.0,
        upstream=None,
        upstream_duration=None,
        request_id=request_id,
        user_agent=b"",
        route=None,
        error=error,
    )

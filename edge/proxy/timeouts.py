"""Owns the time of an exchange: what it waits for now, until when, and what is done then.

Nobody notices a client that leaves while nothing is read from it or written to it, so one that is
held, or that has half-closed, is looked at once a second.
"""

import asyncio
import errno
import socket
from typing import TYPE_CHECKING, Final, cast

from edge.proxy.deadlines import EXPIRY, LOOKS, TIMEOUT, Expiry, Phase
from edge.proxy.failure import blame_target, fail

if TYPE_CHECKING:
    from edge.proxy.exchange import Exchange

# Seconds between two looks whether a client is still there.
CLIENT_CHECK_INTERVAL: Final = 1.0
# What it is sent: RFC 9110 section 15.2 lets any HTTP/1.1 client expect interim responses at any
# time.
_CLIENT_CHECK: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_CLOSE_WAIT: Final = 8  # the first byte of struct tcp_info, <netinet/tcp.h>


def set_deadline(exchange: "Exchange", now: float) -> None:
    """Set the deadline for what has to happen next."""
    client = exchange.client
    phase = _phase(exchange)
    if phase in LOOKS:
        timeout = _until_look(exchange, phase, now)
    else:
        timeout = getattr(exchange.route_state or client.state.settings, TIMEOUT[phase])
    client.deadline = now + timeout


def on_deadline(exchange: "Exchange", now: float) -> None:
    """The deadline has passed that was set when something was last heard."""
    phase = _phase(exchange)
    if phase is Phase.CLIENT_CHECK and not _within_response_timeout(exchange, now):
        phase = Phase.RESPONSE_HEAD
    if phase is Phase.CLIENT_WRITE and exchange.client.has_progressed():
        set_deadline(exchange, now)
    elif phase is Phase.WAITLIST:
        _check_waitlist(exchange, now)
    elif phase is Phase.CLIENT_CHECK:
        _check_client(exchange, now)
    elif phase is not Phase.RESPONSE_HEAD or exchange.upstream is not None:
        # While a connection is awaited, that has a deadline of its own.
        expire(exchange, EXPIRY[phase])


def expire(exchange: "Exchange", expiry: Expiry) -> None:
    """The time of `exchange` is over."""
    if expiry.upstream_fault:
        exchange.client.state.metrics.upstream_errors[expiry.error] += 1
        blame_target(exchange, expiry.reason)
    fail(exchange, expiry.status, expiry.reason, expiry.error)


def _phase(exchange: "Exchange") -> Phase:
    """What has to happen next."""
    client = exchange.client
    if client.write_paused:
        return Phase.CLIENT_WRITE
    if exchange.status:
        return Phase.RESPONSE_BODY
    if exchange.waitlist is not None:
        return Phase.WAITLIST
    if (
        exchange.request_open
        and not client.gate.paused
        # One that expects a 100 waits for the upstream.
        and (
            exchange.continue_received
            or exchange.received > 0
            or not exchange.fields.expects_continue
        )
    ):
        return Phase.REQUEST_BODY
    if client.half_closed and exchange.fields.minor:
        return Phase.CLIENT_CHECK
    return Phase.RESPONSE_HEAD


def _until_look(exchange: "Exchange", phase: Phase, now: float) -> float:
    """Seconds until the next look at the client, or until its wait is over."""
    if phase is Phase.CLIENT_CHECK:
        return CLIENT_CHECK_INTERVAL
    client = exchange.client
    timeout = exchange.waits_until - now
    if client.gate.paused or client.half_closed:
        timeout = min(timeout, CLIENT_CHECK_INTERVAL)
    return timeout


def _within_response_timeout(exchange: "Exchange", now: float) -> bool:
    route_state = exchange.route_state
    assert route_state is not None  # noqa: S101  what has none is answered at once
    return (
        exchange.upstream is None or now < exchange.upstream_started + route_state.response_timeout
    )


def _check_waitlist(exchange: "Exchange", now: float) -> None:
    """Held, perhaps for too long, or for a client that has left."""
    client = exchange.client
    waitlist = exchange.waitlist
    assert waitlist is not None  # noqa: S101  by the phase
    if now >= exchange.waits_until:
        exchange.reject(waitlist.timeout_error())
    elif exchange.fields.minor and (client.half_closed or _has_sent_fin(client.transport)):
        _check_client(exchange, now)
    elif _is_reset(client.transport):
        # While a body is not read, nobody else notices.
        client.transport.abort()
    else:
        set_deadline(exchange, now)


def _check_client(exchange: "Exchange", now: float) -> None:
    """Ask a client that has half-closed whether it is still there.

    A client that has no more to say and one that is gone look alike until something is sent to
    them; the second one answers with a reset.
    """
    transport = exchange.client.transport
    if not exchange.client_checked:
        exchange.client_checked = True
        transport.write(_CLIENT_CHECK)
    elif _is_reset(transport):
        transport.abort()
        return
    set_deadline(exchange, now)


def _is_reset(transport: asyncio.Transport) -> bool:
    """Whether a reset has come that no read or write has noticed yet."""
    code = _socket(transport).getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return code in (errno.ECONNRESET, errno.EPIPE)


def _has_sent_fin(transport: asyncio.Transport) -> bool:
    """Whether a FIN has come, perhaps behind data that is not read."""
    (state,) = _socket(transport).getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)
    return state == _CLOSE_WAIT


def _socket(transport: asyncio.Transport) -> socket.socket:
    return cast(socket.socket, transport.get_extra_info("socket"))

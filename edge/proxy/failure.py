"""Owns how an exchange ends without its response: refused, broken off, or left by its client."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from edge.proxy.local_replies import send_error

if TYPE_CHECKING:
    from edge.proxy.exchange import Exchange

# The status that logs and counters show for a client that left before its response, as in nginx.
CLIENT_CLOSED_REQUEST: Final = 499
CLIENT_DISCONNECTED: Final = "client disconnected"  # what the access log says of it


def fail(
    exchange: "Exchange", status: int, reason: str, error: str, fields: Sequence[bytes] = ()
) -> None:
    """End without a whole response: answer if nothing was sent yet, else break off.

    `error` is for the log, `fields` are more lines for the answer's head.
    """
    client = exchange.client
    exchange.error = error
    close_delimited = exchange.relay is not None and exchange.relay.close_delimited
    _release_upstream(exchange)
    if exchange.status:
        exchange.keep_alive = False
        exchange.account(client.state.clock())
        # A body that ends with the connection would seem complete after an orderly close.
        client.abort_response(hard=close_delimited)
        return
    exchange.status = status
    send_error(exchange, status, reason, fields)
    exchange.finish(client.state.clock())


def client_lost(exchange: "Exchange") -> None:
    """The client is gone: nobody wants the response."""
    exchange.error = exchange.error or CLIENT_DISCONNECTED
    exchange.status = exchange.status or CLIENT_CLOSED_REQUEST
    _release_upstream(exchange)
    exchange.account(exchange.client.state.clock())


def blame_target(exchange: "Exchange", reason: str) -> None:
    """It is the target's fault; `max_fails` in a row eject it."""
    route_state, target = exchange.route_state, exchange.target
    if route_state is not None and target is not None:
        exchange.client.state.health.request_failed(target, route_state.max_fails, reason)


def _release_upstream(exchange: "Exchange") -> None:
    """Give up the upstream, or the wait for one."""
    exchange.relay = None
    if exchange.upstream is not None:
        exchange.upstream.close()
        exchange.upstream = None
    elif exchange.target is not None:
        exchange.target.pool.cancel_wait(exchange)
    elif exchange.waitlist is not None:
        exchange.waitlist.cancel_wait(exchange)
        exchange.waitlist = None

"""Owns what follows when an upstream fails: another target, the same one again, or the error."""

import logging
from typing import TYPE_CHECKING, Final

from edge.errors import HttpError, ShortageError, UpstreamError
from edge.proxy.failure import blame_target, fail
from edge.proxy.pause import RETRY_AFTER

if TYPE_CHECKING:
    from edge.proxy.exchange import Exchange
    from edge.proxy.route_state import RouteState

logger = logging.getLogger(__name__)

# RFC 9110 section 9.2.2.
IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))
# Kinds of errors where nobody took the connection.
CONNECTING: Final = frozenset(("connect", "connect_timeout"))


def connecting_failed(exchange: "Exchange", error: UpstreamError) -> None:
    """The target cannot be connected to: nothing was sent, so the next one may have it."""
    target = exchange.target
    route_state = exchange.route_state
    if target is None or route_state is None:
        return
    state = exchange.client.state
    target.in_flight -= 1
    if not isinstance(error, ShortageError):
        blame_target(exchange, str(error))
    exchange.target = None
    exchange.tried += (target,)
    logger.debug("%s: %s", target.address, error)
    if len(exchange.tried) > route_state.retries:
        _unreachable(exchange, route_state, error)
        return
    try:
        exchange.connect_upstream(state.clock())
    except HttpError:
        _unreachable(exchange, route_state, error)
    else:
        state.metrics.retries += 1


def _unreachable(exchange: "Exchange", route_state: "RouteState", error: UpstreamError) -> None:
    """No target was left.

    What a managed route leads to is one container's own, and nobody else's: where nothing listens,
    it does not run now and will be started again, which is a matter of trying later (RFC 9110
    section 15.6.4), though nobody may have told us yet.
    """
    status, fields = error.status, error.fields
    if route_state.route.options.boot and error.kind in CONNECTING:
        status, fields = 503, (RETRY_AFTER,)
    fail(exchange, status, str(error), error.kind, fields)


def connection_failed(exchange: "Exchange", error: UpstreamError, retryable: bool) -> None:
    """The connection is lost or unusable. `retryable`: it was an old one, and silent."""
    metrics = exchange.client.state.metrics
    exchange.upstream = None
    metrics.upstream_errors[error.kind] += 1
    target = exchange.target
    route_state = exchange.route_state
    if (
        retryable
        and target is not None
        and route_state is not None
        and route_state.retries
        and not exchange.resent
        and not exchange.fields.length
        and exchange.method in IDEMPOTENT
    ):
        # It was closed while idle, and our request met the close half way.
        exchange.resent = True
        metrics.retries += 1
        exchange.await_connection(route_state, target, fresh=True)
        return
    blame_target(exchange, str(error))
    fail(exchange, error.status, str(error), error.kind)

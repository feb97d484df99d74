"""Owns the head of a request for a target, where the route or the method changes it on its way."""

from typing import TYPE_CHECKING

from edge.routing.route import Route
from edge.upstream.target import Target
from edge.wire.rewrite import rewritten_head

if TYPE_CHECKING:
    from edge.proxy.exchange import Exchange


def head_for(exchange: "Exchange", route: Route, target: Target) -> bytes:
    """The head that `target` gets of the request; raises `HttpError` 400."""
    options = route.options
    head, request_id_line = exchange.prepared_head, exchange.request_id_line
    section = head[head.index(b"\r\n") + 2 : -len(request_id_line)]
    if options.host == "target":
        _, _, others = section.partition(b"\r\n")
        section = b"Host: %b\r\n%b" % (target.address.encode("ascii"), others)
    return rewritten_head(
        exchange.method,
        route.upstream_target(exchange.upstream_target),
        section,
        request_id_line,
        max_forwards=exchange.fields.max_forwards,
        drop_authorization=bool(options.basic_auth),  # it was for the edge
    )

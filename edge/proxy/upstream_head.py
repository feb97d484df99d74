"""Owns the head of a request for a target, where the route or the method changes it on its way."""

from typing import TYPE_CHECKING

from edge.routing.route import Route
from edge.upstream.target import Target
from edge.wire.forwarding import compose_fields
from edge.wire.rewrite import rewritten_head

if TYPE_CHECKING:
    from edge.proxy.exchange import Exchange


def head_for(exchange: "Exchange", route: Route, target: Target) -> bytes:
    """The head that `target` gets of the request; raises `HttpError` 400."""
    client = exchange.client
    fields = exchange.fields
    options = route.options
    section = client.forward
    if options.host == "target":
        host = target.address.encode("ascii")
        section = compose_fields(fields, host, client.authority, client.peer)
    return rewritten_head(
        exchange.method,
        route.upstream_target(exchange.upstream_target),
        section,
        exchange.request_id_line,
        max_forwards=fields.max_forwards,
        drop_authorization=bool(options.basic_auth),  # it was for the edge
    )

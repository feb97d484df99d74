"""Owns one exchange: a request, the upstream it goes to, and the response that comes back.

Between the client's connection and the upstream's, this is the only place that knows both. It ends
exactly once, in `account`.
"""

import math
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final

from edge.errors import HttpError, UpstreamError
from edge.net.read_gate import PauseReason, unsent
from edge.proxy.access_entry import exchange_entry
from edge.proxy.deadlines import DRAIN_EXPIRY
from edge.proxy.failure import CLIENT_CLOSED_REQUEST, CLIENT_DISCONNECTED, fail
from edge.proxy.local_replies import send_last_hop_reply, send_local_reply
from edge.proxy.ports import Waitlist
from edge.proxy.response_relay import ResponseRelay
from edge.proxy.retry import connecting_failed, connection_failed
from edge.proxy.timeouts import expire, set_deadline
from edge.proxy.tunnel import answers_upgrade, open_tunnel
from edge.proxy.upstream_head import head_for
from edge.routing.table import Normalized
from edge.wire.framing import Piece
from edge.wire.request_body import RequestBody
from edge.wire.request_head import RequestFields
from edge.wire.response_head import ResponseHead
from edge.wire.response_reader import JOIN_LIMIT
from edge.wire.rewrite import authorization, is_last_hop

if TYPE_CHECKING:
    from edge.proxy.client import ClientConnection
    from edge.proxy.route_state import RouteState
    from edge.upstream.connection import UpstreamConnection
    from edge.upstream.target import Target

# What a client gets whose only upstream is draining. A cutover is a matter of seconds.
RETRY_AFTER: Final = (b"Retry-After: 5",)


class Exchange:
    """One request and its response."""

    __slots__ = (
        "_body",
        "_cookie",
        "_head",
        "accepts_whole_response",
        "client",
        "client_checked",
        "continue_received",
        "error",
        "fields",
        "keep_alive",
        "method",
        "pending",
        "prepared_head",
        "received",
        "relay",
        "request_id_line",
        "request_open",
        "request_target",
        "resent",
        "route_state",
        "sent",
        "started",
        "status",
        "target",
        "tried",
        "upstream",
        "upstream_started",
        "upstream_target",
        "waitlist",
        "waits_until",
    )

    def __init__(
        self,
        client: "ClientConnection",
        method: bytes,
        request_target: bytes,
        fields: RequestFields,
        prepared_head: bytes,
        request_id_line: bytes,
    ) -> None:
        self.client = client  # who asked
        # Said here, for where it is assigned mypy believes in it beyond `start`, which may end it.
        client.exchange = self
        self.method = method
        self.request_target = request_target
        self.fields = fields
        self.prepared_head = prepared_head  # for an upstream, if nothing of it is to be changed
        self.request_id_line = request_id_line  # it ends both heads
        self.request_open = fields.length != 0  # more of the request's body is to come
        # The response can go out as it came, if it comes in one piece.
        self.accepts_whole_response = (
            fields.default_handling
            and not fields.length
            and method != b"HEAD"
            and not client.state.draining
        )
        self.keep_alive = fields.keep_alive
        self.received = 0  # bytes of the request's body
        self.sent = 0  # bytes of the response's body
        self.started = client.state.clock()
        self.upstream_started = 0.0
        self.upstream_target = request_target  # as it came, unless the route's host has prefixes
        self.status = 0  # of the response, once its head has gone to the client
        self.route_state: RouteState | None = None
        self.waitlist: Waitlist | None = None
        self.waits_until = 0.0
        self.target: Target | None = None
        self.upstream: UpstreamConnection | None = None
        self.tried: tuple[Target, ...] = ()
        self.resent = False
        self._cookie = b""  # a line that the response's head gets
        self._head = prepared_head
        self._body: RequestBody | None = None
        self.pending: list[Piece] = []  # body that waits for the upstream
        self.relay: ResponseRelay | None = None
        self.client_checked = False
        self.continue_received = False
        self.error = ""

    def __repr__(self) -> str:
        return f"<Exchange {self.method!r} status={self.status} upstream={self.upstream!r}>"

    # The request

    @property
    def client_address(self) -> str:
        """The client's address; behind trusted proxies the one that they name."""
        return self.client.peer.client_address(self.fields)

    @property
    def authorization(self) -> bytes:
        """The value of Authorization."""
        return authorization(self.fields)

    def start(self, resumed: bool = False) -> None:
        """Begin; of what waits in the client's buffer, take what is this request's body.

        `resumed`: it was held. Raises `HttpError` if the edge has to answer by itself.
        """
        client = self.client
        state = client.state
        fields = self.fields
        table = state.table
        if table is None:
            raise HttpError(503, "no routes are loaded yet; see the log of the edge")
        target = self.request_target
        route = table.match(fields.host, target)
        if route is None:
            raise HttpError(404, "no route matches this host and path")
        if isinstance(route, Normalized):
            route, target = route
        self.upstream_target = target
        route_state = state.route_states.get(route.key)
        if route_state is None or route_state.route is not route:
            route_state = state.make_route_state(route)
        self.route_state = route_state
        route_state.counters.in_flight += 1
        if route_state.response_fields is not None:
            self.accepts_whole_response = False
        if route_state.admission is not None and not route_state.admission.admits(self, resumed):
            return
        if fields.max_forwards is not None and is_last_hop(self.method, fields.max_forwards):
            send_last_hop_reply(self)
            self.finish(state.clock())
            return
        if fields.length:
            self._body = RequestBody(fields.length, route_state.max_body)
            if client.buffer:
                client.buffer = self.request_data(client.buffer)
        self.connect_upstream(client.state.clock() if resumed else self.started)

    def wait_in(self, waitlist: Waitlist, until: float) -> None:
        """Wait, the body unread, for `waitlist` to call `resume`; at `until` it is refused.

        Everything else is still read: a client that leaves is noticed.
        """
        client = self.client
        self.waitlist = waitlist
        self.waits_until = until
        if self.request_open:
            client.gate.pause(PauseReason.WAITLISTED)
        set_deadline(self, client.state.clock())

    def resume(self) -> None:
        """What this was held for has come: begin anew, on the routes of this moment."""
        route_state = self.route_state
        assert route_state is not None  # noqa: S101  narrows a type
        self.waitlist = None
        self.client.gate.resume(PauseReason.WAITLISTED)
        route_state.counters.in_flight -= 1
        self.route_state = None
        try:
            self.start(resumed=True)
        except HttpError as error:
            self.reject(error)

    def local_reply(
        self,
        status: int,
        media_type: bytes,
        content: bytes,
        fields: Sequence[bytes] = (),
        error: str = "",
    ) -> None:
        """Answer without an upstream; the content is the edge's own, `error` is for the log."""
        client = self.client
        self.status = status
        self.error = error
        send_local_reply(self, status, media_type, content, fields)
        self.finish(client.state.clock())

    def request_data(self, data: bytes) -> bytes:
        """Forward a piece of the request's body; what is not of this request is returned.

        Raises `HttpError` for a body that must not go on.
        """
        body = self._body
        assert body is not None  # noqa: S101  until `start` has made it, nothing is read
        try:
            pieces, leftover = body.feed(data)
        finally:
            self.received = body.received
        self.request_open = body.open
        if self.upstream is None:
            self.pending += pieces
        else:
            self.upstream.transport.writelines(pieces)
            set_deadline(self, self.client.state.clock())
        if not self.request_open:
            route_state = self.route_state
            self.accepts_whole_response = (
                self.fields.default_handling
                and self.method != b"HEAD"
                and not self.status
                and not self._cookie
                and (route_state is None or route_state.response_fields is None)
                and not self.client.state.draining
            )
        return leftover

    # The way to the upstream

    def connect_upstream(self, now: float) -> None:
        """Choose a target that was not tried, and send it the request; raises `HttpError`."""
        route_state = self.route_state
        if route_state is None:
            return
        state = self.client.state
        passed_over = self.tried
        if state.draining_targets:
            passed_over += state.draining_targets
        target = route_state.sole_target
        if target is None:
            target = route_state.balancer.pick(now, passed_over, self)
        elif target in passed_over:
            target = None
        if target is None:
            if state.draining_targets:
                raise HttpError(
                    503, "the upstream is draining and takes no new requests", RETRY_AFTER
                )
            raise HttpError(502, "no upstream could be reached")
        self.target = target
        target.in_flight += 1
        if target.unavailable_until and state.health.begin_trial(target, now) and not self.tried:
            route_state.counters.panic_picks += 1
        if (
            not route_state.head_unchanged
            or self.fields.max_forwards is not None
            or self.upstream_target is not self.request_target
        ):
            self._head = head_for(self, route_state.route, target)
        connection = target.pool.take(now)
        if connection is not None:
            state.metrics.pool_hits += 1
            self.on_pool_ready(connection)
            return
        state.metrics.pool_misses += 1
        self.await_connection(route_state, target)

    def await_connection(
        self, route_state: "RouteState", target: "Target", fresh: bool = False
    ) -> None:
        """Wait for a connection to `target`; `fresh`: for a new one."""
        client = self.client
        # Connecting has a deadline of its own, and a failed attempt is told to us.
        client.deadline = math.inf
        if self.request_open:
            client.gate.pause(PauseReason.NO_UPSTREAM)
        target.pool.connect_for(self, route_state.connect_timeout, fresh)

    def on_pool_ready(self, connection: "UpstreamConnection") -> None:
        """A connection is there: send what there is of the request."""
        self.upstream = connection
        connection.exchange = self
        if self.pending:
            connection.transport.writelines([self._head, *self.pending])
            self.pending = []
        else:
            connection.transport.write(self._head)
        client = self.client
        if client.gate.paused:
            client.gate.resume(PauseReason.NO_UPSTREAM)
        self.upstream_started = now = client.state.clock()
        route_state = self.route_state
        if self.request_open or client.half_closed or route_state is None:
            set_deadline(self, now)
        else:
            client.deadline = now + route_state.response_timeout

    def on_pool_failure(self, error: UpstreamError) -> None:
        """The target cannot be connected to."""
        connecting_failed(self, error)

    def upstream_failed(self, error: UpstreamError, retryable: bool = False) -> None:
        """The connection is lost or unusable. `retryable`: it was an old one, and silent."""
        connection_failed(self, error, retryable)

    def upstream_write_paused(self) -> None:
        """The upstream does not read the request's body as fast as it comes."""
        self.client.gate.pause(PauseReason.BACKPRESSURE)
        set_deadline(self, self.client.state.clock())

    def upstream_write_resumed(self) -> None:
        """The upstream reads again."""
        self.client.gate.resume(PauseReason.BACKPRESSURE)
        set_deadline(self, self.client.state.clock())

    def client_write_paused(self) -> None:
        """The client does not read the response as fast as it comes."""
        if self.upstream is not None:
            self.upstream.gate.pause(PauseReason.BACKPRESSURE)
        set_deadline(self, self.client.state.clock())

    def client_write_resumed(self) -> None:
        """The client reads again."""
        if self.upstream is not None:
            self.upstream.gate.resume(PauseReason.BACKPRESSURE)
        set_deadline(self, self.client.state.clock())

    # What a balancer asks (`balancer.LoadBalancerContext`)

    def cookies(self) -> bytes:
        """The Cookie field, empty if there is none."""
        return self.fields.value(b"cookie")

    def set_cookie(self, line: bytes) -> None:
        """Have the response carry this line, or none if it is empty."""
        self._cookie = line
        if line:
            self.accepts_whole_response = False

    # The response

    def whole_response(
        self, connection: "UpstreamConnection", head: ResponseHead, start: bytes, data: bytes
    ) -> None:
        """A response that came in one piece and can go as it came: nearly all of them.

        Written out where a `ResponseRelay` and `response_ends` would do the same in four calls:
        1.5 us of 20 (`make bench`, realistic heads).
        """
        client = self.client
        # First of all: a client that cannot be written to from here on must not pause a connection
        # that others will use.
        self.upstream = None
        if head.passthrough_length <= JOIN_LIMIT:
            client.transport.write(start)
        else:
            client.transport.writelines((start, memoryview(data)[head.size :]))
        self.sent = head.passthrough_length
        self.status = head.status
        now = client.state.clock()
        connection.reused = True
        if head.keep_alive and not (self.fields.length and unsent(connection.transport)):
            connection.pool.give_back(connection, now)
        else:
            connection.close()
        self.account(now)
        client.exchange_done(self, now)

    def interim(self, head: ResponseHead) -> None:
        """Pass a 1xx on, but never to HTTP/1.0 (RFC 9110 section 15.2)."""
        client = self.client
        if head.status == 100:
            self.continue_received = True
        if self.fields.minor:
            client.transport.write(head.fields + b"\r\n")
        set_deadline(self, client.state.clock())

    def response_begins(self, head: ResponseHead, length: int, start: bytes) -> ResponseRelay:
        """The final head has come; a body of `length` follows, for the relay.

        `start` is the head for the client, if that goes as it came.
        """
        route_state, target = self.route_state, self.target
        assert route_state is not None  # noqa: S101  else no upstream could answer
        assert target is not None  # noqa: S101  narrows a type
        self.relay = relay = ResponseRelay(self, route_state, head, length, start, self._cookie)
        self.status = head.status
        if target.unavailable_until:
            self.client.state.health.response_began(
                target, route_state.max_fails, head.status, self.upstream_started
            )
        self.accepts_whole_response = False
        return relay

    def response_ends(self, connection: "UpstreamConnection", reusable: bool) -> None:
        """The response is complete."""
        now = self.client.state.clock()
        self.upstream = None
        relay, self.relay = self.relay, None
        if relay is not None and relay.chunked:
            relay.end_chunks()
        connection.reused = True
        # A request that is not over, or that the upstream has not taken, is not to be followed by
        # another one (RFC 9112 section 9.3).
        if self.fields.length and (self.request_open or unsent(connection.transport)):
            reusable = False
        if reusable:
            connection.pool.give_back(connection, now)
        else:
            connection.close()
        self.finish(now)

    # Upgrade

    def may_upgrade_to(self, protocols: Sequence[bytes]) -> bool:
        """Whether a 101 for `protocols` answers what was asked (RFC 9110 section 7.8)."""
        return answers_upgrade(self.fields.upgrade, protocols)

    def switch_protocols(
        self, connection: "UpstreamConnection", head: ResponseHead, early: bytes
    ) -> None:
        """Answer 101 and hand both connections to a tunnel; `early` came behind the 101."""
        open_tunnel(self, connection, head, early, self._cookie)

    # What goes wrong

    def client_half_closed(self) -> None:
        """The client sends nothing more."""
        if self.request_open:
            fail(self, 400, "the request body ended early", "incomplete request")
        else:
            self.accepts_whole_response = False
            set_deadline(self, self.client.state.clock())

    def reject(self, error: HttpError) -> None:
        """The request must not go on; if no answer has begun, the edge answers."""
        if error.status == 400:
            self.keep_alive = False
        fail(self, error.status, str(error), error.kind, error.fields)

    def drain_timed_out(self, targets: Collection["Target"]) -> bool:
        """Give up, if this is under way on one of `targets`; a tunnel is none of ours any more."""
        if self.target not in targets or self.status == 101:
            return False
        expire(self, DRAIN_EXPIRY)
        return True

    # The end

    def finish(self, now: float) -> None:
        """The client has its response: account, and go on to the next request."""
        self.account(now)
        self.client.exchange_done(self, now)

    def account(self, now: float) -> None:
        """It is over: free the target, count and log."""
        state = self.client.state
        route_state = self.route_state
        target = self.target
        if target is not None:
            assert route_state is not None  # noqa: S101  which has chosen it
            target.in_flight -= 1
            if (
                (target.unavailable_until or route_state.max_fails)
                and self.error in ("", CLIENT_DISCONNECTED)
                and self.status != CLIENT_CLOSED_REQUEST
            ):
                state.health.response_received(
                    target, route_state.max_fails, self.status, self.upstream_started
                )
        if route_state is None:
            counters = state.metrics.unrouted
        else:
            counters = route_state.counters
            counters.in_flight -= 1
        counters.record(self.status, now - self.started)
        counters.bytes_received += self.received
        counters.bytes_sent += self.sent
        if state.access_log is not None:
            state.access_log.append(exchange_entry(self, now))

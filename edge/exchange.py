"""Owns one exchange: a request, the upstream it goes to, and the response that comes back.

Between the client's connection and the upstream's, this is the only place that knows both. It ends
exactly once, in `_account`.
"""

import logging
import math
import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from edge.access_record import access_record
from edge.errors import HttpError, UpstreamError
from edge.flow import Pause, unsent
from edge.forwarding import compose_fields
from edge.framing import (
    CHUNKED,
    LAST_CHUNK,
    ChunkedReader,
    FramingError,
    Piece,
    chunk,
)
from edge.head import RequestFields, ResponseHead
from edge.health import FAILING_STATUSES
from edge.request_id import id_in
from edge.routes import Route
from edge.tunnel import Tunnel

if TYPE_CHECKING:
    from edge.client import ClientConnection
    from edge.live_route import LiveRoute
    from edge.target import Target
    from edge.upstream import UpstreamConnection

logger = logging.getLogger(__name__)

# RFC 9110 section 9.2.2.
IDEMPOTENT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))

# A body up to this size is joined with its head: one buffer is cheaper to send than two. Beyond it
# the copy costs more (a response of 64 KiB: 76 us joined, 61 us apart).
JOIN_LIMIT: Final = 16 * 1024

# Seconds between two looks whether a client that has half-closed is still there.
CLIENT_CHECK_INTERVAL: Final = 1.0
# What it is sent: RFC 9110 section 15.2 lets any HTTP/1.1 client expect interim responses at any
# time.
_CLIENT_CHECK: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

# The status that logs and counters show for a client that left before its answer, as in nginx.
CLIENT_GONE: Final = 499
CLIENT_LEFT: Final = "client gone"  # what the access log says of it

# What a client is told whose only upstream is draining. A cutover is a matter of seconds.
RETRY: Final = (b"Retry-After: 5",)

_MAX_FORWARDS: Final = re.compile(rb"\r\nMax-Forwards:[^\r]*", re.IGNORECASE)
_AUTHORIZATION: Final = re.compile(rb"\r\nAuthorization:([^\r]*)", re.IGNORECASE)


class Waitlist(Protocol):
    """What holds an exchange before it seeks an upstream, until it calls `Exchange.restart`."""

    def forget(self, exchange: "Exchange") -> None:
        """`exchange` waits no longer."""

    def timeout_error(self) -> HttpError:
        """What the client is told if its time is over."""


class Exchange:
    """One request and its response."""

    __slots__ = (
        "_accepting_body",
        "_chunked_out",
        "_chunks",
        "_client",
        "_client_checked",
        "_cookie",
        "_ends_with_connection",
        "_error",
        "_head",
        "_held_until",
        "_live",
        "_pending",
        "_remaining",
        "_repeated",
        "_started",
        "_status",
        "_target",
        "_told_to_continue",
        "_tried",
        "_upstream",
        "_upstream_started",
        "_waitlist",
        "accepts_whole_response",
        "fields",
        "keeps_client",
        "method",
        "received",
        "request_id_line",
        "request_open",
        "request_target",
        "sent",
    )

    def __init__(
        self,
        client: "ClientConnection",
        method: bytes,
        request_target: bytes,
        fields: RequestFields,
    ) -> None:
        self._client = client
        self.method = method
        self.request_target = request_target
        self.fields = fields
        # It ends both heads, and is that of the client if a trusted proxy brought one.
        self.request_id_line = client.request_id_line or next(client.worker.request_id_lines)
        self.request_open = fields.length != 0  # more of the request's body is to come
        # The response can go out as it came, if it comes in one piece.
        self.accepts_whole_response = (
            fields.default_handling
            and not fields.length
            and method != b"HEAD"
            and not client.worker.draining
        )
        self.keeps_client = fields.client_keeps_alive
        self.received = 0  # bytes of the request's body
        self.sent = 0  # bytes of the response's body
        self._started = client.worker.clock()
        self._upstream_started = 0.0
        self._status = 0  # of the response, once its head has gone to the client
        self._live: LiveRoute | None = None
        self._waitlist: Waitlist | None = None
        self._held_until = 0.0
        self._target: Target | None = None
        self._upstream: UpstreamConnection | None = None
        self._tried: tuple[Target, ...] = ()
        self._repeated = False
        self._cookie = b""  # a line that the response's head gets
        self._head = b""
        self._pending: list[Piece] = []  # body that waits for the upstream
        self._remaining = 0
        self._chunks: ChunkedReader | None = None
        self._chunked_out = False
        self._ends_with_connection = False
        self._client_checked = False
        self._told_to_continue = False
        self._error = ""

    def __repr__(self) -> str:
        return f"<Exchange {self.method!r} status={self._status} upstream={self._upstream!r}>"

    # The request

    @property
    def client(self) -> "ClientConnection":
        """Who asked."""
        return self._client

    @property
    def client_address(self) -> str:
        """The client's address; behind trusted proxies the one that they name."""
        return self._client.peer.client_address(self.fields)

    @property
    def authorization(self) -> bytes:
        """The value of Authorization; not by `RequestFields.value`, which takes 5 us."""
        values = _AUTHORIZATION.findall(self.fields.raw)
        return b",".join(values).strip(b" \t")

    def start(self, again: bool = False) -> None:
        """Begin; of what waits in the client's buffer, take what is this request's body.

        `again`: it was held. Raises `HttpError` if the edge has to answer by itself.
        """
        client = self._client
        worker = client.worker
        fields = self.fields
        table = worker.table
        if table is None:
            raise HttpError(503, "there is no route table yet; the log of the edge says why")
        route = table.match(client.host, self.request_target)
        if route is None:
            raise HttpError(404, "no route leads from this host and path")
        live = worker.live_routes.get(route.key)
        if live is None or live.route is not route:
            live = worker.live_route(route)
        self._live = live
        live.counters.in_flight += 1
        if live.response_fields is not None:
            self.accepts_whole_response = False
        if live.admission is not None and not live.admission.admits(self, again):
            return
        if live.head_unchanged:
            self._head = b"".join(
                (
                    self.method,
                    b" ",
                    self.request_target,
                    b" HTTP/1.1\r\n",
                    client.forward,
                    self.request_id_line,
                )
            )
        if fields.max_forwards is not None and self.method in (b"OPTIONS", b"TRACE"):
            hops = parse_max_forwards(fields.max_forwards)
            if hops == 0:
                self._answer_as_last_hop()
                return

        if fields.length:
            if live.max_body and fields.length > live.max_body:
                raise HttpError(413, "the request body is too large")
            self._remaining = fields.length
            if fields.length == CHUNKED:
                self._chunks = ChunkedReader()
            if client.buffer:
                client.buffer = self.request_data(client.buffer)
        self._seek_upstream(client.worker.clock() if again else self._started)

    def hold(self, waitlist: Waitlist, until: float) -> None:
        """Wait, the body unread, for `waitlist` to call `restart`; at `until` it is refused.

        Everything else is still read: a client that leaves is noticed.
        """
        client = self._client
        self._waitlist = waitlist
        self._held_until = until
        if self.request_open:
            client.gate.pause(Pause.HELD)
        self.wait(client.worker.clock())

    def restart(self) -> None:
        """What this was held for has come: begin anew, on the routes of this moment."""
        live = self._live
        assert live is not None
        self._waitlist = None
        self._client.gate.resume(Pause.HELD)
        live.counters.in_flight -= 1
        self._live = None
        try:
            self.start(again=True)
        except HttpError as error:
            self.refused(error)

    def _rewritten_head(self, route: Route, target: "Target") -> bytes:
        """The head for `target`, where the route or the method changes it on its way."""
        client = self._client
        path = self.request_target
        if route.options.strip:
            path = path[len(route.prefix) :]
            if not path.startswith(b"/"):
                path = b"/" + path
        section = client.forward
        if route.options.host == "target":
            host = target.address.encode("ascii")
            section = compose_fields(self.fields, host, client.authority, client.peer)
        hops = self.fields.max_forwards
        if hops is not None and self.method in (b"OPTIONS", b"TRACE"):
            line = b"\r\nMax-Forwards: %d" % (parse_max_forwards(hops) - 1)
            section = _MAX_FORWARDS.sub(line, section)
        if route.options.basic_auth:
            # It was for the edge. The first field is Host.
            section = _AUTHORIZATION.sub(b"", section)
        return b"%b %b HTTP/1.1\r\n%b%b" % (self.method, path, section, self.request_id_line)

    def _answer_as_last_hop(self) -> None:
        """Answer OPTIONS or TRACE that may go no further (RFC 9110 sections 7.6.2, 9.3.7, 9.3.8).

        A trace shows where the request went and nothing that it carried: cookies and credentials
        have no business in a response.
        """
        if self.method == b"TRACE":
            lines = [b"%b %b HTTP/1.%d" % (self.method, self.request_target, self.fields.minor)]
            for name in (b"Host", b"Max-Forwards", b"Via"):
                value = self.fields.value(name.lower())
                if value:
                    lines.append(name + b": " + value)
            self.answer(200, b"message/http", b"\r\n".join([*lines, b"", b""]))
        else:
            self.answer(200, b"", b"")

    def answer(
        self,
        status: int,
        media_type: bytes,
        content: bytes,
        fields: Sequence[bytes] = (),
        error: str = "",
    ) -> None:
        """Answer without an upstream; the content is the edge's own, `error` is for the log."""
        client = self._client
        self._status = status
        self._error = error
        client.answer(status, media_type, content, self, fields)
        self._finish(client.worker.clock())

    def request_data(self, data: bytes) -> bytes:
        """Forward a piece of the request's body; what is not of this request is returned.

        Raises `HttpError` for a body that must not go on.
        """
        leftover = b""
        pieces: Sequence[Piece]
        if self._chunks is None:
            if len(data) > self._remaining:
                data, leftover = data[: self._remaining], data[self._remaining :]
            self._remaining -= len(data)
            self.received += len(data)
            self.request_open = self._remaining > 0
            pieces = (data,)
        else:
            try:
                content = self._chunks.feed(data)
            except FramingError as error:
                raise HttpError(400, f"the chunked request body is malformed: {error}") from None
            self.received += sum(map(len, content))
            if self._live is not None and 0 < self._live.max_body < self.received:
                raise HttpError(413, "the request body is too large")
            pieces = chunk(content)
            if self._chunks.done:
                pieces = [*pieces, LAST_CHUNK]
                leftover = self._chunks.leftover
                self.request_open = False
        if self._upstream is None:
            self._pending += pieces
        else:
            self._upstream.transport.writelines(pieces)
            self.wait(self._client.worker.clock())
        if not self.request_open:
            live = self._live
            self.accepts_whole_response = (
                self.fields.default_handling
                and self.method != b"HEAD"
                and not self._status
                and not self._cookie
                and (live is None or live.response_fields is None)
                and not self._client.worker.draining
            )
        return leftover

    def wait(self, now: float) -> None:
        """Set the deadline for what has to happen next."""
        client = self._client
        live = self._live
        if client.write_paused or live is None:
            timeout = client.worker.settings.send_timeout
        elif self._status:
            timeout = live.stream_timeout
        elif self._waitlist is not None:
            timeout = self._held_until - now
            if client.gate.paused or client.half_closed:
                timeout = min(timeout, CLIENT_CHECK_INTERVAL)
        elif self._waits_for_body():
            timeout = live.body_timeout
        elif client.half_closed and self.fields.minor:
            timeout = CLIENT_CHECK_INTERVAL
        else:
            timeout = live.response_timeout
        client.deadline = now + timeout

    def _waits_for_body(self) -> bool:
        """Whether it is the client's turn; one that expects a 100 waits for the upstream."""
        return (
            self.request_open
            and not self._client.gate.paused
            and (self._told_to_continue or self.received > 0 or not self.fields.expects_continue)
        )

    # The way to the upstream

    def _seek_upstream(self, now: float) -> None:
        live = self._live
        if live is None:
            return
        worker = self._client.worker
        passed_over = self._tried
        if worker.draining_targets:
            passed_over += worker.draining_targets
        target = live.sole_target
        if target is None:
            target = live.balancer.pick(now, passed_over, self)
        elif target in passed_over:
            target = None
        if target is None:
            if worker.draining_targets:
                raise HttpError(503, "the upstream is draining, it takes no new requests", RETRY)
            raise HttpError(502, "no upstream can be reached")
        self._target = target
        target.in_flight += 1
        if target.unavailable_until and worker.health.begin_trial(target, now) and not self._tried:
            live.counters.panic_picks += 1
        if not live.head_unchanged or self.fields.max_forwards is not None:
            self._head = self._rewritten_head(live.route, target)
        connection = target.take(now)
        if connection is not None:
            worker.metrics.pool_hits += 1
            self.on_pool_ready(connection)
            return
        worker.metrics.pool_misses += 1
        self._await_connection(live, target)

    def _await_connection(self, live: "LiveRoute", target: "Target", fresh: bool = False) -> None:
        client = self._client
        # Connecting has a deadline of its own, and a failed attempt is told to us.
        client.deadline = math.inf
        if self.request_open:
            client.gate.pause(Pause.NO_UPSTREAM)
        target.wait(self, live.connect_timeout, fresh)

    def on_pool_ready(self, connection: "UpstreamConnection") -> None:
        """A connection is there: send what there is of the request."""
        self._upstream = connection
        connection.begin(self)
        if self._pending:
            connection.transport.writelines([self._head, *self._pending])
            self._pending = []
        else:
            connection.transport.write(self._head)
        client = self._client
        if client.gate.paused:
            client.gate.resume(Pause.NO_UPSTREAM)
        self._upstream_started = now = client.worker.clock()
        live = self._live
        if self.request_open or client.half_closed or live is None:
            self.wait(now)
        else:
            client.deadline = now + live.response_timeout

    def on_pool_failure(self, error: UpstreamError) -> None:
        """The target cannot be connected to: nothing was sent, so the next one may have it."""
        target = self._target
        live = self._live
        if target is None or live is None:
            return
        target.in_flight -= 1
        self._blame(str(error))
        self._target = None
        self._tried += (target,)
        logger.debug("%s: %s", target.address, error)
        if len(self._tried) > live.retries:
            self._fail(error.status, str(error), error.kind)
            return
        try:
            self._seek_upstream(self._client.worker.clock())
        except HttpError:
            self._fail(error.status, str(error), error.kind)
        else:
            self._client.worker.metrics.retries += 1

    def upstream_failed(self, error: UpstreamError, repeatable: bool = False) -> None:
        """The connection is lost or unusable. `repeatable`: it was an old one, and silent."""
        worker = self._client.worker
        self._upstream = None
        worker.metrics.upstream_errors[error.kind] += 1
        target = self._target
        live = self._live
        if (
            repeatable
            and target is not None
            and live is not None
            and live.retries
            and not self._repeated
            and not self.fields.length
            and self.method in IDEMPOTENT
        ):
            # It was closed while idle, and our request met the close half way.
            self._repeated = True
            worker.metrics.retries += 1
            self._await_connection(live, target, fresh=True)
            return
        self._blame(str(error))
        self._fail(error.status, str(error), error.kind)

    def upstream_write_paused(self) -> None:
        """The upstream does not read the request's body as fast as it comes."""
        self._client.gate.pause(Pause.PEER_FULL)
        self.wait(self._client.worker.clock())

    def upstream_write_resumed(self) -> None:
        """The upstream reads again."""
        self._client.gate.resume(Pause.PEER_FULL)
        self.wait(self._client.worker.clock())

    def client_write_paused(self) -> None:
        """The client does not read the response as fast as it comes."""
        if self._upstream is not None:
            self._upstream.gate.pause(Pause.PEER_FULL)
        self.wait(self._client.worker.clock())

    def client_write_resumed(self) -> None:
        """The client reads again."""
        if self._upstream is not None:
            self._upstream.gate.resume(Pause.PEER_FULL)
        self.wait(self._client.worker.clock())

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
        self, connection: "UpstreamConnection", head: ResponseHead, data: bytes
    ) -> None:
        """A response that came in one piece and can go as it came: nearly all of them.

        Written out where `response_begins`, `response_data` and `response_ends` would do the same
        in four calls: 1.5 us of 20 (`make bench`, realistic heads).
        """
        client = self._client
        # First of all: a client that cannot be written to from here on must not pause a connection
        # that others will use.
        self._upstream = None
        if len(data) <= JOIN_LIMIT:
            client.transport.write(
                b"".join((head.fields, self.request_id_line, data[len(head.raw) :]))
            )
        else:
            client.transport.writelines(
                (head.fields, self.request_id_line, memoryview(data)[len(head.raw) :])
            )
        self.sent = head.simple_length
        self._status = head.status
        now = client.worker.clock()
        connection.reused = True
        if head.keeps_alive and not (self.fields.length and unsent(connection.transport)):
            connection.target.give_back(connection, now)
        else:
            connection.close()
        self._account(now)
        client.exchange_done(self, now)

    def interim(self, head: ResponseHead) -> None:
        """Pass a 1xx on, but never to HTTP/1.0 (RFC 9110 section 15.2)."""
        client = self._client
        if head.status == 100:
            self._told_to_continue = True
        if self.fields.minor:
            client.transport.write(head.fields + b"\r\n")
        self.wait(client.worker.clock())

    def response_begins(self, head: ResponseHead, length: int) -> None:
        """The final head has come; a body of `length` follows."""
        client = self._client
        worker = client.worker
        live = self._live
        minor = self.fields.minor
        tail = b"" if head.has_date else worker.date_line()
        if self.request_open or worker.draining or (client.half_closed and not client.buffer):
            self.keeps_client = False
        if length < 0 and minor:
            tail += b"Transfer-Encoding: chunked\r\n"
            self._chunked_out = True
        elif length < 0:
            # RFC 9112 section 6.1: HTTP/1.0 knows no chunks; the end of the connection has to do.
            self.keeps_client = False
            self._ends_with_connection = True
        if not self.keeps_client:
            tail += b"Connection: close\r\n"
        elif not minor:
            tail += b"Connection: keep-alive\r\n"
        fields = head.fields
        if live is not None and live.response_fields is not None:
            fields = live.response_fields.applied(head)
        client.transport.write(b"".join((fields, self._cookie, tail, self.request_id_line)))
        self._status = head.status
        self._trust_early()
        self.accepts_whole_response = False
        if not client.write_paused and live is not None:
            client.deadline = worker.clock() + live.stream_timeout

    def response_data(self, data: bytes) -> None:
        """A piece of the response's body."""
        client = self._client
        self.sent += len(data)
        if self._chunked_out:
            client.transport.writelines(chunk([data]))
        else:
            client.transport.write(data)
        if not client.write_paused and self._live is not None:
            client.deadline = client.worker.clock() + self._live.stream_timeout

    def response_pieces(self, pieces: Sequence[Piece]) -> None:
        """Content that came in chunks."""
        client = self._client
        self.sent += sum(map(len, pieces))
        client.transport.writelines(chunk(pieces) if self._chunked_out else pieces)
        if not client.write_paused and self._live is not None:
            client.deadline = client.worker.clock() + self._live.stream_timeout

    def response_ends(self, connection: "UpstreamConnection", reusable: bool) -> None:
        """The response is complete."""
        client = self._client
        now = client.worker.clock()
        self._upstream = None
        if self._chunked_out:
            client.transport.write(LAST_CHUNK)
        connection.reused = True
        # A request that is not over, or that the upstream has not taken, is not to be followed by
        # another one (RFC 9112 section 9.3).
        if self.fields.length and (self.request_open or unsent(connection.transport)):
            reusable = False
        if reusable:
            connection.target.give_back(connection, now)
        else:
            connection.close()
        self._finish(now)

    # Upgrade

    def may_upgrade_to(self, protocols: Sequence[bytes]) -> bool:
        """Whether a 101 for `protocols` answers what was asked (RFC 9110 section 7.8)."""
        asked = {protocol.lower() for protocol in self.fields.upgrade}
        return bool(protocols) and all(protocol.lower() in asked for protocol in protocols)

    def switch_protocols(
        self, connection: "UpstreamConnection", head: ResponseHead, early: bytes
    ) -> None:
        """Answer 101 and hand both connections to a tunnel; `early` came behind the 101."""
        client = self._client
        worker = client.worker
        live = self._live
        assert live is not None  # only what has a route has an upstream
        upgrade = b", ".join(head.upgrade)
        websocket = upgrade.lower() == b"websocket"
        client.transport.write(
            b"%b%bConnection: upgrade\r\nUpgrade: %b\r\n%b"
            % (head.fields, self._cookie, upgrade, self.request_id_line)
        )
        self._status = 101
        self._trust_early()
        self._upstream = None
        client.deadline = math.inf
        tunnel = Tunnel(client, connection, self, websocket, live.tunnel_timeout)
        client.buffer, sent_early = b"", client.buffer
        tunnel.start(from_client=sent_early, from_upstream=early)
        worker.tunnel_opened(tunnel)

    def tunnel_ended(self, tunnel: Tunnel) -> None:
        """Both sides of the tunnel are closed."""
        worker = self._client.worker
        worker.tunnel_closed(tunnel)
        self._account(worker.clock())

    # What goes wrong

    def client_half_closed(self) -> None:
        """The client sends nothing more."""
        if self.request_open:
            self._fail(400, "the request body ended early", "incomplete request")
        else:
            self.accepts_whole_response = False
            self.wait(self._client.worker.clock())

    def client_lost(self) -> None:
        """The client is gone: nobody wants the response."""
        self._error = self._error or CLIENT_LEFT
        self._status = self._status or CLIENT_GONE
        self._let_go()
        self._account(self._client.worker.clock())

    def refused(self, error: HttpError) -> None:
        """The request must not go on; if no answer has begun, the edge answers."""
        if error.status == 400:
            self.keeps_client = False
        self._fail(error.status, str(error), error.kind, error.fields)

    def drain_timed_out(self, targets: Collection["Target"]) -> bool:
        """Give up, if this is under way on one of `targets`; a tunnel is none of ours any more."""
        if self._target not in targets or self._status == 101:
            return False
        self._timed_out("drain_timeout", "the upstream was stopped before it answered")
        return True

    def on_deadline(self, now: float) -> None:
        """The deadline has passed that was set when something was last heard."""
        client = self._client
        if client.write_paused:
            if client.has_progressed():
                self.wait(now)
            else:
                self._fail(504, "the client does not read", "send timeout")
        elif self._status:
            self._timed_out("stream_timeout", "the upstream fell silent")
        elif self._waitlist is not None:
            self._still_held(now, self._waitlist)
        elif self._waits_for_body():
            self._fail(408, "the request body did not come in time", "body timeout")
        elif client.half_closed and self.fields.minor and self._still_waits(now):
            self._check_client_alive(now)
        elif self._upstream is not None:
            self._timed_out("response_timeout", "the upstream did not answer in time")

    def _still_held(self, now: float, waitlist: Waitlist) -> None:
        """Held, perhaps for too long, or for a client that has left: looked at once per second."""
        client = self._client
        if now >= self._held_until:
            self.refused(waitlist.timeout_error())
        elif self.fields.minor and (client.half_closed or client.has_sent_fin()):
            self._check_client_alive(now)
        elif client.is_reset():
            # While a body is not read, nobody else notices.
            client.transport.abort()
        else:
            self.wait(now)

    def _still_waits(self, now: float) -> bool:
        live = self._live
        assert live is not None  # what has none is answered at once
        return self._upstream is None or now < self._upstream_started + live.response_timeout

    def _timed_out(self, kind: str, reason: str) -> None:
        self._client.worker.metrics.upstream_errors[kind] += 1
        self._blame(reason)
        self._fail(504, reason, kind)

    def _blame(self, reason: str) -> None:
        """It is the target's fault; `max_fails` in a row eject it."""
        live, target = self._live, self._target
        if live is not None and target is not None:
            self._client.worker.health.failed(target, live.max_fails, reason)

    def _trust_early(self) -> None:
        """A good answer has begun: an ejected target need not wait for its end, hours perhaps."""
        if (
            self._target is not None
            and self._target.unavailable_until
            and self._status not in FAILING_STATUSES
        ):
            self._trust()

    def _trust(self) -> None:
        """The target has answered with `_status`, which may speak for it or against it."""
        live, target = self._live, self._target
        if live is not None and target is not None:
            health = self._client.worker.health
            health.answered(target, live.max_fails, self._status, self._upstream_started)

    def _check_client_alive(self, now: float) -> None:
        """Ask a client that has half-closed whether it is still there.

        A client that has no more to say and one that is gone look alike until something is sent
        to them; the second one answers with a reset.
        """
        client = self._client
        if not self._client_checked:
            self._client_checked = True
            client.transport.write(_CLIENT_CHECK)
        elif client.is_reset():
            client.transport.abort()
            return
        self.wait(now)

    def own_fields(self) -> Sequence[bytes]:
        """The lines that the route sets on answers of the edge itself."""
        live = self._live
        return () if live is None or live.response_fields is None else live.response_fields.own

    def _fail(self, status: int, reason: str, error: str, fields: Sequence[bytes] = ()) -> None:
        """End without a whole response: answer if nothing was sent yet, else break off.

        `fields` are more lines for the answer's head.
        """
        client = self._client
        self._error = error
        self._let_go()
        if self._status:
            self.keeps_client = False
            self._account(client.worker.clock())
            # A body that ends with the connection would seem complete after an orderly close.
            client.break_off(hard=self._ends_with_connection)
            return
        self._status = status
        client.answer_error(status, reason, self, fields)
        self._finish(client.worker.clock())

    def _let_go(self) -> None:
        """Give up the upstream, or the wait for one."""
        if self._upstream is not None:
            self._upstream.close()
            self._upstream = None
        elif self._target is not None:
            self._target.forget(self)
        elif self._waitlist is not None:
            self._waitlist.forget(self)
            self._waitlist = None

    # The end

    def _finish(self, now: float) -> None:
        self._account(now)
        self._client.exchange_done(self, now)

    def _account(self, now: float) -> None:
        worker = self._client.worker
        live = self._live
        target = self._target
        if target is not None:
            target.in_flight -= 1
            if (
                (target.unavailable_until or (live is not None and live.max_fails))
                and self._error in ("", CLIENT_LEFT)
                and self._status != CLIENT_GONE
            ):
                self._trust()
        if live is None:
            counters = worker.metrics.unrouted
        else:
            counters = live.counters
            counters.in_flight -= 1
        counters.record(self._status, now - self._started)
        counters.bytes_received += self.received
        counters.bytes_sent += self.sent
        if worker.access_log is not None:
            worker.access_log.append(self._record(now))

    def _record(self, now: float) -> bytes:
        """The exchange's line in the access log."""
        fields = self.fields
        client = self._client
        target = self._target or (self._tried[-1] if self._tried else None)
        upstream_seconds = now - self._upstream_started if self._upstream_started else None
        return access_record(
            client=client.peer.client_address(fields),
            host=client.host,
            method=self.method,
            path=self.request_target,
            protocol=f"HTTP/1.{fields.minor}",
            status=self._status,
            bytes_received=self.received,
            bytes_sent=self.sent,
            duration=now - self._started,
            upstream=target.address if target is not None else None,
            upstream_duration=upstream_seconds,
            request_id=id_in(self.request_id_line),
            user_agent=fields.value(b"user-agent"),
            route=self._live.route.key if self._live is not None else None,
            error=self._error,
        )


def parse_max_forwards(value: bytes) -> int:
    """Max-Forwards of OPTIONS and TRACE (RFC 9110 section 7.6.2); raises `HttpError`."""
    if not value.isdigit() or len(value) > 9:
        raise HttpError(400, "Max-Forwards is malformed")
    return int(value)

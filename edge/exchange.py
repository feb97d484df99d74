"""Owns one exchange: a request, the upstream it goes to, and the response that comes back.

Between the client's connection and the upstream's, this is the only place that knows both. It ends
exactly once, in `_finish`.
"""

import logging
import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

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

# Seconds after a client has half-closed at which it is asked whether it is still there.
PROBE_AFTER: Final = 1.0
# The probe: RFC 9110 section 15.2 lets any HTTP/1.1 client expect interim responses at any time.
_PROBE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

# The status that logs and counters show for a client that left before its answer, as in nginx.
CLIENT_GONE: Final = 499
CLIENT_LEFT: Final = "client gone"  # what the access log says of it

_MAX_FORWARDS: Final = re.compile(rb"\r\nMax-Forwards:[^\r]*", re.IGNORECASE)


class Exchange:
    """One request and its response."""

    __slots__ = (
        "_accepting_body",
        "_chunked_out",
        "_chunks",
        "_client",
        "_ends_with_connection",
        "_error",
        "_head",
        "_live",
        "_pending",
        "_probed",
        "_remaining",
        "_repeated",
        "_started",
        "_status",
        "_target",
        "_told_to_continue",
        "_tried",
        "_upstream",
        "_upstream_started",
        "fields",
        "keeps_client",
        "method",
        "plain",
        "received",
        "request_id",
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
        self.request_id = ""
        self.request_open = fields.length != 0  # more of the request's body is to come
        # The response can go out as it came, if it comes in one piece.
        self.plain = (
            fields.plain and not fields.length and method != b"HEAD" and not client.worker.draining
        )
        self.keeps_client = fields.client_keeps_alive
        self.received = 0  # bytes of the request's body
        self.sent = 0  # bytes of the response's body
        self._started = client.worker.clock()
        self._upstream_started = 0.0
        self._status = 0  # of the response, once its head has gone to the client
        self._live: LiveRoute | None = None
        self._target: Target | None = None
        self._upstream: UpstreamConnection | None = None
        self._tried: tuple[Target, ...] = ()
        self._repeated = False
        self._head = b""
        self._pending: list[Piece] = []  # body that waits for the upstream
        self._remaining = 0
        self._chunks: ChunkedReader | None = None
        self._chunked_out = False
        self._ends_with_connection = False
        self._probed = False
        self._told_to_continue = False
        self._error = ""

    def __repr__(self) -> str:
        return f"<Exchange {self.method!r} status={self._status} upstream={self._upstream!r}>"

    # The request

    def start(self) -> None:
        """Begin; of what waits in the client's buffer, take what is this request's body.

        Raises `HttpError` if the edge has to answer by itself.
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
        live = worker.live_routes.get(route.domain)
        if live is None or live.route is not route:
            live = worker.live_route(route)
        self._live = live
        live.counters.in_flight += 1
        if live.plain:
            self._head = b"%b %b HTTP/1.1\r\n%b" % (
                self.method,
                self.request_target,
                client.forward,
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
        self._seek_upstream(self._started)

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
        return b"%b %b HTTP/1.1\r\n%b" % (self.method, path, section)

    def _answer_as_last_hop(self) -> None:
        """Answer OPTIONS or TRACE that may go no further (RFC 9110 sections 7.6.2, 9.3.7, 9.3.8).

        A trace shows where the request went and nothing that it carried: cookies and credentials
        have no business in a response.
        """
        self._status = 200
        client = self._client
        if self.method == b"TRACE":
            lines = [b"%b %b HTTP/1.%d" % (self.method, self.request_target, self.fields.minor)]
            for name in (b"Host", b"Max-Forwards", b"Via"):
                value = self.fields.value(name.lower())
                if value:
                    lines.append(name + b": " + value)
            client.answer(200, b"message/http", b"\r\n".join([*lines, b"", b""]), self)
        else:
            client.answer(200, b"", b"", self)
        self._finish(client.worker.clock())

    def request_data(self, data: bytes) -> bytes:
        """Forward a piece of the request's body; what is not of this request is returned.

        Raises `HttpError` for a body that must not go on.
        """
        rest = b""
        pieces: Sequence[Piece]
        if self._chunks is None:
            if len(data) > self._remaining:
                data, rest = data[: self._remaining], data[self._remaining :]
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
                rest = self._chunks.rest
                self.request_open = False
        if self._upstream is None:
            self._pending += pieces
        else:
            self._upstream.transport.writelines(pieces)
            self.wait(self._client.worker.clock())
        if not self.request_open:
            self.plain = (
                self.fields.plain
                and self.method != b"HEAD"
                and not self._status
                and not self._client.worker.draining
            )
        return rest

    def wait(self, now: float) -> None:
        """Set the deadline for what has to happen next."""
        client = self._client
        settings = client.worker.settings
        if client.full:
            patience = settings.send_timeout
        elif self._status:
            patience = settings.stream_timeout
        elif self._waits_for_body():
            patience = settings.body_timeout
        elif client.half_closed and self.fields.minor:
            patience = PROBE_AFTER
        else:
            patience = settings.response_timeout
        client.deadline = now + patience

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
        target = live.sole_target
        if target is None:
            target = live.balancer.pick(now, self._tried)
        elif self._tried:
            target = None
        if target is None:
            raise HttpError(502, "no upstream can be reached")
        worker = self._client.worker
        self._target = target
        target.in_flight += 1
        if target.passed_over_until and worker.health.sought(target, now) and not self._tried:
            live.counters.all_out += 1
        if not live.plain or self.fields.max_forwards is not None:
            self._head = self._rewritten_head(live.route, target)
        connection = target.take(now)
        if connection is not None:
            worker.metrics.pool_hits += 1
            self.connected(connection)
            return
        worker.metrics.pool_misses += 1
        self._await_connection(target)

    def _await_connection(self, target: "Target", fresh: bool = False) -> None:
        client = self._client
        # Connecting has a deadline of its own, and a failed attempt is told to us.
        client.deadline = math.inf
        if self.request_open:
            client.gate.pause(Pause.NO_UPSTREAM)
        target.wait(self, fresh)

    def connected(self, connection: "UpstreamConnection") -> None:
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
        if self.request_open or client.half_closed:
            self.wait(now)
        else:
            client.deadline = now + client.worker.settings.response_timeout

    def not_connected(self, error: UpstreamError) -> None:
        """The target cannot be connected to: nothing was sent, so the next one may have it."""
        target = self._target
        if target is None:
            return
        target.in_flight -= 1
        self._blame(str(error))
        self._target = None
        self._tried += (target,)
        logger.debug("%s: %s", target.address, error)
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
        if (
            repeatable
            and target is not None
            and not self._repeated
            and not self.fields.length
            and self.method in IDEMPOTENT
        ):
            # It was closed while idle, and our request met the close half way.
            self._repeated = True
            worker.metrics.retries += 1
            self._await_connection(target, fresh=True)
            return
        self._blame(str(error))
        self._fail(error.status, str(error), error.kind)

    def upstream_full(self) -> None:
        """The upstream does not read the request's body as fast as it comes."""
        self._client.gate.pause(Pause.PEER_FULL)
        self.wait(self._client.worker.clock())

    def upstream_drained(self) -> None:
        """The upstream reads again."""
        self._client.gate.resume(Pause.PEER_FULL)
        self.wait(self._client.worker.clock())

    def client_full(self) -> None:
        """The client does not read the response as fast as it comes."""
        if self._upstream is not None:
            self._upstream.gate.pause(Pause.PEER_FULL)
        self.wait(self._client.worker.clock())

    def client_drained(self) -> None:
        """The client reads again."""
        if self._upstream is not None:
            self._upstream.gate.resume(Pause.PEER_FULL)
        self.wait(self._client.worker.clock())

    # The response

    def whole_response(
        self, connection: "UpstreamConnection", head: ResponseHead, data: bytes
    ) -> None:
        """A response that came in one piece and can go as it came: nearly all of them.

        Written out where `response_begins`, `response_data` and `response_ends` would do the same
        in four calls: 1.5 us of 20 (`make bench`, realistic heads).
        """
        client = self._client
        # First of all: a client that is full from here on must not pause a connection that others
        # will use.
        self._upstream = None
        if len(data) <= JOIN_LIMIT:
            client.transport.write(head.simple_wire + data[len(head.raw) :])
        else:
            client.transport.writelines((head.simple_wire, memoryview(data)[len(head.raw) :]))
        self.sent = head.simple_length
        self._status = head.status
        now = client.worker.clock()
        connection.reused = True
        if head.keeps_alive and not (self.fields.length and unsent(connection.transport)):
            connection.target.give_back(connection, now)
        else:
            connection.close()
        self._finish(now)

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
        client.transport.write(b"%b%b\r\n" % (head.fields, tail))
        self._status = head.status
        self._trust_early()
        self.plain = False
        if not client.full:
            client.deadline = worker.clock() + worker.settings.stream_timeout

    def response_data(self, data: bytes) -> None:
        """A piece of the response's body."""
        client = self._client
        self.sent += len(data)
        if self._chunked_out:
            client.transport.writelines(chunk([data]))
        else:
            client.transport.write(data)
        if not client.full:
            client.deadline = client.worker.clock() + client.worker.settings.stream_timeout

    def response_pieces(self, pieces: Sequence[Piece]) -> None:
        """Content that came in chunks."""
        client = self._client
        self.sent += sum(map(len, pieces))
        client.transport.writelines(chunk(pieces) if self._chunked_out else pieces)
        if not client.full:
            client.deadline = client.worker.clock() + client.worker.settings.stream_timeout

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
        upgrade = b", ".join(head.upgrade)
        client.transport.write(
            b"%bConnection: upgrade\r\nUpgrade: %b\r\n\r\n" % (head.fields, upgrade)
        )
        self._status = 101
        self._trust_early()
        self._upstream = None
        client.deadline = math.inf
        tunnel = Tunnel(client, connection, self)
        client.buffer, sent_early = b"", client.buffer
        tunnel.start(from_client=sent_early, from_upstream=early)
        worker.tunnels.add(tunnel)
        worker.metrics.tunnels_open += 1

    def tunnel_ended(self, tunnel: Tunnel) -> None:
        """Both sides of the tunnel are closed."""
        worker = self._client.worker
        worker.tunnels.discard(tunnel)
        worker.metrics.tunnels_open -= 1
        self._account(worker.clock())

    # What goes wrong

    def client_half_closed(self) -> None:
        """The client sends nothing more."""
        if self.request_open:
            self._fail(400, "the request body ended early", "incomplete request")
        else:
            self.plain = False
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
        self._fail(error.status, str(error), "refused")

    def on_deadline(self, now: float) -> None:
        """The deadline has passed that was set when something was last heard."""
        client = self._client
        if client.full:
            if client.has_progressed():
                self.wait(now)
            else:
                self._fail(504, "the client does not read", "send timeout")
        elif self._status:
            self._timed_out("stream_timeout", "the upstream fell silent")
        elif self._waits_for_body():
            self._fail(408, "the request body did not come in time", "body timeout")
        elif client.half_closed and self.fields.minor and self._still_waits(now):
            self._probe(now)
        elif self._upstream is not None:
            self._timed_out("response_timeout", "the upstream did not answer in time")

    def _still_waits(self, now: float) -> bool:
        patience = self._client.worker.settings.response_timeout
        return self._upstream is None or now < self._upstream_started + patience

    def _timed_out(self, kind: str, reason: str) -> None:
        self._client.worker.metrics.upstream_errors[kind] += 1
        self._blame(reason)
        self._fail(504, reason, kind)

    def _blame(self, reason: str) -> None:
        """It is the target's fault; a few in a row take it out."""
        live, target = self._live, self._target
        if live is not None and target is not None:
            self._client.worker.health.failed(target, live.max_fails, reason)

    def _trust_early(self) -> None:
        """A good answer has begun: a target at rest need not wait for its end, hours perhaps."""
        if (
            self._target is not None
            and self._target.passed_over_until
            and self._status not in FAILING_STATUSES
        ):
            self._trust()

    def _trust(self) -> None:
        """The target has answered with `_status`, which may speak for it or against it."""
        live, target = self._live, self._target
        if live is not None and target is not None:
            health = self._client.worker.health
            health.answered(target, live.max_fails, self._status, self._upstream_started)

    def _probe(self, now: float) -> None:
        """Ask a client that has half-closed whether it is still there.

        A client that has no more to say and one that is gone look alike until something is sent
        to them; the second one answers with a reset.
        """
        client = self._client
        if not self._probed:
            self._probed = True
            client.transport.write(_PROBE)
        elif client.is_reset():
            client.transport.abort()
            return
        self.wait(now)

    def _fail(self, status: int, reason: str, error: str) -> None:
        """End without a whole response: answer if nothing was sent yet, else break off."""
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
        client.answer_error(status, reason, self)
        self._finish(client.worker.clock())

    def _let_go(self) -> None:
        """Give up the upstream, or the wait for one."""
        if self._upstream is not None:
            self._upstream.close()
            self._upstream = None
        elif self._target is not None:
            self._target.forget(self)

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
                (target.passed_over_until or (live is not None and live.max_fails))
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
            request_id=self.request_id or client.worker.next_request_id(),
            user_agent=fields.value(b"user-agent"),
            route=self._live.route.domain if self._live is not None else None,
            error=self._error,
        )


def parse_max_forwards(value: bytes) -> int:
    """Max-Forwards of OPTIONS and TRACE (RFC 9110 section 7.6.2); raises `HttpError`."""
    if not value.isdigit() or len(value) > 9:
        raise HttpError(400, "Max-Forwards is malformed")
    return int(value)

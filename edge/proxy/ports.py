"""Owns what the parts below a connection may know of it, of its exchange and of its tunnel.

`ClientConnection`, `Exchange` and `Tunnel` know each other and what is decided about a request;
what decides knows them only as this, and can be tested without them.
"""

import asyncio
from collections.abc import Collection, Sequence
from typing import Protocol

from edge.errors import HttpError
from edge.upstream.target import Target
from edge.wire.forwarding import Peer
from edge.wire.request_head import RequestFields


class Waitlist(Protocol):
    """Where an exchange waits before it seeks an upstream, until `resume` or `reject` is called."""

    def cancel_wait(self, exchange: "WaitingExchange") -> None:
        """`exchange` waits no longer: its client has left, or its time is over."""

    def timeout_error(self) -> HttpError:
        """What the client is told if its time is over."""


class WaitingExchange(Protocol):
    """An exchange that can be made to wait: for a paused route, or a check of its password."""

    def wait_in(self, waitlist: Waitlist, until: float) -> None:
        """Wait, the body unread; at `until` it is rejected with `Waitlist.timeout_error`."""

    def resume(self) -> None:
        """What it waited for has come."""

    def reject(self, error: HttpError) -> None:
        """It must not go on."""


class Requester(Protocol):
    """The client's connection, as far as a request's admission depends on it."""

    @property
    def peer(self) -> Peer:
        """Who connected, and what is believed of what it forwards."""


class AdmissibleExchange(WaitingExchange, Protocol):
    """An exchange whose admission is to be decided."""

    @property
    def method(self) -> bytes:
        """Of the request."""

    @property
    def request_target(self) -> bytes:
        """In origin-form, or `*`."""

    @property
    def fields(self) -> RequestFields:
        """Of the request."""

    @property
    def client(self) -> Requester:
        """Whose request it is."""

    @property
    def client_address(self) -> str:
        """The client's address; behind trusted proxies the one that they name."""

    @property
    def authorization(self) -> bytes:
        """The value of Authorization."""

    def local_reply(
        self,
        status: int,
        media_type: bytes,
        content: bytes,
        fields: Sequence[bytes] = (),
        error: str = "",
    ) -> None:
        """Answer without an upstream; `fields` are lines for the head, `error` is for the log."""


class DrainableExchange(Protocol):
    """An exchange that may be in flight on a target that is drained."""

    def drain_timed_out(self, targets: Collection[Target]) -> bool:
        """Give up, if this is under way on one of `targets`; whether it was."""


class Client(Protocol):
    """A client's connection, as whoever looks after all of them sees it."""

    deadline: float

    @property
    def transport(self) -> asyncio.Transport:
        """Of the connection."""

    @property
    def exchange(self) -> DrainableExchange | None:
        """What is under way on it."""

    @property
    def busy(self) -> bool:
        """Whether a request may come or is in flight, or a response is not sent yet."""

    @property
    def waits_for_turn(self) -> bool:
        """Whether requests have come that are answered in a later turn of the loop."""

    @property
    def idle_since(self) -> float:
        """When it began to wait for a request; inf if it does anything else."""

    def close_idle(self) -> bool:
        """Close if no request has come meanwhile; whether that was so."""

    @property
    def buffered(self) -> int:
        """Bytes that wait for the client, for its upstream, or to be looked at."""

    def cut(self, error: str) -> None:
        """Close at once; `error` is for the access log."""

    def drain(self) -> None:
        """Close as soon as no request is in flight."""

    def on_deadline(self, now: float) -> None:
        """The deadline has passed."""


class Tunnel(Protocol):
    """A tunnel, as whoever closes it in order sees it."""

    @property
    def target(self) -> Target:
        """Where it leads to."""

    @property
    def deadline(self) -> float:
        """When `on_deadline` is to be called."""

    @property
    def closing(self) -> bool:
        """Whether its close has begun."""

    @property
    def over(self) -> bool:
        """Whether both sides are closed."""

    @property
    def buffered(self) -> int:
        """Bytes that wait for either side."""

    def cut(self, error: str) -> None:
        """As `abort`; `error` is for the access log."""

    def close_at(self, when: float) -> None:
        """Close gently at `when`, or earlier if that was said before."""

    def cancel_close(self) -> None:
        """Do not close after all, unless that has begun."""

    def abort(self) -> None:
        """Close both sides at once."""

    def on_deadline(self, now: float) -> None:
        """The deadline has passed."""


class ProxiedClient(Protocol):
    """A client's connection that begins with a PROXY header."""

    def proxy_header_received(self, source: str | None, data: bytes) -> None:
        """The client of the proxy is `source`, itself if None; `data` follows."""

    def reject_proxy_header(self, reason: str) -> None:
        """No sound header came."""

    def eof_received(self) -> bool | None:
        """The proxy has left without a byte."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""


class OngoingDrain(Protocol):
    """A drain of a target that is under way."""

    @property
    def targets(self) -> Collection[Target]:
        """What is drained: all that have, or had, one address."""

    def cancel(self) -> None:
        """The target is to go on serving."""

    def tunnel_opened(self, tunnel: Tunnel) -> None:
        """An exchange has become a tunnel."""

"""Owns what is decided about a request on a route before an upstream is chosen, and in which order.

Networks, rate, redirect, maintenance, Basic authentication, pause, availability: what costs least
and tells least comes first; a pause is late, so that only what would be forwarded is held, and
before availability, which may have changed when it ends.
"""

from collections.abc import Callable
from hashlib import blake2b

import orjson

from edge.errors import HttpError
from edge.proxy.basic_auth import BasicAuthenticator, retry_after
from edge.proxy.pause import RETRY_AFTER, PauseQueue
from edge.proxy.ports import AdmissibleExchange
from edge.routing.options import RouteOptions
from edge.routing.route import Route
from edge.rules.access_list import AccessList
from edge.rules.client_ip import client_name
from edge.rules.rate_limit import Limit, RateTable
from edge.rules.redirect import parse_redirect
from edge.runtime import Runtime
from edge.wire.local_reply import prefers_json

# What a client is told of a maintenance: nobody knows when it is over.
_MAINTENANCE_FIELDS = (b"Retry-After: 60", b"Cache-Control: no-store")

# The orchestrator starts a container again, and confirms one after a restart, within seconds.
_UNAVAILABLE_FIELDS = (b"Retry-After: 5",)


class Admission:
    """What one route asks of its requests; `make_admission` says whether there is anything.

    `pause_queue` gives the queue of a route by its key.
    """

    __slots__ = (
        "_access",
        "_authenticator",
        "_challenge",
        "_key",
        "_limit",
        "_maintenance",
        "_page",
        "_pause",
        "_pause_max",
        "_pause_queue",
        "_rates",
        "_realm",
        "_redirect",
        "_runtime",
        "_unavailable",
        "_users",
    )

    def __init__(
        self,
        route: Route,
        runtime: Runtime,
        rates: RateTable,
        authenticator: BasicAuthenticator,
        pause_queue: Callable[[str], PauseQueue],
    ) -> None:
        options = route.options
        self._runtime = runtime
        self._rates = rates
        self._authenticator = authenticator
        self._pause_queue = pause_queue
        self._key = route.key
        self._access = (
            AccessList(options.allow, options.deny) if options.allow or options.deny else None
        )
        self._limit = Limit.of(options.rate, options.burst) if options.rate is not None else None
        self._redirect = parse_redirect(options.redirect) if options.redirect is not None else None
        self._maintenance = options.maintenance
        self._page = options.maintenance_page.encode() if options.maintenance_page else b""
        self._users = options.basic_auth
        # A changed hash is another realm: what was remembered of the old one counts no more.
        self._realm = blake2b(orjson.dumps(options.basic_auth)).digest()
        # RFC 7617 section 2.1. A domain holds nothing that would end a quoted string.
        self._challenge = (
            f'WWW-Authenticate: Basic realm="{route.key}", charset="UTF-8"'.encode("ascii"),
        )
        self._pause = options.pause
        self._pause_max = options.pause_max
        self._unavailable = bool(route.why_unavailable(runtime.boot))

    def __repr__(self) -> str:
        return f"<Admission {self._key}>"

    def admits(self, exchange: AdmissibleExchange, resumed: bool) -> bool:
        """Whether `exchange` may go on; if not, it is answered, or held until it is restarted.

        `resumed`: it was held, and counts towards no rate a second time. Raises HttpError.
        """
        if self._access is not None and not self._access.admits(exchange.client_address):
            raise HttpError(403, "access from this address is not allowed")
        if self._limit is not None and not resumed:
            self._check_rate(exchange, self._limit)
        if self._redirect is not None and self._redirects(exchange):
            return False
        if self._maintenance:
            self._serve_maintenance(exchange)
            return False
        if self._users:
            verdict = self._authenticator.check(
                exchange, self._users, self._realm, exchange.authorization
            )
            if verdict is None:
                return False
            if not verdict:
                raise HttpError(401, "a valid user name and password are required", self._challenge)
        if self._pause is not None:
            self._pause_request(exchange, self._pause)
            return False
        if self._unavailable:
            # The reason is the operator's to know.
            raise HttpError(
                503,
                "this site is unavailable, please try again later",
                _UNAVAILABLE_FIELDS,
                "unavailable",
            )
        return True

    def _check_rate(self, exchange: AdmissibleExchange, limit: Limit) -> None:
        name = self._key.encode("ascii") + b"\0" + client_name(exchange.client_address)
        wait = self._rates.take(name, limit, self._runtime.clock())
        if wait:
            raise HttpError(429, "too many requests from this address", (retry_after(wait),))

    def _redirects(self, exchange: AdmissibleExchange) -> bool:
        """Answer with a redirect, unless it would lead to where the request is already."""
        redirect = self._redirect
        assert redirect is not None  # noqa: S101  narrows a type
        fields = exchange.fields
        scheme = exchange.client.peer.scheme(fields)
        if redirect.leads_back(scheme, fields.host, fields.authority):
            return False
        location = redirect.location(fields.host, exchange.request_target)
        # 301 lets a client turn POST into GET (RFC 9110 section 15.4.2), and is understood by all.
        status = 301 if exchange.method in (b"GET", b"HEAD") else 308
        exchange.local_reply(status, b"", b"", (b"Location: " + location,))
        return True

    def _serve_maintenance(self, exchange: AdmissibleExchange) -> None:
        if not self._page or prefers_json(exchange.fields.value(b"accept")):
            raise HttpError(
                503,
                "this site is down for maintenance, please try again later",
                _MAINTENANCE_FIELDS,
                "maintenance",
            )
        exchange.local_reply(
            503, b"text/html; charset=utf-8", self._page, _MAINTENANCE_FIELDS, "maintenance"
        )

    def _pause_request(self, exchange: AdmissibleExchange, seconds: float) -> None:
        queue = self._pause_queue(self._key)
        if len(queue) >= self._pause_max:
            raise HttpError(
                503,
                "the route is paused and too many requests are waiting",
                (RETRY_AFTER,),
                "paused",
            )
        queue.add(exchange, self._runtime.clock() + seconds)


def make_admission(
    route: Route,
    runtime: Runtime,
    rates: RateTable,
    authenticator: BasicAuthenticator,
    pause_queue: Callable[[str], PauseQueue],
) -> Admission | None:
    """The admission of `route`; None if it takes every request as it comes."""
    if not _restricts_requests(route.options) and not route.why_unavailable(runtime.boot):
        return None
    return Admission(route, runtime, rates, authenticator, pause_queue)


def _restricts_requests(options: RouteOptions) -> bool:
    return bool(
        options.allow
        or options.deny
        or options.rate is not None
        or options.redirect is not None
        or options.maintenance
        or options.basic_auth
        or options.pause is not None
    )

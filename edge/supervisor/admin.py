"""Owns the admin API: what it shows and changes, and what each takes.

It has two servers: one on TCP, where all but health takes a bearer token, and one on the control
socket, which needs none, as the kernel says who has opened it. What is done and shown is the
supervisor's.
"""

import asyncio
import socket
from collections.abc import Sequence
from typing import Final

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from edge.api.access import Access
from edge.api.endpoint import AccessGuard, Endpoint, Handler
from edge.api.openapi import JSON, PLAIN, Api, Object, Query, answer, document
from edge.api.permission import Open, Permission, Scope
from edge.api.server import Server
from edge.control.channel import ChannelError
from edge.control.handover import UPGRADE_TIMEOUT
from edge.errors import FairleadError
from edge.proxy.drain import TUNNEL_DRAIN_TIMEOUT
from edge.supervisor.changes import (
    SECONDS,
    TARGET,
    VERSION,
    Fields,
    change,
    seconds_of,
    target_of,
    version_of,
)
from edge.supervisor.fleet import RELOAD_TIMEOUT, Fleet
from edge.supervisor.large_answers import LargeAnswers
from edge.supervisor.status import Status
from edge.supervisor.upgrade import Upgrade
from edge.telemetry.metrics import Metrics

# The version of the text format that every Prometheus reads, and `telemetry.prometheus` writes.
METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
# Seconds that a stop leaves to an answer that is still being sent.
STOP_TIMEOUT: Final = 1
# Seconds for which a client may take nothing of its answer.
STALL_TIMEOUT: Final = 10.0
# What grows with the number of routes.
LARGE: Final = ("/metrics", "/routes")

_API: Final = Api(
    title="Fairlead edge",
    description=(
        "Over TCP all but /healthz and /readyz needs a bearer token, FAIRLEAD_API_TOKEN or one of"
        " `fairlead tokens create` that has the scope and is limited to no apps; so does"
        " /metrics, but for clients on this machine unless FAIRLEAD_METRICS_AUTH is token. The"
        " control socket needs none."
    ),
    errors={
        400: "The body is invalid.",
        401: "The token is missing or wrong.",
        403: "The token does not suffice, or a foreign page asks.",
        503: "The edge cannot do this now.",
    },
    guard_errors=(400, 401, 403, 503),
)
_URL: Final = Query("url", "", {"type": "string"}, required=True, example="http://app.test/path")


class Admin:
    """The endpoints and their handlers."""

    def __init__(
        self, status: Status, fleet: Fleet, upgrade: Upgrade, drain_timeout: float
    ) -> None:
        self._status = status
        self._fleet = fleet
        self._upgrade = upgrade
        self._drain_timeout = drain_timeout
        # Scrapes in parallel would only compute the same thing twice.
        self._rendering = asyncio.Lock()

    def endpoints(self) -> list[Endpoint]:
        """What is served, on each of the servers."""
        return [
            _shown(
                "/healthz",
                Open.EVERYBODY,
                self._healthz,
                "Liveness: the process responds.",
                PLAIN,
            ),
            _shown(
                "/readyz",
                Open.EVERYBODY,
                self._readyz,
                "Readiness: every worker serves a route table.",
                PLAIN,
                unready="Not ready; /workers says why.",
            ),
            _shown(
                "/metrics",
                Scope.METRICS,
                self._metrics,
                "Metrics in the Prometheus text format, summed over the workers.",
                PLAIN,
            ),
            _shown(
                "/routes",
                Scope.READ,
                self._routes,
                "The routes, and the health of their targets.",
            ),
            _shown("/workers", Scope.READ, self._workers, "The worker processes."),
            _shown(
                "/explain",
                Scope.READ,
                self._explain,
                "The route that a URL matches, and why.",
                query=(_URL,),
            ),
            _shown("/openapi.json", Scope.READ, self._openapi, "This document."),
            change(
                "/reload",
                Scope.WRITE,
                self._reload,
                "Reload the routes. Responds when every worker serves the version.",
                {"version": VERSION, "timeout": SECONDS},
            ),
            change(
                "/adopt",
                Scope.ADMIN,
                self._adopt,
                "Take the database that is there. Responds when every worker serves it.",
                {"timeout": SECONDS},
            ),
            change(
                "/drain",
                Scope.WRITE,
                self._drain,
                "Send no new requests to a target. Responds when none is in flight.",
                {
                    "target": TARGET,
                    "version": VERSION,
                    "timeout": SECONDS,
                    "tunnel_timeout": SECONDS,
                },
                required=["target"],
            ),
            change(
                "/undrain",
                Scope.WRITE,
                self._undrain,
                "Send requests to a drained target again.",
                {"target": TARGET},
                required=["target"],
            ),
            change(
                "/upgrade",
                Scope.ADMIN,
                self._hand_over,
                "Upgrade to the code on disk. Responds when it serves.",
                {"timeout": SECONDS},
            ),
        ]

    def server(self, sockets: Sequence[socket.socket], access: Access) -> Server:
        """A server on `sockets`, for those whom `access` admits."""
        guard = AccessGuard(access)
        app = Starlette(
            routes=[endpoint.route(guard) for endpoint in self.endpoints()],
            exception_handlers={HTTPException: _http_error, FairleadError: _command_error},
        )
        app.router.redirect_slashes = False
        return Server(
            LargeAnswers(app, LARGE),
            sockets,
            stop_timeout=STOP_TIMEOUT,
            stall_timeout=STALL_TIMEOUT,
            ws="none",
        )

    # What is shown

    async def _healthz(self, _request: Request) -> Response:
        return PlainTextResponse("ok")

    async def _readyz(self, _request: Request) -> Response:
        if self._status.why_not_ready() is None:
            return PlainTextResponse("ready")
        return PlainTextResponse("unavailable", status_code=503)

    async def _metrics(self, _request: Request) -> Response:
        async with self._rendering:
            text = await asyncio.to_thread(self._render, await self._fleet.total_metrics())
        return Response(text, media_type=METRICS_TYPE)

    def _render(self, metrics: Metrics) -> bytes:
        # Who is never scraped has no use for prometheus-client, nor for the HTTP servers and the
        # mail that it imports.
        from edge.supervisor.process_metrics import WorkerCollector
        from edge.telemetry.prometheus import render

        return render(metrics, WorkerCollector(self._fleet.slots, self._upgrade.counts))

    async def _routes(self, _request: Request) -> Response:
        return _json(await self._status.describe_routes())

    async def _workers(self, _request: Request) -> Response:
        return _json(self._status.describe_workers())

    async def _explain(self, request: Request) -> Response:
        url = request.query_params.get("url")
        if not url:
            raise HTTPException(
                400, "the parameter url is missing: request /explain?url=http://app.test/path"
            )
        return _json(await self._status.explain(url))

    async def _openapi(self, _request: Request) -> Response:
        return _json(document(_API, self.endpoints()))

    # What is changed

    async def _reload(self, fields: Fields) -> Response:
        version = version_of(fields)
        timeout = seconds_of(fields, "timeout", RELOAD_TIMEOUT)
        return _json(await self._fleet.reload(version, timeout))

    async def _adopt(self, fields: Fields) -> Response:
        return _json(await self._fleet.adopt(seconds_of(fields, "timeout", RELOAD_TIMEOUT)))

    async def _drain(self, fields: Fields) -> Response:
        timeout = seconds_of(fields, "timeout", self._drain_timeout)
        tunnel_timeout = seconds_of(fields, "tunnel_timeout", TUNNEL_DRAIN_TIMEOUT)
        target = target_of(fields)
        version = version_of(fields)
        return _json(await self._fleet.drain_target(target, timeout, tunnel_timeout, version))

    async def _undrain(self, fields: Fields) -> Response:
        return _json(self._fleet.undrain_target(target_of(fields)))

    async def _hand_over(self, fields: Fields) -> Response:
        return _json(await self._upgrade.upgrade(seconds_of(fields, "timeout", UPGRADE_TIMEOUT)))


def _shown(
    path: str,
    permission: Permission,
    handler: Handler,
    summary: str,
    content: Object = JSON,
    *,
    unready: str = "",
    query: Sequence[Query] = (),
) -> Endpoint:
    """A GET; with `unready` it has a 503 that means it."""
    answers = {200: answer(summary, content)}
    if unready:
        answers[503] = answer(unready, content)
    return Endpoint(
        method="GET",
        path=path,
        permission=permission,
        handler=handler,
        summary=summary,
        query=query,
        answers=answers,
    )


def _json(content: object, status: int = 200) -> Response:
    return Response(
        orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE),
        status_code=status,
        media_type="application/json",
    )


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  narrows a type
    response = _json({"error": error.detail}, error.status_code)
    response.headers.update(error.headers or {})
    return response


async def _command_error(_request: Request, error: Exception) -> Response:
    return _json({"error": str(error)}, 503 if isinstance(error, ChannelError) else 400)

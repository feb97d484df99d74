"""Owns the admin API: health, metrics and routes for all who ask, changes for those who may.

It has two servers: one on TCP, where changes take a bearer token, and one on the control socket,
which only the owner of the database can open and which therefore needs none. What is done and
shown is the supervisor's.
"""

import asyncio
import secrets
import socket
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from edge.control.channel import ChannelError
from edge.errors import FairleadError
from edge.proxy.drain import TUNNEL_DRAIN_TIMEOUT
from edge.routing.route import parse_target
from edge.supervisor.endpoints import ENDPOINTS, Endpoint, document
from edge.supervisor.fleet import Fleet
from edge.supervisor.process_metrics import WorkerCollector
from edge.supervisor.status import Status
from edge.supervisor.upgrade import Upgrade
from edge.telemetry.prometheus import render

# The version of the text format that every Prometheus reads, and `telemetry.prometheus` writes.
METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
# Seconds that `stop` leaves to an answer that is still being sent.
STOP_TIMEOUT: Final = 1
# Bytes of a request's body: a few numbers.
MAX_BODY: Final = 16 * 1024
# Seconds that are waited for what a request asks for, at most.
MAX_TIMEOUT: Final = 3600.0

_Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class Admin:
    """One server on `sockets`. With a `token`, changes must carry it; with None they need not.

    An empty token admits nobody.
    """

    def __init__(
        self,
        status: Status,
        fleet: Fleet,
        upgrade: Upgrade,
        sockets: Sequence[socket.socket],
        token: str | None,
        drain_timeout: float,
    ) -> None:
        self.sockets = list(sockets)
        self._status = status
        self._fleet = fleet
        self._upgrade = upgrade
        self._drain_timeout = drain_timeout
        self._token = token
        # Scrapes in parallel would only compute the same thing twice.
        self._rendering = asyncio.Lock()
        app = Starlette(
            routes=[
                Route(each.path, self._handler(each), methods=[each.method]) for each in ENDPOINTS
            ],
            exception_handlers={HTTPException: _http_error, FairleadError: _command_error},
        )
        app.router.redirect_slashes = False
        self._config = uvicorn.Config(
            app,
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=STOP_TIMEOUT,
        )
        self._server = uvicorn.Server(self._config)
        self._running: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serve."""
        # The steps of uvicorn.Server.serve, without its signal handlers: signals are not its.
        self._config.load()
        self._server.lifespan = self._config.lifespan_class(self._config)
        await self._server.startup(sockets=self.sockets)
        self._running = asyncio.create_task(self._server.main_loop())

    def stop_accepting(self) -> None:
        """Answer what was asked already, and take no new connection."""
        for server in self._server.servers:
            server.close()

    async def stop(self) -> None:
        """Close the sockets; an answer that is being sent gets `STOP_TIMEOUT` to finish."""
        if self._running is not None:
            self._server.should_exit = True
            await self._running
            await self._server.shutdown(sockets=self.sockets)

    # For all who ask

    async def _healthz(self, _request: Request) -> Response:
        return PlainTextResponse("ok")

    async def _readyz(self, _request: Request) -> Response:
        reason = self._status.why_not_ready()
        return PlainTextResponse(reason or "ready", status_code=503 if reason else 200)

    async def _metrics(self, _request: Request) -> Response:
        async with self._rendering:
            processes = WorkerCollector(self._fleet.slots, self._upgrade.counts)
            text = await asyncio.to_thread(render, await self._fleet.total_metrics(), processes)
        return Response(text, media_type=METRICS_TYPE)

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
        return _json(document())

    # For those who may

    def _handler(self, endpoint: Endpoint) -> _Handler:
        if endpoint.is_open:
            open_handlers: dict[str, _Handler] = {
                "healthz": self._healthz,
                "readyz": self._readyz,
                "metrics": self._metrics,
                "routes": self._routes,
                "workers": self._workers,
                "explain": self._explain,
                "openapi": self._openapi,
            }
            return open_handlers[endpoint.handler]
        changes: dict[str, Callable[[Mapping[str, object]], Coroutine[Any, Any, Response]]] = {
            "reload": self._reload,
            "drain": self._drain,
            "undrain": self._undrain,
            "hand_over": self._hand_over,
        }
        change = changes[endpoint.handler]

        async def guarded(request: Request) -> Response:
            self._check_token(request)
            return await change(await _body_fields(request, set(endpoint.fields)))

        return guarded

    def _check_token(self, request: Request) -> None:
        if self._token is None:
            return
        if not self._token:
            raise HTTPException(
                403, "no FAIRLEAD_ADMIN_TOKEN is set: set one, or use the control socket"
            )
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not secrets.compare_digest(
            given.strip().encode(), self._token.encode()
        ):
            raise HTTPException(
                401,
                "send Authorization: Bearer with the value of FAIRLEAD_ADMIN_TOKEN",
                headers={"WWW-Authenticate": "Bearer"},
            )

    async def _reload(self, fields: Mapping[str, object]) -> Response:
        version = fields.get("version", 0)
        if type(version) is not int or version < 0:
            raise HTTPException(400, "version is not a whole number from 0")
        timeout = _seconds(fields, "timeout", 10.0)
        return _json(await self._fleet.reload(version, timeout))

    async def _drain(self, fields: Mapping[str, object]) -> Response:
        timeout = _seconds(fields, "timeout", self._drain_timeout)
        tunnel_timeout = _seconds(fields, "tunnel_timeout", TUNNEL_DRAIN_TIMEOUT)
        target = _target(fields)
        return _json(await self._fleet.drain_target(target, timeout, tunnel_timeout))

    async def _undrain(self, fields: Mapping[str, object]) -> Response:
        target = _target(fields)
        return _json(self._fleet.undrain_target(target))

    async def _hand_over(self, _fields: Mapping[str, object]) -> Response:
        return _json(await self._upgrade.upgrade())


def _json(content: object, status: int = 200) -> Response:
    return Response(
        orjson.dumps(content, option=orjson.OPT_APPEND_NEWLINE),
        status_code=status,
        media_type="application/json",
    )


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = _json({"error": error.detail}, error.status_code)
    response.headers.update(error.headers or {})
    return response


async def _command_error(_request: Request, error: Exception) -> Response:
    return _json({"error": str(error)}, 503 if isinstance(error, ChannelError) else 400)


async def _body_fields(request: Request, known: set[str]) -> Mapping[str, object]:
    """The JSON object in the body; an empty body is an empty object."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY:
            raise HTTPException(413, f"the body is larger than {MAX_BODY} bytes")
    try:
        fields = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError as error:
        raise HTTPException(400, f"the body is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise HTTPException(400, "the body is not a JSON object")
    for name in fields:
        if name not in known:
            possible = ", ".join(sorted(known)) or "none"
            raise HTTPException(400, f"the field {name!r} is unknown; fields are {possible}")
    return fields


def _seconds(fields: Mapping[str, object], name: str, default: float) -> float:
    value = fields.get(name, default)
    if type(value) not in (int, float) or not 0 <= float(value) <= MAX_TIMEOUT:  # type: ignore[arg-type]
        raise HTTPException(400, f"{name} is not a number of seconds from 0 to {MAX_TIMEOUT:g}")
    return float(value)  # type: ignore[arg-type]


def _target(fields: Mapping[str, object]) -> str:
    target = fields.get("target")
    if not isinstance(target, str):
        raise HTTPException(400, 'the field target is missing: send {"target": "host:port"}')
    return parse_target(target)

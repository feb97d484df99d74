"""Owns the admin server: /healthz, /readyz and /metrics, apart from the traffic of clients.

It runs inside the worker's loop, but never computes there for long: a scrape is rendered in a
thread. What is ready, and what is counted, is known elsewhere.
"""

import asyncio
import socket
from collections.abc import Callable, Iterable

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from edge.config import Address
from edge.listener import listen
from edge.metrics import Metrics

# The version of the text format that every Prometheus reads, and that `Metrics.render` writes.
METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Seconds that `stop` leaves to a scrape that is still being sent.
STOP_TIMEOUT = 1


class Admin:
    """The admin server. `readiness()` is None when ready, else the reason why not.

    `addresses` are the host and port of every socket that is bound, after `start`.
    """

    def __init__(
        self,
        addresses: Iterable[Address],
        metrics: Metrics,
        readiness: Callable[[], str | None],
    ) -> None:
        self.addresses: list[tuple[str, int]] = []
        self._wanted = tuple(addresses)
        self._metrics = metrics
        self._readiness = readiness
        # Scrapes in parallel would only take the interpreter from the loop, one after another.
        self._rendering = asyncio.Lock()
        self._sockets: list[socket.socket] = []
        app = Starlette(
            routes=[
                Route("/healthz", self._healthz),
                Route("/readyz", self._readyz),
                Route("/metrics", self._render_metrics),
            ]
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
        """Bind and serve. Raises ConfigError, and leaves nothing open, if it cannot."""
        self._sockets = listen(self._wanted, "FAIRLEAD_ADMIN_ADDR")
        self.addresses = [bound.getsockname()[:2] for bound in self._sockets]
        # The steps of uvicorn.Server.serve, without its signal handlers: signals are the worker's.
        self._config.load()
        self._server.lifespan = self._config.lifespan_class(self._config)
        await self._server.startup(sockets=self._sockets)
        self._running = asyncio.create_task(self._server.main_loop())

    async def stop(self) -> None:
        """Close the sockets; a scrape that is being sent gets `STOP_TIMEOUT` to finish."""
        if self._running is not None:
            self._server.should_exit = True
            await self._running
            await self._server.shutdown(sockets=self._sockets)

    async def _healthz(self, _request: Request) -> Response:
        return PlainTextResponse("ok")

    async def _readyz(self, _request: Request) -> Response:
        reason = self._readiness()
        return PlainTextResponse(reason or "ready", status_code=503 if reason else 200)

    async def _render_metrics(self, _request: Request) -> Response:
        async with self._rendering:
            text = await asyncio.to_thread(self._metrics.render)
        return Response(text, media_type=METRICS_TYPE)

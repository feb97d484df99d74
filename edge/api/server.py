"""Owns the server that an API runs on: uvicorn, on sockets that others made."""

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from edge.api.access import PEER
from edge.api.head_limit import HeadLimit
from edge.api.stall_limit import limited
from edge.peer import peer_of


class _Connection(HeadLimit):
    """A client's; of one on a Unix socket, the state of each request says who it is."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come."""
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        if sock.family == socket.AF_UNIX:
            self.app_state = {**self.app_state, PEER: peer_of(sock)}


class Server:
    """uvicorn on listening sockets, without hands on signals.

    `stop_timeout` are the seconds that `stop` leaves to an answer that is still being sent, and
    `stall_timeout` those for which a client may take nothing of it;
    `options` are uvicorn's, of what the API has of its own.
    """

    def __init__(
        self,
        app: ASGIApp,
        sockets: Sequence[socket.socket],
        *,
        stop_timeout: int,
        stall_timeout: float,
        **options: Any,
    ) -> None:
        self._sockets = list(sockets)
        self._config = uvicorn.Config(
            app,
            http=limited(_Connection, stall_timeout),
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=stop_timeout,
            **options,
        )
        self._server = uvicorn.Server(self._config)
        self._main_loop: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serve."""
        # The steps of uvicorn.Server.serve, without its signal handlers: signals are not its.
        self._config.load()
        self._server.lifespan = self._config.lifespan_class(self._config)
        await self._server.startup(sockets=self._sockets)
        self._main_loop = asyncio.create_task(self._server.main_loop())

    def stop_accepting(self) -> None:
        """Answer what was asked already, and take no new connection."""
        for server in self._server.servers:
            server.close()

    async def stop(self) -> None:
        """Close the sockets; an answer that is being sent gets `stop_timeout` to finish."""
        if self._main_loop is not None:
            self._server.should_exit = True
            await self._main_loop
            await self._server.shutdown(sockets=self._sockets)

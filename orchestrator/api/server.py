"""Owns the server that the application runs on: its socket, its limits, its beginning and end."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import uvicorn
from starlette.applications import Starlette

from edge.settings.syntax import Address
from orchestrator.errors import OrchestratorError

# Connections at once, followers of logs among them; more are answered with 503.
MAX_CONNECTIONS: Final = 1000
# Seconds between two pings on a WebSocket, and that a pong may take.
PING_INTERVAL: Final = 20.0
PING_TIMEOUT: Final = 20.0
# Bytes of a message from a follower, who has nothing to say.
MAX_CLIENT_MESSAGE: Final = 4096
# Seconds that `stop` leaves to answers that are still being sent.
STOP_TIMEOUT: Final = 2
# Clients that wait in the kernel to be accepted.
BACKLOG: Final = 1024


class Server:
    """uvicorn on one listening socket, without hands on signals."""

    def __init__(self, app: Starlette, listening: socket.socket) -> None:
        self._socket = listening
        self._config = uvicorn.Config(
            app,
            http="httptools",
            ws="websockets-sansio",
            ws_max_size=MAX_CLIENT_MESSAGE,
            ws_ping_interval=PING_INTERVAL,
            ws_ping_timeout=PING_TIMEOUT,
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_graceful_shutdown=STOP_TIMEOUT,
        )
        self._server = uvicorn.Server(self._config)
        self._main_loop: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Serve."""
        # The steps of uvicorn.Server.serve, without its signal handlers: signals are not its.
        self._config.load()
        self._server.lifespan = self._config.lifespan_class(self._config)
        await self._server.startup(sockets=[self._socket])
        self._main_loop = asyncio.create_task(self._server.main_loop())

    def stop_accepting(self) -> None:
        """Answer what was asked already, and take no new connection."""
        for server in self._server.servers:
            server.close()

    async def stop(self) -> None:
        """Close the connections; an answer that is being sent gets `STOP_TIMEOUT` to finish."""
        if self._main_loop is not None:
            self._server.should_exit = True
            await self._main_loop
            await self._server.shutdown(sockets=[self._socket])


@contextmanager
def listen(address: Address) -> Iterator[socket.socket]:
    """A listening socket. Raises OrchestratorError where there can be none."""
    try:
        if address.host:
            found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            listening = socket.create_server(
                (address.host, address.port), family=found[0][0], backlog=BACKLOG
            )
        elif socket.has_dualstack_ipv6():
            listening = socket.create_server(
                ("", address.port), family=socket.AF_INET6, backlog=BACKLOG, dualstack_ipv6=True
            )
        else:
            listening = socket.create_server(("", address.port), backlog=BACKLOG)
    except OSError as error:
        raise OrchestratorError(
            f"cannot listen on {address}: {error.strerror}; choose another FAIRLEAD_ADDR"
        ) from None
    with listening:
        yield listening

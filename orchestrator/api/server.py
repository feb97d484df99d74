"""Owns what the server of the API has of its own: its socket and its limits."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from starlette.applications import Starlette
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from edge.api.server import Server
from edge.api.stall_limit import limited
from edge.net.listener import listen_unix
from edge.settings.syntax import Address
from orchestrator.errors import OrchestratorError

# Connections at once, followers of logs among them; more are answered with 503.
MAX_CONNECTIONS: Final = 1000
# Seconds between two pings on a WebSocket, and that a pong may take.
PING_INTERVAL: Final = 20.0
PING_TIMEOUT: Final = 20.0
# Bytes of a message from a follower, who has nothing to say.
MAX_CLIENT_MESSAGE: Final = 4096
# Seconds that a stop leaves to answers that are still being sent.
STOP_TIMEOUT: Final = 2
# Seconds for which a client, or a follower, may take nothing of what it is sent.
STALL_TIMEOUT: Final = 60.0
# Clients that wait in the kernel to be accepted.
BACKLOG: Final = 1024


def create_server(app: Starlette, listening: socket.socket) -> Server:
    """The server of `app` on this socket."""
    return Server(
        app,
        [listening],
        stop_timeout=STOP_TIMEOUT,
        stall_timeout=STALL_TIMEOUT,
        limit_concurrency=MAX_CONNECTIONS,
        ws=limited(WebSocketsSansIOProtocol, STALL_TIMEOUT),
        ws_max_size=MAX_CLIENT_MESSAGE,
        ws_ping_interval=PING_INTERVAL,
        ws_ping_timeout=PING_TIMEOUT,
        ws_per_message_deflate=False,
    )


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


@contextmanager
def listen_here(path: Path) -> Iterator[socket.socket]:
    """The socket for commands on this machine. Raises ConfigError where there can be none."""
    with listen_unix(path, "FAIRLEAD_API_SOCKET") as listening:
        try:
            yield listening
        finally:
            path.unlink(missing_ok=True)

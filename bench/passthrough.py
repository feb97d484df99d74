"""The floor: a program that passes bytes through with uvloop, and reads none of them.

Each client has an upstream connection of its own. What a proxy in Python costs above this is what
it does itself; below it is only what does not go through uvloop's transports.
"""

import asyncio
import sys
from typing import Final, cast

import uvloop

_HOST: Final = "127.0.0.1"


class _Side(asyncio.Protocol):
    """One end of a pair: what it receives is written to the other."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.other: _Side | None = None
        self.early: list[bytes] = []  # what came before the other end was there

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are none of asyncio's by class.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self.other is None or self.other.transport is None:
            self.early.append(data)
        else:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class _Client(_Side):
    def __init__(self, upstream_port: int, opening: set[asyncio.Task[None]]) -> None:
        super().__init__()
        self._upstream_port = upstream_port
        self._opening = opening

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        task = asyncio.get_running_loop().create_task(self._open())
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open(self) -> None:
        upstream = _Side()
        upstream.other = self
        transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: upstream, _HOST, self._upstream_port
        )
        self.other = upstream
        for data in self.early:
            transport.write(data)


async def _serve(port: int, upstream_port: int) -> None:
    opening: set[asyncio.Task[None]] = set()
    server = await asyncio.get_running_loop().create_server(
        lambda: _Client(upstream_port, opening), _HOST, port, backlog=4096
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1]), int(sys.argv[2])))

"""Owns an upstream at every address of 127.0.0.0/8, in a process that has its own descriptors:
`python -m tests.network` prints its port and answers every request.
"""

import asyncio
import subprocess
import sys
from typing import cast

import uvloop

from tests.harness import Conversation
from tests.messages import ok

ANSWER = ok("hello")


class _Connection(asyncio.Protocol):
    """Requests without a body, one after the other."""

    def __init__(self) -> None:
        self._begun = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        *whole, self._begun = (self._begun + data).split(b"\r\n\r\n")
        self._transport.write(ANSWER * len(whole))


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "0.0.0.0", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class Network:
    """A running one."""

    def __init__(self, conversation: Conversation) -> None:
        raised = ["bash", "-c", 'ulimit -n "$(ulimit -Hn)"; exec "$@"', "bash"]
        self._popen = subprocess.Popen(
            [*raised, sys.executable, "-m", "tests.network"],
            stdout=subprocess.PIPE,
            text=True,
        )
        conversation.closes_at_end(self._dies)
        assert self._popen.stdout is not None
        self._port = self._popen.stdout.readline().strip()

    def target(self, number: int) -> str:
        """One of its addresses, with the port."""
        number += 1 << 16
        return f"127.{number >> 16}.{number >> 8 & 255}.{number & 255}:{self._port}"

    def _dies(self) -> None:
        self._popen.kill()
        self._popen.wait()
        if self._popen.stdout is not None:
            self._popen.stdout.close()


if __name__ == "__main__":
    uvloop.run(_serve())

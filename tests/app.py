"""Owns an application that the load tests can kill: `python -m tests.app` prints its port and
answers every request with its process number, after a while.

So nearly every connection has a request in flight when something is replaced, and the machine has
time for the replacing: an application that answers at once makes the load a race for the cores.
"""

import asyncio
import os
import subprocess
import sys
from typing import cast

import uvloop

from tests.harness import Conversation

ANSWER_SECONDS = 0.04


class _Answers(asyncio.Protocol):
    """Requests without a body, as wrk sends them; pipelining is answered in one write."""

    def __init__(self) -> None:
        text = str(os.getpid()).encode()
        self._answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text)
        self._begun = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        *whole, self._begun = (self._begun + data).split(b"\r\n\r\n")
        answers = self._answer * len(whole)
        asyncio.get_running_loop().call_later(ANSWER_SECONDS, self._transport.write, answers)


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Answers, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class App:
    """A running one."""

    def __init__(self, conversation: Conversation) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-m", "tests.app"], stdout=subprocess.PIPE, text=True
        )
        conversation.closes_at_end(self.dies)
        self._port = ""

    @property
    def target(self) -> str:
        """Its address, once it listens."""
        if not self._port:
            assert self._popen.stdout is not None
            self._port = self._popen.stdout.readline().strip()
        return f"127.0.0.1:{self._port}"

    def dies(self) -> None:
        """It is killed."""
        self._popen.kill()
        self._popen.wait()
        if self._popen.stdout is not None:
            self._popen.stdout.close()


if __name__ == "__main__":
    uvloop.run(_serve())

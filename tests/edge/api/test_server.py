"""Proves when the server takes connections, and that signals stay with who had them."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from edge.api.server import Server
from tests.process import NO_AUTHORITIES

# Seconds that something may take on a busy machine.
PATIENCE = 30.0


class Running:
    """A server of two sockets whose one endpoint answers when `released`."""

    def __init__(self, sockets: list[socket.socket], stop_timeout: int) -> None:
        self.asked = asyncio.Event()
        self.released = asyncio.Event()
        self.urls = [f"http://127.0.0.1:{sock.getsockname()[1]}/" for sock in sockets]
        app = Starlette(routes=[Route("/", self._answer)])
        self.server = Server(
            app, sockets, stop_timeout=stop_timeout, stall_timeout=PATIENCE, ws="none"
        )

    async def _answer(self, _request: Request) -> Response:
        self.asked.set()
        await self.released.wait()
        return PlainTextResponse("here")


@asynccontextmanager
async def running(stop_timeout: int = 1) -> AsyncIterator[tuple[Running, httpx.AsyncClient]]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        up = Running(sockets, stop_timeout)
        await up.server.start()
        client = httpx.AsyncClient(timeout=PATIENCE, trust_env=False, verify=NO_AUTHORITIES)
        async with client, asyncio.timeout(PATIENCE):
            yield up, client
            await up.server.stop()


def test_it_serves_on_all_its_sockets_and_leaves_signals_alone() -> None:
    async def scenario() -> None:
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        async with running() as (up, client):
            up.released.set()
            assert [(await client.get(url)).text for url in up.urls] == ["here", "here"]
            found = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
            assert found == handlers

    asyncio.run(scenario())


def test_once_it_accepts_no_more_what_was_asked_is_answered() -> None:
    async def scenario() -> None:
        async with running() as (up, client):
            asked = asyncio.create_task(client.get(up.urls[0]))
            await up.asked.wait()
            up.server.stop_accepting()
            for url in up.urls:
                with pytest.raises(httpx.ConnectError):
                    await client.get(url)
            up.released.set()
            assert (await asked).text == "here"

    asyncio.run(scenario())


def test_a_stop_does_not_wait_for_an_answer_for_ever() -> None:
    async def scenario() -> None:
        async with running(stop_timeout=0) as (up, client):
            asked = asyncio.create_task(client.get(up.urls[0]))
            await up.asked.wait()
            await up.server.stop()
            assert (await asked).status_code == 500
            with pytest.raises(httpx.ConnectError):
                await client.get(up.urls[1])

    asyncio.run(scenario())


def test_one_that_was_not_started_can_be_stopped() -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            server = Server(
                Starlette(), [listening], stop_timeout=1, stall_timeout=PATIENCE, ws="none"
            )
            await server.stop()
            assert listening.fileno() != -1

    asyncio.run(scenario())

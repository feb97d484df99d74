"""Proves how large a head of the APIs may be, and that it must come."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from edge.api import head_limit
from edge.api.head_limit import MAX_HEAD
from edge.api.server import Server

PATIENCE = 30.0
GET = b"GET / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def echo(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


@asynccontextmanager
async def connected() -> AsyncIterator[Connection]:
    """A client of a server that says how long a body was."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        app = Starlette(routes=[Route("/", echo, methods=["GET", "POST"])])
        server = Server(app, [listening], stop_timeout=1, stall_timeout=PATIENCE, ws="none")
        await server.start()
        async with asyncio.timeout(PATIENCE):
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            yield reader, writer
            writer.close()
        await server.stop()


async def sends(connection: Connection, *pieces: bytes) -> bytes:
    """All that is answered, until the server closes."""
    reader, writer = connection
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return await reader.read()
    except ConnectionError:
        return b""  # closed in the middle of what was sent


FIELDS = b"".join(b"x-%d: y\r\n" % number for number in range(20_000))


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"x" * 2**20,
        GET + b"X: " + b"x" * 2**20,
        GET + b"x" * 2**20,
        GET + FIELDS,
        CHUNKED + b"0\r\nX: " + b"x" * 2**20,
        CHUNKED + b"0\r\n" + FIELDS,
    ],
    ids=["target", "value", "name", "fields", "trailer", "trailers"],
)
def test_a_head_without_an_end_ends_the_connection(head: bytes) -> None:
    async def scenario() -> bytes:
        async with connected() as connection:
            pieces = [head[at : at + 16_384] for at in range(0, len(head), 16_384)]
            return await sends(connection, *pieces)

    answer = asyncio.run(scenario())
    assert answer == b"" or answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))


def test_the_largest_head_and_a_larger_body_are_served() -> None:
    async def scenario() -> None:
        async with connected() as connection:
            head = (
                b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1048576\r\nX: "
            )
            head += b"x" * (MAX_HEAD - len(head) - 4) + b"\r\n\r\n"
            assert len(head) == MAX_HEAD
            answer = await sends(connection, head, b"x" * 2**20)
            assert answer.endswith(b"1048576")

    asyncio.run(scenario())


def test_many_requests_on_a_connection_are_each_counted_alone() -> None:
    async def scenario() -> None:
        async with connected() as (reader, writer):
            field = b"X: " + b"x" * (MAX_HEAD // 2) + b"\r\n\r\n"
            for _ in range(5):
                writer.write(GET + field)
                assert (await reader.readuntil(b"\r\n\r\n0")).startswith(b"HTTP/1.1 200 ")

    asyncio.run(scenario())


@pytest.mark.parametrize("sent", [b"", b"GET", GET, b"\r\n", GET + b"\r\n" + b"GET"])
def test_a_head_that_does_not_come_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(head_limit, "HEAD_TIMEOUT", 0.05)

    async def scenario() -> bytes:
        async with connected() as connection:
            return await sends(connection, sent)

    answer = asyncio.run(scenario())
    assert answer.count(b"HTTP/1.1 ") == sent.count(b"\r\n\r\n")

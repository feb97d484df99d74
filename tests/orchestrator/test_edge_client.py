"""The orchestrator and a real edge: changes are acknowledged, and an edge that is not there is told
from one that cannot."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from edge.errors import EdgeError
from edge.routing.store_writer import RouteWriter
from orchestrator.edge_client import EdgeClient
from tests.harness import Conversation
from tests.process import Origin, Process

SERVED = b'{"version":1,"workers":2,"milliseconds":1.5}'


def asked(path: Path, use: Callable[[EdgeClient], Awaitable[None]]) -> None:
    """Use a client of the edge at `path`."""

    async def opened() -> None:
        await use(EdgeClient(path))

    asyncio.run(opened())


def test_a_cutover_is_acknowledged_by_every_worker(
    conversation: Conversation, tmp_path: Path
) -> None:
    old, new = Origin(conversation), Origin(conversation)
    db = tmp_path / "fairlead.db"
    writer = RouteWriter(db)
    writer.set("app.test", old.target)
    process = Process(conversation, db)
    version = writer.retarget({"app.test": new.target})

    async def use(client: EdgeClient) -> None:
        assert await client.undrain(new.target) == {"target": new.target}
        answer = await client.reload(version)
        assert answer is not None
        assert (answer["version"], answer["workers"]) == (version, 2)
        drained = await client.drain(old.target, 5.0, 5.0)
        assert drained is not None
        assert (drained["cut"], drained["workers"]) == (0, 2)

    asked(process.control, use)


def test_a_version_that_does_not_exist_is_an_error_of_the_edge(
    conversation: Conversation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.edge_client.RELOAD_TIMEOUT", 0.2)
    db = tmp_path / "fairlead.db"
    RouteWriter(db).set("app.test", "127.0.0.1:9")
    process = Process(conversation, db)

    async def use(client: EdgeClient) -> None:
        with pytest.raises(EdgeError, match="not all workers serve version 99"):
            await client.reload(99)

    asked(process.control, use)


def test_without_an_edge_there_is_no_answer(tmp_path: Path) -> None:
    async def use(client: EdgeClient) -> None:
        assert await client.reload(1) is None

    asked(tmp_path / "none.sock", use)
    # A socket that an edge left behind when it was killed.
    left = tmp_path / "left.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(left))
    asked(left, use)


def test_what_is_no_edge_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "odd.sock"

    async def main() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
            writer.close()

        server = await asyncio.start_unix_server(answer, path)
        client = EdgeClient(path)
        with pytest.raises(EdgeError, match="is not the control socket of an edge"):
            await client.reload(1)
        server.close()
        await server.wait_closed()

    asyncio.run(main())


def test_an_answer_of_something_else_says_what_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "odd.sock"

    async def main() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n{}")
            writer.close()

        async with await asyncio.start_unix_server(answer, path):
            client = EdgeClient(path)
            for use in (client.reload(1), client.drain("a:1", 1, 1), client.undrain("a:1")):
                with pytest.raises(EdgeError, match=r"its answer to /[a-z]+ has no"):
                    await use

    asyncio.run(main())


def test_an_answer_that_is_broken_off_is_asked_for_once_more(tmp_path: Path) -> None:
    path = tmp_path / "odd.sock"
    connections = []

    async def main() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connections.append(await reader.readuntil(b"\r\n\r\n"))
            if len(connections) == 2:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 44\r\n\r\n" + SERVED)
            writer.close()

        server = await asyncio.start_unix_server(answer, path)
        client = EdgeClient(path)
        assert await client.reload(1) == {"version": 1, "workers": 2, "milliseconds": 1.5}
        with pytest.raises(EdgeError, match="closed the connection"):
            await client.reload(1)
        server.close()
        await server.wait_closed()

    asyncio.run(main())
    assert len(connections) == 4


def test_an_answer_without_an_end_is_not_kept(tmp_path: Path) -> None:
    """Of who has taken over the edge."""

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                writer.write(b"HTTP/1.1 200 OK\r\n" * 2000)
                await writer.drain()
        except ConnectionError:
            writer.close()

    async def scenario() -> None:
        path = tmp_path / "edge.sock"
        async with await asyncio.start_unix_server(flood, path):
            with pytest.raises(EdgeError, match="does not end its answer"):
                await EdgeClient(path).reload(1)

    asyncio.run(scenario())

"""Proves that logs can be followed by those who may, and that a slow reader costs no memory."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from edge.api.permission import Scope
from edge.api.token_form import make_token
from orchestrator.api.log_streams import find_container
from orchestrator.engine import container_logs
from orchestrator.engine.container import Container
from orchestrator.engine.container_logs import DroppedLines, LogEvent
from orchestrator.errors import RefusedError
from orchestrator.model import DeployState
from tests.orchestrator.surface import PATIENCE, Surface, surface
from tests.orchestrator.workshop import Workshop, in_workshop


@asynccontextmanager
async def follows(
    up: Surface, path: str, origin: str | None = None, **headers: str
) -> AsyncIterator[ClientConnection]:
    """A reader."""
    async with (
        asyncio.timeout(PATIENCE),
        connect(
            f"ws://127.0.0.1:{up.port}{path}",
            origin=origin,  # type: ignore[arg-type]
            additional_headers={"Authorization": f"Bearer {up.token}", **headers},
            proxy=None,
        ) as socket,
    ):
        yield socket


async def refusal(up: Surface, path: str, origin: str | None = None, **headers: str) -> int:
    with pytest.raises(InvalidStatus) as caught:
        async with follows(up, path, origin, **headers):
            pass
    assert b'"error"' in (caught.value.response.body or b"")
    return caught.value.response.status_code


def test_the_log_of_a_deploy_is_followed_until_it_ends(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with surface(tmp_path) as up:
            await up.push(wait="0")
            up.services.redactor.add("hidden-secret")
            async with follows(up, "/api/ws/deploys/1/log") as socket:
                # It waits: there is no log yet.
                log = up.deploys.logs.open(1)
                log.write("clone", "first")
                assert json.loads(await socket.recv())["line"] == "first"
                log.write("build", "second hidden-secret")
                told = json.loads(await socket.recv())
                assert (told["step"], told["line"], told["number"]) == ("build", "second ***", 2)
                log.close()
                # A process that takes the deploy up goes on in the same file.
                log = up.deploys.logs.open(1)
                log.write("start", "third")
                assert json.loads(await socket.recv())["line"] == "third"
                log.close()
                await up.deploys.ends(1, DeployState.LIVE)
                with pytest.raises(ConnectionClosed):
                    await socket.recv()
                assert socket.close_code == 1000

    asyncio.run(scenario())


def test_a_reader_that_leaves_ends_the_following(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with surface(tmp_path) as up:
            await up.push(wait="0")
            log = up.deploys.logs.open(1)
            log.write("clone", "first")
            before = asyncio.all_tasks()
            async with follows(up, "/api/ws/deploys/1/log") as socket:
                await socket.recv()
                await socket.send("a reader has nothing to say")
            async with asyncio.timeout(PATIENCE):
                while asyncio.all_tasks() - before:  # noqa: ASYNC110  nobody tells
                    await asyncio.sleep(0)
            log.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("path", ["/api/ws/logs?container=x", "/api/ws/deploys/1/log"])
def test_logs_are_not_for_strangers(tmp_path: Path, path: str) -> None:
    async def scenario() -> None:
        async with surface(tmp_path, ws_allowed_origins="https://panel.test") as up:
            await up.push(wait="0")
            assert await refusal(up, path, "http://evil.test") == 403
            assert await refusal(up, path, "null") == 403
            assert await refusal(up, path, Authorization="Bearer wrong") == 401

    asyncio.run(scenario())


def test_origins_that_are_allowed_and_tokens_open_the_door(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with surface(tmp_path, ws_allowed_origins="https://panel.test") as up:
            await up.push(wait="0")
            up.deploys.logs.open(1).write("clone", "first")
            path = "/api/ws/deploys/1/log"
            for origin, headers in (
                ("https://panel.test", {}),
                (f"http://127.0.0.1:{up.port}", {}),
                (None, {"Via": "1.1 edge"}),
            ):
                async with follows(up, path, origin, **headers) as socket:
                    assert "first" in str(await socket.recv())
            up.deploys.logs.open(1).close()

    asyncio.run(scenario())


@pytest.mark.parametrize("ends", ["revoked", "expired"])
def test_who_follows_one_does_so_no_longer_than_the_token_is_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    monkeypatch.setattr("orchestrator.api.log_streams.RECHECK_INTERVAL", 0.01)

    async def scenario() -> None:
        async with surface(tmp_path) as up:
            await up.push(wait="0")
            log = up.deploys.logs.open(1)
            log.write("clone", "first")
            token = make_token()
            await up.services.store.tokens.add("reader", token, [Scope.READ], [], time.time() + 60)
            bearer = f"Bearer {token}"
            async with (
                follows(up, "/api/ws/deploys/1/log") as other,
                follows(up, "/api/ws/deploys/1/log", Authorization=bearer) as socket,
            ):
                await socket.recv()
                await other.recv()
                if ends == "revoked":
                    await up.services.store.tokens.remove("reader")
                else:
                    monkeypatch.setattr("orchestrator.store.tokens.time.time", lambda: 2.0**40)
                with pytest.raises(ConnectionClosed):
                    await socket.recv()
                assert socket.close_code == 1008
                log.write("clone", "second")
                assert "second" in str(await other.recv())
            log.close()

    asyncio.run(scenario())


def test_what_is_not_there_cannot_be_followed(tmp_path: Path, engine_host: str) -> None:
    async def scenario() -> None:
        async with surface(tmp_path, engine_host) as up:
            assert await refusal(up, "/api/ws/deploys/1/log") == 404
            assert await refusal(up, "/api/ws/deploys/x/log") == 404
            assert await refusal(up, "/api/ws/logs?container=nothing") == 404
            assert await refusal(up, "/api/ws/logs") == 400
            assert await refusal(up, "/api/ws/logs?container=a&other=b") == 400

    asyncio.run(scenario())


def test_a_missing_engine_is_said(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with surface(tmp_path) as up:
            assert await refusal(up, "/api/ws/logs?container=x") == 503

    asyncio.run(scenario())


def test_the_output_of_a_container_is_followed_by_name_and_id(
    tmp_path: Path, engine_host: str
) -> None:
    async def scenario(workshop: Workshop) -> None:
        async with surface(tmp_path, engine=workshop.engine) as up:
            up.services.redactor.add("hidden-secret")
            container = await workshop.runs("echo the password is hidden-secret; sleep 1000")
            for wanted in (container.name, container.id, container.id[:12]):
                async with follows(up, f"/api/ws/logs?container={wanted}") as socket:
                    assert await socket.recv() == "the password is ***"

    in_workshop(engine_host, scenario)


def test_containers_of_others_cannot_be_followed(tmp_path: Path, engine_host: str) -> None:
    async def scenario(workshop: Workshop) -> None:
        container = await workshop.runs("sleep 1000")
        async with surface(tmp_path, workshop.engine.host) as up:
            assert await refusal(up, f"/api/ws/logs?container={container.id}") == 404

    in_workshop(engine_host, scenario)


def test_lines_that_were_lost_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async def events(*_: object) -> AsyncIterator[LogEvent | DroppedLines]:
            yield DroppedLines(7)
            yield LogEvent("next", "stdout")

        async def containers() -> list[Any]:
            return [_container("a" * 64, "one")]

        monkeypatch.setattr(container_logs, "follow", events)
        async with surface(tmp_path) as up:
            monkeypatch.setattr(up.services.engine, "containers", containers)
            async with follows(up, "/api/ws/logs?container=one") as socket:
                assert "7 lines dropped" in str(await socket.recv())
                assert await socket.recv() == "next"
                with pytest.raises(ConnectionClosed):
                    await socket.recv()
                assert socket.close_code == 1000

    asyncio.run(scenario())


def test_a_slow_reader_holds_the_sender_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        taken = 0
        most = 20_000

        async def events(*_: object) -> AsyncIterator[LogEvent | DroppedLines]:
            nonlocal taken
            while taken < most:
                taken += 1
                yield LogEvent("x" * 10_000, "stdout")

        async def containers() -> list[Any]:
            return [_container("a" * 64, "one")]

        monkeypatch.setattr(container_logs, "follow", events)
        async with surface(tmp_path) as up:
            monkeypatch.setattr(up.services.engine, "containers", containers)
            async with follows(up, "/api/ws/logs?container=one") as socket:
                await socket.recv()
                seen = -1
                # It stands still as soon as the buffers of both ends are full.
                for _ in range(1000):
                    if seen == taken:
                        break
                    seen = taken
                    for _ in range(200):
                        await asyncio.sleep(0)
                assert taken < most
                # It would read all of that before it is told that the connection ends.
                socket.transport.abort()

    asyncio.run(scenario())


def test_a_reader_that_has_stopped_to_read_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.api.server.STALL_TIMEOUT", 0.1)

    async def scenario() -> None:
        over = asyncio.Event()

        async def events(*_: object) -> AsyncIterator[LogEvent | DroppedLines]:
            try:
                while True:
                    yield LogEvent("x" * 10_000, "stdout")
            finally:
                over.set()

        async def containers() -> list[Any]:
            return [_container("a" * 64, "one")]

        monkeypatch.setattr(container_logs, "follow", events)
        async with surface(tmp_path) as up, asyncio.timeout(PATIENCE):
            monkeypatch.setattr(up.services.engine, "containers", containers)
            with socket.create_connection(("127.0.0.1", up.port)) as reader:
                reader.sendall(
                    b"GET /api/ws/logs?container=one HTTP/1.1\r\nHost: 127.0.0.1\r\n"
                    b"Authorization: Bearer " + up.token.encode() + b"\r\n"
                    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
                )
                await over.wait()

    asyncio.run(scenario())


class TestChoice:
    """Which container is meant."""

    ONE = "abcd" + "0" * 60
    TWO = "abcd" + "1" * 60

    def test_names_and_ids_and_their_only_beginnings(self) -> None:
        both = [_container(self.ONE, "one"), _container(self.TWO, "two")]
        assert find_container(both, "two").id == self.TWO
        assert find_container(both, self.ONE).name == "one"
        assert find_container(both, "abcd1").name == "two"

    @pytest.mark.parametrize(
        ("wanted", "status"), [("", 400), ("abcd", 409), ("abc", 404), ("tw", 404), ("*", 404)]
    )
    def test_what_means_none_or_several_is_refused(self, wanted: str, status: int) -> None:
        both = [_container(self.ONE, "one"), _container(self.TWO, "two")]
        with pytest.raises(RefusedError) as caught:
            find_container(both, wanted)
        assert caught.value.status == status


def _container(number: str, name: str) -> Container:
    return Container(
        id=number,
        name=name,
        app="app",
        deploy=1,
        release="1",
        instance="x",
        state="running",
        exit_code=0,
        oom_killed=False,
        pid=1,
        network="app",
        ip="",
        port=8080,
        ports={},
        image="image",
        image_id="sha256:0",
        started_at="",
        restart_count=0,
        memory=0,
        labels={},
    )

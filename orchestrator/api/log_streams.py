"""Owns the WebSockets that logs are followed on: of a deploy, and of a container.

Nothing piles up here for a slow reader: of a container's output it loses lines, and is told how
many; a deploy's log waits for it in its file.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

import orjson
from starlette.exceptions import HTTPException
from starlette.websockets import WebSocket, WebSocketDisconnect

from edge.api.access import grant_of
from edge.api.openapi import Query
from edge.api.permission import Scope
from edge.errors import StoreError
from orchestrator.api.endpoints import Socket
from orchestrator.api.responses import path_id
from orchestrator.engine import container_logs
from orchestrator.engine.container import Container
from orchestrator.engine.container_logs import DroppedLines
from orchestrator.errors import OrchestratorError, RefusedError
from orchestrator.services import ApiServices

logger = logging.getLogger(__name__)

# Seconds that one message may wait for a reader that takes nothing.
SEND_TIMEOUT: Final = 60.0
# Characters of an id that are the least to mean a container by.
MIN_ID_PREFIX: Final = 4
# Seconds until it is looked again whether a reader still may: for so long one follows whose token
# was revoked, or has expired.
RECHECK_INTERVAL: Final = 15.0
# Seconds until it is looked again whether a deploy that waits has begun its log.
POLL_INTERVAL: Final = 1.0

_CONTAINER: Final = Query(
    "container", "Container name, id or unique id prefix.", {"type": "string"}
)


class LogStreams:
    """Handlers of the WebSockets."""

    def __init__(self, services: ApiServices) -> None:
        self._services = services

    def endpoints(self) -> list[Socket]:
        """The WebSockets of these handlers."""
        return [
            Socket(
                path="/api/ws/logs",
                permission=Scope.READ,
                by_app=True,
                handler=self._container,
                summary="Follow the output of a container, one line per message.",
                query=(_CONTAINER,),
                errors=(404, 503),
            ),
            Socket(
                path="/api/ws/deploys/{id}/log",
                permission=Scope.READ,
                by_app=True,
                handler=self._deploy,
                summary="Follow the log of a deploy until it ends: one JSON object per message,"
                " with number, time (Unix seconds), step and line.",
            ),
        ]

    async def _container(self, websocket: WebSocket) -> None:
        async def messages() -> AsyncGenerator[str, None]:
            following = container_logs.follow(self._services.engine, container.id)
            async with aclosing(following) as events:
                async for event in events:
                    if isinstance(event, DroppedLines):
                        yield f"[fairlead: {event.count} lines dropped: the client is too slow]"
                    else:
                        yield event.line

        wanted = websocket.query_params.get("container", "")
        grant = grant_of(websocket)
        containers = await self._services.engine.containers()
        container = find_container([each for each in containers if grant.covers(each.app)], wanted)
        await self._send_all(websocket, messages())

    async def _deploy(self, websocket: WebSocket) -> None:
        async def messages() -> AsyncGenerator[str, None]:
            last = 0
            is_final = False
            while True:
                async with aclosing(self._services.deployer.logs.follow(number)) as lines:
                    async for line in lines:
                        if line.number > last:
                            last = line.number
                            message = self._services.redactor.redact_json(line.as_json())
                            yield orjson.dumps(message).decode()
                if is_final:
                    return
                # The log of one that waits is not open yet, and so is that of one that was
                # interrupted and goes on.
                deploy = await self._services.deployer.wait(number, POLL_INTERVAL)
                is_final = deploy.state.is_final

        number = path_id(websocket)
        found = await self._services.store.deploys.get(number)
        if found is None or not grant_of(websocket).covers(found.app):
            raise HTTPException(404, "no such deploy: see /api/deploys")
        await self._send_all(websocket, messages())

    async def _send_all(self, websocket: WebSocket, messages: AsyncGenerator[str, None]) -> None:
        """Send each message; ends when there are no more, when the reader has left, or may no
        longer read."""
        await websocket.accept()
        sending = asyncio.create_task(_send(websocket, messages))
        leaving = asyncio.create_task(_until_disconnected(websocket))
        denied = asyncio.create_task(self._until_denied(websocket))
        tasks = (sending, leaving, denied)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            is_denied = denied.done()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if is_denied:
            await _close(websocket, 1008, "the token is no longer valid")
        if sending.cancelled():
            return
        error = sending.exception()
        if error is None:
            await _close(websocket, 1000, "")
        elif isinstance(error, OrchestratorError):
            await _close(websocket, 1011, str(error)[:120])
        elif not isinstance(error, WebSocketDisconnect | TimeoutError | OSError):
            raise error

    async def _until_denied(self, websocket: WebSocket) -> None:
        grant = grant_of(websocket)
        while True:
            await asyncio.sleep(RECHECK_INTERVAL)
            try:
                if await self._services.access.identify(websocket) != grant:
                    return
            except HTTPException:
                return
            except StoreError as error:
                logger.warning("cannot see whether a token is valid: %s", error)


def find_container(containers: list[Container], wanted: str) -> Container:
    """The one of that name or id, or whose id alone begins so. Raises RefusedError."""
    if not wanted:
        raise RefusedError("container is required: add ?container=ID or ?container=NAME", 400)
    for container in containers:
        if wanted in (container.id, container.name):
            return container
    found = [
        container
        for container in containers
        if len(wanted) >= MIN_ID_PREFIX and container.id.startswith(wanted)
    ]
    if len(found) == 1:
        return found[0]
    if found:
        raise RefusedError(
            "ambiguous container id: several containers match, write more of it", 409
        )
    raise RefusedError("no such container: see /api/stats", 404)


async def _send(websocket: WebSocket, messages: AsyncGenerator[str, None]) -> None:
    async with aclosing(messages):
        async for text in messages:
            async with asyncio.timeout(SEND_TIMEOUT):
                await websocket.send_text(text)


async def _until_disconnected(websocket: WebSocket) -> None:
    while (await websocket.receive())["type"] != "websocket.disconnect":
        pass  # nothing that a reader says has a meaning


async def _close(websocket: WebSocket, code: int, reason: str) -> None:
    try:
        await websocket.close(code, reason)
    except (RuntimeError, WebSocketDisconnect):
        pass  # it has left in the meantime

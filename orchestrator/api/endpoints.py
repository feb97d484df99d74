"""Owns what the endpoints of this API have of their own: their guard, WebSockets, pages.

An endpoint refuses, before its handler runs, who may not use it and a query that it does not know.
An open one checks for itself what it must.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket

from edge.api.access import Access
from edge.api.endpoint import Endpoint, Handler
from edge.api.openapi import Object, Operation, Query, answer
from edge.api.permission import Open
from edge.errors import StoreError
from orchestrator.api.responses import MAX_ROWS, Responses, check_query
from orchestrator.errors import OrchestratorError

SocketHandler = Callable[[WebSocket], Awaitable[None]]

PAGE: Final = (
    Query(
        "limit",
        "Max number of rows; default 50.",
        {"type": "integer", "minimum": 1, "maximum": MAX_ROWS},
    ),
    Query("before", "Only rows with a smaller id.", {"type": "integer", "minimum": 1}),
)
WAIT: Final = Query(
    "wait", "Max seconds to wait for the result.", {"type": "number", "minimum": 0, "maximum": 30}
)


def accepted(meaning: str) -> Object:
    """The answer of what goes on after it: it says where to look."""
    location = {"schema": {"type": "string"}, "description": "URL of the deploy."}
    return answer(meaning) | {"headers": {"Location": location}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Socket(Operation):
    """A WebSocket of the API. OpenAPI has no word for it but the GET that opens it."""

    handler: SocketHandler
    method: str = field(default="GET", init=False)
    answers: Mapping[int, Object] | None = field(
        default_factory=lambda: {101: {"description": "A WebSocket (RFC 6455)."}}, init=False
    )

    def route(self, guard: "Guard") -> WebSocketRoute:
        """Where WebSockets get to the handler, guarded."""
        return WebSocketRoute(self.path, guard.socket_handler(self))


class Guard:
    """What stands before the handlers: who may use the API, and the errors that become answers."""

    def __init__(self, access: Access, responses: Responses) -> None:
        self._access = access
        self._responses = responses

    def handler(self, endpoint: Endpoint) -> Handler:
        """The endpoint's handler, with its checks, and an answer for each error that it raises."""

        async def guarded(request: Request) -> Response:
            try:
                if not isinstance(endpoint.permission, Open):
                    await self._access.admit(request, endpoint)
                    check_query(request, known)
                return await endpoint.handler(request)
            except Exception as error:
                return self._responses.from_error(error)

        known = {each.name for each in endpoint.query}
        return guarded

    def socket_handler(self, socket: Socket) -> SocketHandler:
        """The same for a WebSocket, which is denied by an answer as long as it is not accepted."""

        async def guarded(websocket: WebSocket) -> None:
            try:
                await self._access.admit(websocket, socket)
                check_query(websocket, known)
                await socket.handler(websocket)
            except (HTTPException, OrchestratorError, StoreError) as error:
                await websocket.send_denial_response(self._responses.from_error(error))

        known = {each.name for each in socket.query}
        return guarded

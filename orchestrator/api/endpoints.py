"""Owns what an endpoint is: declared once, it yields its route, its checks and its description.

An endpoint of the API refuses, before its handler runs, who may not use it and a query that it does
not know. An open one is for everybody, and checks for itself what it must.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket

from orchestrator.api.responses import MAX_ROWS, Responses, check_query, peer_address
from orchestrator.errors import OrchestratorError
from orchestrator.security.auth import Authorizer

Object = dict[str, Any]
Handler = Callable[[Request], Awaitable[Response]]
SocketHandler = Callable[[WebSocket], Awaitable[None]]

JSON: Final[Object] = {"application/json": {"schema": {"type": "object"}}}
PLAIN: Final[Object] = {"text/plain": {"schema": {"type": "string"}}}

_ERROR: Final[Object] = {
    "application/json": {
        "schema": {
            "type": "object",
            "properties": {"error": {"type": "string"}},
            "required": ["error"],
        }
    }
}
_ERRORS: Final = {
    400: "Invalid parameter, field or body.",
    401: "Missing or invalid token.",
    403: "Cross-origin request.",
    404: "Not found.",
    408: "The request body was not received in time.",
    409: "Conflict with the current state.",
    413: "The request body is too large.",
    415: "Content-Type is not application/json.",
    422: "Invalid value.",
    429: "Too many webhooks from this address.",
    500: "The deploy failed, or internal error.",
    503: "Database, Docker Engine or orchestrator unavailable.",
}
# What any endpoint of the API may answer.
_API_ERRORS: Final = (400, 401, 403)
_PATH_SCHEMAS: Final[Mapping[str, Object]] = {
    "id": {"type": "integer", "minimum": 1},
    "name": {"type": "string", "pattern": "^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$"},
}


class Query(NamedTuple):
    """A parameter of the query; `schema` is a JSON Schema."""

    name: str
    meaning: str
    schema: Object


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


def answer(meaning: str, content: Object = JSON) -> Object:
    """An answer of OpenAPI."""
    return {"description": meaning, "content": content}


def accepted(meaning: str) -> Object:
    """The answer of what goes on after it: it says where to look."""
    location = {"schema": {"type": "string"}, "description": "URL of the deploy."}
    return answer(meaning) | {"headers": {"Location": location}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A method of a path. `body` is the content of OpenAPI's request body; `answers` are by status,
    and one 200 of JSON unless told. `errors` are statuses beside those that follow from the rest.
    """

    method: str
    path: str
    handler: Handler
    summary: str
    description: str = ""
    is_open: bool = False
    query: Sequence[Query] = ()
    body: Object | None = None
    answers: Mapping[int, Object] | None = None
    errors: Sequence[int] = ()

    def route(self, guard: "Guard") -> BaseRoute:
        """Where requests get to the handler, guarded."""
        return Route(self.path, guard.handler(self), methods=[self.method])

    def operation(self) -> Object:
        """Its description in OpenAPI."""
        answers = self.answers or {200: answer(self.summary)}
        operation = _operation(self, answers, () if self.is_open else _API_ERRORS)
        if self.description:
            operation["description"] = self.description
        if not self.is_open:
            operation["security"] = [{"token": []}, {}]
        if self.body is not None:
            operation["requestBody"] = {"required": True, "content": self.body}
        return operation


@dataclass(frozen=True, slots=True, kw_only=True)
class Socket:
    """A WebSocket of the API. OpenAPI has no word for it but the GET that opens it."""

    path: str
    handler: SocketHandler
    summary: str
    query: Sequence[Query] = ()
    errors: Sequence[int] = ()
    method: str = "GET"

    def route(self, guard: "Guard") -> BaseRoute:
        """Where WebSockets get to the handler, guarded."""
        return WebSocketRoute(self.path, guard.socket_handler(self))

    def operation(self) -> Object:
        """Its description in OpenAPI."""
        opened = {101: {"description": "A WebSocket (RFC 6455)."}}
        return _operation(self, opened, _API_ERRORS) | {"security": [{"token": []}, {}]}


class Guard:
    """What stands before the handlers: who may use the API, and the errors that become answers."""

    def __init__(self, auth: Authorizer, responses: Responses) -> None:
        self._auth = auth
        self._responses = responses

    def handler(self, endpoint: Endpoint) -> Handler:
        """The endpoint's handler, with its checks, and an answer for each error that it raises."""

        async def guarded(request: Request) -> Response:
            try:
                if not endpoint.is_open:
                    refusal = self._refusal(request)
                    if refusal is not None:
                        return refusal
                    check_query(request, known)
                return await endpoint.handler(request)
            except Exception as error:
                return self._responses.from_error(error)

        known = {each.name for each in endpoint.query}
        return guarded

    def socket_handler(self, socket: Socket) -> SocketHandler:
        """The same for a WebSocket, which is denied by an answer as long as it is not accepted."""

        async def guarded(websocket: WebSocket) -> None:
            refusal = self._refusal(websocket, websocket=True)
            if refusal is None:
                try:
                    check_query(websocket, known)
                    await socket.handler(websocket)
                    return
                except (HTTPException, OrchestratorError) as error:
                    refusal = self._responses.from_error(error)
            await websocket.send_denial_response(refusal)

        known = {each.name for each in socket.query}
        return guarded

    def _refusal(self, connection: HTTPConnection, *, websocket: bool = False) -> Response | None:
        refusal = self._auth.check(
            peer_address(connection), connection.headers, websocket=websocket
        )
        if refusal is None:
            return None
        challenge = {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else None
        return self._responses.error(refusal.reason, refusal.status, challenge)


def _operation(
    endpoint: Endpoint | Socket, answers: Mapping[int, Object], implied: Sequence[int]
) -> Object:
    in_path = list(_path_parameters(endpoint.path))
    errors = {*implied, *endpoint.errors, *([404] if in_path else ())}
    parameters = [
        *in_path,
        *(
            {"name": name, "in": "query", "schema": schema, "description": meaning}
            for name, meaning, schema in endpoint.query
        ),
    ]
    return {
        "summary": endpoint.summary,
        **({"parameters": parameters} if parameters else {}),
        "responses": {
            **{str(status): answers[status] for status in sorted(answers)},
            **{str(status): answer(_ERRORS[status], _ERROR) for status in sorted(errors)},
        },
    }


def _path_parameters(path: str) -> Iterator[Object]:
    for part in path.split("/"):
        if part.startswith("{"):
            name = part[1:-1]
            yield {"name": name, "in": "path", "required": True, "schema": _PATH_SCHEMAS[name]}

"""Owns what an endpoint is: declared once, beside its handler, it yields its route, its checks and
its description. One that does not declare its permission cannot be made.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from edge.api.access import Access
from edge.api.openapi import Operation
from edge.api.permission import Open

Handler = Callable[[Request], Awaitable[Response]]


class Guard(Protocol):
    """What stands before the handlers of an API."""

    def handler(self, endpoint: "Endpoint") -> Handler:
        """The endpoint's handler, after the checks that its declaration asks for."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint(Operation):
    """An operation that is served by `handler`."""

    handler: Handler

    def route(self, guard: Guard) -> Route:
        """Where requests get to the handler, guarded."""
        return Route(self.path, guard.handler(self), methods=[self.method])


class AccessGuard:
    """Lets to a handler whom `access` admits; what it refuses is raised as an HTTPException."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def handler(self, endpoint: Endpoint) -> Handler:
        """The endpoint's handler, for those who may."""
        if isinstance(endpoint.permission, Open):
            return endpoint.handler

        async def guarded(request: Request) -> Response:
            await self._access.admit(request, endpoint)
            return await endpoint.handler(request)

        return guarded

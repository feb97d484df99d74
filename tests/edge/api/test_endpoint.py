"""Proves that an endpoint is reached as it is declared, and through its guard alone."""

import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from edge.api.endpoint import Endpoint, Handler
from edge.api.permission import Scope


async def show(_request: Request) -> Response:
    raise AssertionError("this handler is not reached")


class Closed:
    """A guard that lets nobody pass, and knows whom it was asked for."""

    def __init__(self) -> None:
        self.asked: list[Endpoint] = []

    def handler(self, endpoint: Endpoint) -> Handler:
        async def refuse(_request: Request) -> Response:
            raise AssertionError("nobody calls it here")

        self.asked.append(endpoint)
        self.refuse = refuse
        return refuse


def test_its_route_leads_to_what_the_guard_makes_of_it() -> None:
    guard = Closed()
    endpoint = Endpoint(
        method="POST",
        path="/ships/{name}",
        permission=Scope.WRITE,
        handler=show,
        summary="Show a ship.",
    )
    route = endpoint.route(guard)
    assert guard.asked == [endpoint]
    assert route.endpoint is guard.refuse
    found = {
        (method, path): route.matches({"type": "http", "method": method, "path": path})[0]
        for method in ("GET", "POST")
        for path in ("/ships/ark", "/ships")
    }
    assert found == {
        ("POST", "/ships/ark"): Match.FULL,
        ("GET", "/ships/ark"): Match.PARTIAL,
        ("POST", "/ships"): Match.NONE,
        ("GET", "/ships"): Match.NONE,
    }


def test_one_that_declares_no_permission_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="permission"):
        Endpoint(method="GET", path="/ships", handler=show, summary="Ships.")  # type: ignore[call-arg]

"""Owns the ASGI application: all endpoints of the orchestrator."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from edge.api.endpoint import Endpoint
from edge.api.openapi import document
from orchestrator.api.deploys import DeployApi
from orchestrator.api.endpoints import Guard, Socket
from orchestrator.api.log_streams import LogStreams
from orchestrator.api.openapi import API
from orchestrator.api.responses import Responses
from orchestrator.api.status import StatusApi
from orchestrator.api.webhooks import WebhookApi
from orchestrator.services import ApiServices
from orchestrator.webhooks.inbox import Inbox


def create_app(services: ApiServices, inbox: Inbox) -> Starlette:
    """The application that serves requests with these services."""
    responses = Responses(services.redactor)

    async def refused(_request: Request, error: Exception) -> Response:
        return responses.from_error(error)

    async def openapi(_request: Request) -> Response:
        return responses.json(document(API, endpoints))

    endpoints: list[Endpoint | Socket] = [
        *WebhookApi(services, responses, inbox).endpoints(),
        *DeployApi(services, responses).endpoints(),
        *StatusApi(services, responses).endpoints(),
        *LogStreams(services).endpoints(),
        Endpoint(
            method="GET",
            path="/openapi.json",
            handler=openapi,
            summary="This OpenAPI document.",
            is_open=True,
        ),
    ]
    guard = Guard(services.auth, responses)
    app = Starlette(
        routes=[endpoint.route(guard) for endpoint in endpoints],
        exception_handlers={HTTPException: refused},
    )
    app.router.redirect_slashes = False
    return app

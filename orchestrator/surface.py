"""Owns the ASGI application: all endpoints of the orchestrator."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.answers import Responses
from orchestrator.deploy_api import DeployApi
from orchestrator.inbox import Inbox
from orchestrator.log_sockets import LogStreams
from orchestrator.parts import ApiServices
from orchestrator.reading_api import StatusApi
from orchestrator.webhook_api import WebhookApi


def create_app(services: ApiServices, inbox: Inbox) -> Starlette:
    """The application that serves requests with these services."""
    responses = Responses(services.redactor)

    async def refused(_request: Request, error: Exception) -> Response:
        return responses.from_error(error)

    app = Starlette(
        routes=[
            *WebhookApi(services, responses, inbox).routes(),
            *DeployApi(services, responses).routes(),
            *StatusApi(services, responses).routes(),
            *LogStreams(services, responses).routes(),
        ],
        exception_handlers={HTTPException: refused},
    )
    app.router.redirect_slashes = False
    return app

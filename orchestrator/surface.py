"""Owns the application: every route that the orchestrator answers."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from orchestrator.answers import Answers
from orchestrator.deploy_api import DeployApi
from orchestrator.inbox import Inbox
from orchestrator.log_sockets import LogSockets
from orchestrator.parts import ApiServices
from orchestrator.reading_api import ReadingApi
from orchestrator.webhook_api import WebhookApi


def create_app(services: ApiServices, inbox: Inbox) -> Starlette:
    """The application that serves requests with these services."""
    answers = Answers(services.masker)

    async def refused(_request: Request, error: Exception) -> Response:
        return answers.of_error(error)

    app = Starlette(
        routes=[
            *WebhookApi(services, answers, inbox).routes(),
            *DeployApi(services, answers).routes(),
            *ReadingApi(services, answers).routes(),
            *LogSockets(services, answers).routes(),
        ],
        exception_handlers={HTTPException: refused},
    )
    app.router.redirect_slashes = False
    return app

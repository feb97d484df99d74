"""Owns the ASGI application: all endpoints of the orchestrator."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from edge.api.access import Access
from edge.api.endpoint import Endpoint
from edge.api.openapi import document
from edge.api.permission import Scope
from orchestrator.api.deploys import DeployApi
from orchestrator.api.endpoints import Guard, Socket
from orchestrator.api.links import LinkApi
from orchestrator.api.log_streams import LogStreams
from orchestrator.api.openapi import API
from orchestrator.api.prune import PruneApi
from orchestrator.api.responses import Responses
from orchestrator.api.status import StatusApi
from orchestrator.api.tokens import TokenApi
from orchestrator.api.webhooks import WebhookApi
from orchestrator.services import ApiServices
from orchestrator.settings import Settings
from orchestrator.store.store import Store
from orchestrator.webhooks.inbox import Inbox


def create_access(settings: Settings, store: Store) -> Access:
    """Who may use the API, as the settings and the tokens of the store say."""
    return Access(
        settings.api_token,
        tokens=store.tokens,
        hosts=(settings.addr.host,),
        origins=settings.ws_allowed_origins,
        open_metrics=settings.metrics_auth == "loopback",
    )


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
        *LinkApi(services, responses).endpoints(),
        *LogStreams(services).endpoints(),
        *PruneApi(services, responses).endpoints(),
        *TokenApi(services, responses).endpoints(),
        Endpoint(
            method="GET",
            path="/openapi.json",
            handler=openapi,
            summary="This OpenAPI document.",
            permission=Scope.READ,
        ),
    ]
    guard = Guard(services.access, responses)
    app = Starlette(
        routes=[endpoint.route(guard) for endpoint in endpoints],
        exception_handlers={HTTPException: refused},
    )
    app.router.redirect_slashes = False
    return app

"""Owns POST /webhook, and the endpoints that list, show and replay webhook deliveries.

Before its signature is verified, a sender learns only that it was too fast, too large or
unauthorized.
"""

import logging
import time
import uuid
from dataclasses import replace
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from edge.api.access import grant_of
from edge.api.endpoint import Endpoint
from edge.api.openapi import JSON, Query, answer
from edge.api.permission import Grant, Open, Scope
from edge.rules.rate_limit import SECRET_SIZE, Limit, RateTable, make_buffer
from orchestrator import webhooks
from orchestrator.api.endpoints import PAGE, WAIT, accepted
from orchestrator.api.responses import (
    Responses,
    parse_page,
    path_id,
    peer_address,
    read_body,
)
from orchestrator.errors import RefusedError
from orchestrator.model import Delivery
from orchestrator.security.clients import client_key
from orchestrator.services import ApiServices
from orchestrator.webhooks.inbox import (
    Inbox,
    parse_wait,
    parse_webhook_params,
    result_response,
)

logger = logging.getLogger(__name__)

# Bytes of the table of rates: 16,384 clients.
_RATES_SIZE: Final = SECRET_SIZE + 2**18
# The one answer to whatever cannot be verified.
_UNAUTHORIZED: Final = "unauthorized"
_INVALID_SIGNATURE: Final = (
    "missing or invalid signature: check the secret that the provider signs with"
)
_UNKNOWN_PROVIDER: Final = (
    "unknown provider: no X-GitHub-Event, X-Gitlab-Event, X-Gitea-Event or X-Event-Key header"
)
# The inbox reads it: a query that is wrong refuses the delivery, and is on record with it.
_WEBHOOK_QUERY: Final = (
    Query("domain", "Domain to add to the app.", {"type": "string"}),
    Query("health_path", "Health check path.", {"type": "string"}),
    Query("branch", "Branch to deploy instead of the default branch.", {"type": "string"}),
    WAIT,
)


class WebhookApi:
    """Handlers of /webhook and /api/webhooks."""

    def __init__(self, services: ApiServices, responses: Responses, inbox: Inbox) -> None:
        self._services = services
        self._responses = responses
        self._inbox = inbox
        self._rates = RateTable(make_buffer(_RATES_SIZE))
        self._limit = Limit.of(services.settings.webhook_rps, services.settings.webhook_burst)

    def endpoints(self) -> list[Endpoint]:
        """The endpoints of these handlers."""
        return [
            Endpoint(
                method="POST",
                path="/webhook",
                handler=self._receive,
                summary="Push webhook of GitHub, GitLab, Gitea, Forgejo or Bitbucket.",
                permission=Open.SIGNED,
                query=_WEBHOOK_QUERY,
                body={"required": True, "content": JSON},
                answers={
                    200: answer("The deploy is live; or pong, for a ping."),
                    202: accepted("Ignored, or the deploy has not finished yet."),
                },
                errors=(400, 401, 403, 408, 409, 413, 422, 429, 500, 503),
            ),
            Endpoint(
                method="GET",
                path="/api/webhooks",
                permission=Scope.READ,
                handler=self._list,
                summary="List webhook deliveries, newest first.",
                query=PAGE,
            ),
            Endpoint(
                method="GET",
                path="/api/webhooks/{id}",
                permission=Scope.SECRETS,
                handler=self._show,
                summary="Show a webhook delivery with headers and body.",
            ),
            Endpoint(
                method="POST",
                path="/api/webhooks/{id}/replay",
                permission=Scope.WRITE,
                handler=self._replay,
                summary="Process the delivery again.",
                description="Responds as /webhook does.",
                query=(WAIT,),
                errors=(409, 422, 500),
            ),
        ]

    async def _receive(self, request: Request) -> Response:
        services = self._services
        client = services.clients.address(peer_address(request), request.headers)
        seconds = self._rates.take(client_key(client), self._limit, time.monotonic())
        if seconds > 0:
            return self._responses.error(
                "too many webhooks from this address",
                429,
                {"Retry-After": str(max(1, round(seconds + 0.5)))},
            )
        body = await read_body(request, services.settings.webhook_max_body)
        headers = {name: request.headers[name] for name in request.headers}
        event = webhooks.identify(headers, body)
        grant = await self._grant(request)
        may = grant is not None and grant.allows(Scope.DEPLOY) and not grant.apps
        secret = services.settings.webhook_secret
        is_signed = False
        if not may and secret:
            is_signed = event is not None and webhooks.verify(event, headers, body, secret)
            if not is_signed:
                self._log_refusal(
                    client, _UNKNOWN_PROVIDER if event is None else _INVALID_SIGNATURE
                )
                return self._responses.error(_UNAUTHORIZED, 401)
        elif not may and not (
            services.settings.webhook_unsigned and services.access.is_direct(request)
        ):
            if event is not None and webhooks.is_ping(event):
                return PlainTextResponse("pong")  # of which nothing is kept
            self._log_refusal(client, "FAIRLEAD_WEBHOOK_SECRET is not set")
            return self._responses.error(_UNAUTHORIZED, 403)
        if event is None:
            raise HTTPException(400, _UNKNOWN_PROVIDER)
        if not is_signed and webhooks.lacks_delivery_id(event):
            # Nothing is proved by a signature, so nobody replays one: a POST of curl's that comes
            # twice is meant twice.
            event = replace(event, delivery_id=f"unsigned:{uuid.uuid4()}")
        query = request.url.query
        delivery = await self._inbox.receive(
            *(event, headers, body, query),
            by_operator=grant is not None and grant.is_operator,
            is_signed=is_signed,
        )
        return await self._answer(delivery, _wait_seconds(query, services.settings.webhook_wait))

    async def _grant(self, request: Request) -> Grant | None:
        """What a sender may who says who it is; a wrong token proves no more than none."""
        try:
            return await self._services.access.identify(request)
        except HTTPException:
            return None

    async def _answer(self, delivery: Delivery, wait: float) -> Response:
        """The response to a delivery that is decided."""
        if delivery.decision == "pong":
            return PlainTextResponse("pong")
        known: dict[str, Any] = {"delivery": delivery.id, "decision": delivery.decision}
        if delivery.deploy is None:
            if delivery.decision == "refused":
                return self._responses.json({"error": delivery.reason, **known}, delivery.status)
            return self._responses.json({"reason": delivery.reason, **known}, delivery.status)
        deploy = await self._services.deployer.wait(delivery.deploy, wait)
        status, result = result_response(deploy)
        if status != delivery.status:
            await self._services.store.deliveries.set_decision(
                delivery.id, delivery.decision, delivery.reason, status, deploy.id
            )
        return self._responses.json(result, status, {"Location": f"/api/deploys/{deploy.id}"})

    def _log_refusal(self, client: str, reason: str) -> None:
        self._services.metrics.delivery_decided("unverified", "refused")
        logger.warning("webhook rejected", extra={"fields": {"client": client, "reason": reason}})

    async def _list(self, request: Request) -> Response:
        page = parse_page(request.query_params)
        deliveries = await self._services.store.deliveries.page(**page)
        return self._responses.json({"webhooks": [delivery.as_json() for delivery in deliveries]})

    async def _show(self, request: Request) -> Response:
        delivery = await self._requested_delivery(request)
        return self._responses.json(
            {
                **delivery.as_json(),
                "headers": dict(delivery.headers),
                "body": delivery.body.decode(),
            }
        )

    async def _replay(self, request: Request) -> Response:
        wait = parse_wait(request.query_params.get("wait") or "0")
        replayed = await self._inbox.replay(
            await self._requested_delivery(request), by_operator=grant_of(request).is_operator
        )
        return await self._answer(replayed, wait)

    async def _requested_delivery(self, request: Request) -> Delivery:
        delivery = await self._services.store.deliveries.get(path_id(request))
        if delivery is None:
            raise HTTPException(404, "no such webhook delivery: see /api/webhooks")
        return delivery


def _wait_seconds(query: str, default: float) -> float:
    try:
        wait = parse_webhook_params(query).wait
    except RefusedError:
        return 0.0  # the delivery is refused for it
    return default if wait is None else wait

"""Owns the endpoints that only read: health, metrics, stats, deploys, apps, logs so far."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from orchestrator.api.openapi import document
from orchestrator.api.responses import (
    Handler,
    Responses,
    parse_number,
    parse_page,
    parse_query,
    path_id,
    peer_address,
    require_auth,
)
from orchestrator.deploys.log import LogLine
from orchestrator.engine.stats import StatsReader
from orchestrator.metrics import METRICS_TYPE
from orchestrator.model import Deploy
from orchestrator.services import ApiServices

# Lines of a log that are in memory at once while it is sent.
_LOG_PAGE: Final = 2000
JSON_LINES: Final = "application/x-ndjson"


class StatusApi:
    """Handlers of the endpoints that only read."""

    def __init__(self, services: ApiServices, responses: Responses) -> None:
        self._services = services
        self._responses = responses
        self._stats_reader = StatsReader(services.engine)

    def routes(self) -> list[Route]:
        """The routes of these handlers."""

        def get(path: str, handler: Handler) -> Route:
            return Route(path, self._responses.handle_errors(handler), methods=["GET"])

        def api(path: str, handler: Handler) -> Route:
            return Route(
                path, require_auth(self._services, self._responses, handler), methods=["GET"]
            )

        return [
            get("/healthz", self._healthz),
            get("/readyz", self._readyz),
            get("/metrics", self._metrics),
            get("/openapi.json", self._openapi),
            api("/api/stats", self._stats),
            api("/api/deploys", self._deploys),
            api("/api/deploys/{id}", self._deploy),
            api("/api/deploys/{id}/log", self._log),
            api("/api/apps", self._apps),
            api("/api/apps/{name}", self._app),
        ]

    async def _healthz(self, _request: Request) -> Response:
        return PlainTextResponse("ok")

    async def _readyz(self, _request: Request) -> Response:
        unready_reason = self._services.deployer.unready_reason()
        if unready_reason is None:
            return PlainTextResponse("ready")
        return PlainTextResponse(self._services.redactor.redact(unready_reason), status_code=503)

    async def _metrics(self, request: Request) -> Response:
        if not self._services.auth.can_read_metrics(peer_address(request), request.headers):
            raise HTTPException(
                401,
                "bearer token required: without it, only clients on this machine may read metrics",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return Response(self._services.metrics.render(), media_type=METRICS_TYPE)

    async def _openapi(self, _request: Request) -> Response:
        return self._responses.json(document())

    async def _stats(self, request: Request) -> Response:
        parse_query(request, set())
        return self._responses.json(await self._stats_reader.read())

    async def _deploys(self, request: Request) -> Response:
        query = parse_query(request, {"app", "limit", "before"})
        deploys = await self._services.store.deploys.page(query.get("app"), **parse_page(query))
        return self._responses.json({"deploys": [deploy.as_json() for deploy in deploys]})

    async def _deploy(self, request: Request) -> Response:
        parse_query(request, set())
        deploy = await self._requested_deploy(request)
        steps = await self._services.store.deploys.steps(deploy.id)
        described: dict[str, Any] = {
            **deploy.as_json(),
            "steps": [step.as_json() for step in steps],
        }
        return self._responses.json(described)

    async def _log(self, request: Request) -> Response:
        query = parse_query(request, {"after_line"})
        after = parse_number(query.get("after_line", "0"), "after_line", 0, 2**62)
        deploy = await self._requested_deploy(request)
        as_json = JSON_LINES in request.headers.get("accept", "")
        return StreamingResponse(
            self._lines(deploy.id, after, as_json),
            media_type=JSON_LINES if as_json else "text/plain; charset=utf-8",
            headers={"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"},
        )

    async def _lines(self, deploy: int, after: int, as_json: bool) -> AsyncIterator[bytes]:
        logs, redact = self._services.deployer.logs, self._services.redactor.redact_json
        while True:
            lines = await asyncio.to_thread(logs.read, deploy, after, _LOG_PAGE)
            if not lines:
                return
            after = lines[-1].number
            if as_json:
                yield b"".join(orjson.dumps(redact(line.as_json())) + b"\n" for line in lines)
            else:
                text = "".join(_as_text(line) for line in lines)
                yield self._services.redactor.redact(text).encode("utf-8", "replace")

    async def _apps(self, request: Request) -> Response:
        parse_query(request, set())
        apps = await self._services.store.apps.all()
        return self._responses.json({"apps": [app.as_json() for app in apps]})

    async def _app(self, request: Request) -> Response:
        parse_query(request, set())
        app = await self._services.store.apps.get(request.path_params["name"])
        if app is None:
            raise HTTPException(404, "no such app: see /api/apps")
        return self._responses.json(app.as_json())

    async def _requested_deploy(self, request: Request) -> Deploy:
        deploy = await self._services.store.deploys.get(path_id(request))
        if deploy is None:
            raise HTTPException(404, "no such deploy: see /api/deploys")
        return deploy


def _as_text(line: LogLine) -> str:
    # Its end belongs to the deploy as a whole, and to no step.
    return f"{line.step}: {line.line}\n" if line.step else f"{line.line}\n"

"""Owns the endpoints that only read: health, metrics, stats, deploys, apps, logs so far."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from edge.api.access import grant_of
from edge.api.endpoint import Endpoint, Handler
from edge.api.openapi import PLAIN, Query, answer
from edge.api.permission import Open, Permission, Scope
from orchestrator.api.endpoints import PAGE
from orchestrator.api.responses import (
    Responses,
    parse_number,
    parse_page,
    path_id,
)
from orchestrator.deploys.log import LogLine
from orchestrator.engine.stats import StatsReader
from orchestrator.metrics import METRICS_TYPE
from orchestrator.model import App, Deploy, DeployState
from orchestrator.services import ApiServices

# Lines of a log that are in memory at once while it is sent.
_LOG_PAGE: Final = 2000
JSON_LINES: Final = "application/x-ndjson"

_APP: Final = Query("app", "Only deploys of this app.", {"type": "string"})
_AFTER_LINE: Final = Query(
    "after_line", "Only lines after this line number.", {"type": "integer", "minimum": 0}
)
_LOG: Final = PLAIN | {JSON_LINES: {"schema": {"type": "string"}}}


class StatusApi:
    """Handlers of the endpoints that only read."""

    def __init__(self, services: ApiServices, responses: Responses) -> None:
        self._services = services
        self._responses = responses
        self._stats_reader = StatsReader(services.engine)

    def endpoints(self) -> list[Endpoint]:
        """The endpoints of these handlers."""

        def get(
            path: str, permission: Permission, handler: Handler, summary: str, **others: Any
        ) -> Endpoint:
            return Endpoint(
                method="GET",
                path=path,
                permission=permission,
                handler=handler,
                summary=summary,
                **others,
            )

        def plain(
            path: str, permission: Permission, handler: Handler, summary: str, *errors: int
        ) -> Endpoint:
            answers = {200: answer(summary, PLAIN)}
            return get(path, permission, handler, summary, answers=answers, errors=errors)

        everybody, read = Open.EVERYBODY, Scope.READ
        return [
            plain("/healthz", everybody, self._healthz, "Liveness: the process runs."),
            plain("/readyz", everybody, self._readyz, "Readiness: deploys can run.", 503),
            plain(
                "/metrics", Scope.METRICS, self._metrics, "Metrics in the Prometheus text format."
            ),
            get(
                "/api/stats",
                read,
                self._stats,
                "CPU, memory and network usage of each container.",
                errors=(503,),
            ),
            get(
                "/api/deploys",
                read,
                self._deploys,
                "List deploys, newest first.",
                by_app=True,
                query=(_APP, *PAGE),
            ),
            get(
                "/api/deploys/{id}",
                read,
                self._deploy,
                "Show a deploy with its steps.",
                by_app=True,
            ),
            get(
                "/api/deploys/{id}/log",
                read,
                self._log,
                "Log of the deploy so far.",
                by_app=True,
                query=(_AFTER_LINE,),
                answers={200: answer("Log of the deploy so far.", _LOG)},
            ),
            get("/api/apps", read, self._apps, "List apps by name.", by_app=True),
            get("/api/apps/{name}", read, self._app, "Show an app.", by_app=True),
        ]

    async def _healthz(self, _request: Request) -> Response:
        return PlainTextResponse("ok")

    async def _readyz(self, _request: Request) -> Response:
        if self._services.deployer.unready_reason() is None:
            return PlainTextResponse("ready")
        return PlainTextResponse("unavailable", status_code=503)

    async def _metrics(self, _request: Request) -> Response:
        return Response(self._services.metrics.render(), media_type=METRICS_TYPE)

    async def _stats(self, _request: Request) -> Response:
        stats = await self._stats_reader.read()
        down = await self._down()
        for container in stats["containers"]:
            container["down"] = down.get(container["app"], "")
        return self._responses.json(stats)

    async def _down(self) -> dict[str, str]:
        """Why the containers of apps do not run, by app."""
        return {app.name: app.down for app in await self._services.store.apps.all() if app.down}

    async def _deploys(self, request: Request) -> Response:
        query, grant = request.query_params, grant_of(request)
        app = query.get("app")
        if not grant.covers(app or ""):
            names = ", ".join(sorted(grant.apps))
            raise HTTPException(
                403, f"this token is limited to apps: add ?app= with one of {names}"
            )
        deploys = await self._services.store.deploys.page(app, **parse_page(query))
        down = await self._down()
        return self._responses.json(
            {"deploys": [deploy.as_json() | _shown_down(deploy, down) for deploy in deploys]}
        )

    async def _deploy(self, request: Request) -> Response:
        deploy = await self._requested_deploy(request)
        steps = await self._services.store.deploys.steps(deploy.id)
        described: dict[str, Any] = {
            **deploy.as_json(),
            **_shown_down(deploy, await self._down()),
            "steps": [step.as_json() for step in steps],
        }
        return self._responses.json(described)

    async def _log(self, request: Request) -> Response:
        after = parse_number(request.query_params.get("after_line", "0"), "after_line", 0, 2**62)
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
        grant = grant_of(request)
        links = await self._links()
        apps = [each for each in await self._services.store.apps.all() if grant.covers(each.name)]
        return self._responses.json({"apps": [self._described(app, links) for app in apps]})

    async def _app(self, request: Request) -> Response:
        app = await self._services.store.apps.get(request.path_params["name"])
        if app is None or not grant_of(request).covers(app.name):
            raise HTTPException(404, "no such app: see /api/apps")
        return self._responses.json(self._described(app, await self._links()))

    def _described(self, app: App, links: Mapping[str, list[str]]) -> dict[str, Any]:
        return {
            **app.as_json(),
            "links": links.get(app.name, []),
            # Not known, and not asked for, while the disk has room.
            "written_bytes": self._services.deployer.written().get(app.name),
        }

    async def _links(self) -> dict[str, list[str]]:
        """By app, those that it reaches."""
        found: dict[str, list[str]] = {}
        for link in await self._services.store.links.all():
            found.setdefault(link.app, []).append(link.to)
        return found

    async def _requested_deploy(self, request: Request) -> Deploy:
        deploy = await self._services.store.deploys.get(path_id(request))
        if deploy is None or not grant_of(request).covers(deploy.app):
            raise HTTPException(404, "no such deploy: see /api/deploys")
        return deploy


def _shown_down(deploy: Deploy, down: Mapping[str, str]) -> dict[str, str]:
    """Why a live deploy does not answer; empty for any other."""
    return {"down": down.get(deploy.app, "") if deploy.state is DeployState.LIVE else ""}


def _as_text(line: LogLine) -> str:
    # Its end belongs to the deploy as a whole, and to no step.
    return f"{line.step}: {line.line}\n" if line.step else f"{line.line}\n"

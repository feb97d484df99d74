"""Owns the endpoints that deploy, cancel a deploy and remove an app."""

import re
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from edge.api.access import grant_of
from edge.api.endpoint import Endpoint
from edge.api.openapi import fields_body
from edge.api.permission import Grant, Scope
from orchestrator.api.endpoints import accepted
from orchestrator.api.responses import (
    Responses,
    path_id,
    read_json,
)
from orchestrator.model import READ_ONLY, App, DeployRequest
from orchestrator.security import validation
from orchestrator.security.local_repositories import is_local_repository
from orchestrator.services import ApiServices
from orchestrator.webhooks.inbox import result_response

FIELDS: Final = {
    "app": "App name: a-z, 0-9 and -.",
    "repo": "Clone URL; required for a new app.",
    "ref": "Branch or full commit id; default: the branch of the app.",
    "domain": "Domain to add to the app; default for a new app: APP.local.",
    "health_path": "Health check path.",
}
OPTIONS: Final = {
    "read_only": "Containers made from now on: `on` can write only to /tmp (memory) and to what the"
    " image declares as VOLUME, `off` anywhere, `default` is FAIRLEAD_CONTAINER_READ_ONLY.",
}
_BODY: Final = fields_body(
    {name: {"type": "string", "description": meaning} for name, meaning in FIELDS.items()},
    required=["app"],
)

_OPTIONS_BODY: Final = fields_body(
    {
        name: {"type": "string", "enum": list(READ_ONLY), "description": meaning}
        for name, meaning in OPTIONS.items()
    },
    required=["read_only"],
)

_is_commit: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}").fullmatch


class DeployApi:
    """Handlers of the endpoints that change deploys and apps."""

    def __init__(self, services: ApiServices, responses: Responses) -> None:
        self._services = services
        self._responses = responses

    def endpoints(self) -> list[Endpoint]:
        """The endpoints of these handlers."""
        return [
            Endpoint(
                method="POST",
                path="/api/deploys",
                permission=Scope.DEPLOY,
                by_app=True,
                handler=self._deploy,
                summary="Deploy an app.",
                body=_BODY,
                answers={202: accepted("The deploy is queued.")},
                errors=(408, 409, 413, 415, 422, 503),
            ),
            Endpoint(
                method="POST",
                path="/api/deploys/{id}/cancel",
                permission=Scope.DEPLOY,
                by_app=True,
                handler=self._cancel,
                summary="Cancel the deploy, unless its routes are switched.",
                errors=(409,),
            ),
            # No token of one app takes off what an operator has put on all.
            Endpoint(
                method="PATCH",
                path="/api/apps/{name}",
                permission=Scope.WRITE,
                handler=self._set,
                summary="Change options of the app, for containers made from now on.",
                body=_OPTIONS_BODY,
                errors=(408, 413, 415, 422, 503),
            ),
            Endpoint(
                method="DELETE",
                path="/api/apps/{name}",
                permission=Scope.WRITE,
                by_app=True,
                handler=self._remove,
                summary="Remove the app, its containers and images; its routes answer 503.",
                errors=(409, 503),
            ),
        ]

    async def _deploy(self, request: Request) -> Response:
        fields = await read_json(request, set(FIELDS))
        wanted = await self._deploy_request(fields, grant_of(request))
        deploy = await self._services.deployer.submit(wanted)
        status, result = result_response(deploy)
        return self._responses.json(result, status, {"Location": f"/api/deploys/{deploy.id}"})

    async def _deploy_request(self, fields: dict[str, str], grant: Grant) -> DeployRequest:
        if not fields.get("app"):
            raise HTTPException(400, 'app is required: send {"app": "NAME", "repo": "URL"}')
        name = validation.check_app(fields["app"])
        if not grant.covers(name):
            raise HTTPException(403, f"this token is limited to {', '.join(sorted(grant.apps))}")
        app = await self._services.store.apps.get(name)
        url, credentials = _source(fields.get("repo", ""), app)
        self._services.redactor.add_credentials(credentials)
        allow_file = grant.is_operator or is_local_repository(
            url, self._services.settings.local_repos
        )
        clone_url = validation.check_clone_url(url, allow_file=allow_file)
        ref = fields.get("ref", "")
        commit = validation.check_commit(ref) if _is_commit(ref) else ""
        branch = validation.check_branch(ref) if ref and not commit else app.branch if app else ""
        return DeployRequest(
            app=name,
            provider="cli",
            repository=clone_url,
            clone_url=clone_url,
            credentials=credentials,
            branch=branch,
            commit=commit,
            domain=validation.check_domain(fields["domain"]) if fields.get("domain") else "",
            health_path=(
                validation.check_health_path(fields["health_path"])
                if fields.get("health_path")
                else ""
            ),
            allow_file=allow_file,
            # Domains of operators, and of apps that are gone, are no app's that it is limited to.
            operator=grant.allows(Scope.WRITE) and not grant.apps,
        )

    async def _cancel(self, request: Request) -> Response:
        number = path_id(request)
        deploy = await self._services.store.deploys.get(number)
        if deploy is None or not grant_of(request).covers(deploy.app):
            raise HTTPException(404, "no such deploy: see /api/deploys")
        return self._responses.json((await self._services.deployer.cancel(number)).as_json())

    async def _set(self, request: Request) -> Response:
        name = request.path_params["name"]
        choice = (await read_json(request, set(OPTIONS))).get("read_only")
        if choice not in READ_ONLY:
            raise HTTPException(422, f"read_only must be one of {', '.join(READ_ONLY)}")
        if not await self._services.store.apps.set_read_only(name, choice):
            raise HTTPException(404, "no such app: see /api/apps")
        return self._responses.json({"app": name, "read_only": choice})

    async def _remove(self, request: Request) -> Response:
        name = request.path_params["name"]
        app = await self._services.store.apps.get(name)
        if app is None or not grant_of(request).covers(name):
            raise HTTPException(404, "no such app: see /api/apps")
        await self._services.deployer.remove_app(name)
        return self._responses.json({"removed": name})


def _source(repo: str, app: App | None) -> tuple[str, str]:
    """The clone URL and its credentials."""
    if repo:
        return validation.split_credentials(repo)
    if app is None:
        raise HTTPException(400, 'repo is required for a new app: send {"repo": "URL"}')
    return app.clone_url, ""

"""Owns the endpoints that make, list and revoke the tokens of the API."""

import time
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from edge.api.endpoint import Endpoint
from edge.api.openapi import answer, fields_body
from edge.api.permission import Scope, parse_scopes
from edge.api.token_form import make_token
from edge.errors import ConfigError, StoreError
from edge.settings.syntax import parse_positive_duration
from orchestrator.api.responses import Responses, read_json
from orchestrator.security import validation
from orchestrator.services import ApiServices

FIELDS: Final = {
    "name": "Name of the token: a-z, 0-9 and -.",
    "scope": f"What it may, separated by spaces: {', '.join(Scope)}.",
    "apps": "Apps that it is limited to, separated by spaces; default: all.",
    "expires_in": "Seconds until it expires; default: never.",
}
_BODY: Final = fields_body(
    {name: {"type": "string", "description": meaning} for name, meaning in FIELDS.items()},
    required=["name", "scope"],
)


class TokenApi:
    """Handlers of the endpoints about tokens."""

    def __init__(self, services: ApiServices, responses: Responses) -> None:
        self._tokens = services.store.tokens
        self._edge_tokens = services.edge_tokens
        self._responses = responses

    def endpoints(self) -> list[Endpoint]:
        """The endpoints of these handlers."""
        return [
            Endpoint(
                method="GET",
                path="/api/tokens",
                permission=Scope.ADMIN,
                handler=self._list,
                summary="List tokens by name, without the tokens themselves.",
            ),
            Endpoint(
                method="POST",
                path="/api/tokens",
                permission=Scope.ADMIN,
                handler=self._create,
                summary="Create a token; it is shown this once.",
                body=_BODY,
                answers={201: answer("The token.")},
                errors=(408, 409, 413, 415, 422, 503),
            ),
            Endpoint(
                method="DELETE",
                path="/api/tokens/{name}",
                permission=Scope.ADMIN,
                handler=self._revoke,
                summary="Revoke a token.",
                errors=(503,),
            ),
        ]

    async def _list(self, _request: Request) -> Response:
        return self._responses.json(
            {"tokens": [token.as_json() for token in await self._tokens.all()]}
        )

    async def _create(self, request: Request) -> Response:
        fields = await read_json(request, set(FIELDS))
        name = validation.check_token_name(fields.get("name", ""))
        try:
            scopes = parse_scopes(fields.get("scope", "").split())
        except ValueError as error:
            raise HTTPException(422, str(error)) from None
        if not scopes:
            raise HTTPException(422, f"scope is required: one or more of {', '.join(Scope)}")
        apps = [validation.check_app(app) for app in fields.get("apps", "").split()]
        token = make_token()
        await self._tokens.add(name, token, scopes, apps, _expiry(fields.get("expires_in", "")))
        made = {"name": name, "token": token}
        try:
            await self._edge_tokens.copy()
        except StoreError as error:
            made["warning"] = f"the edge's admin API does not know it yet; tried again: {error}"
        return self._responses.json(made, 201)

    async def _revoke(self, request: Request) -> Response:
        name = request.path_params["name"]
        if not await self._tokens.remove(name):
            raise HTTPException(404, "no such token: see /api/tokens")
        try:
            await self._edge_tokens.copy()
        except StoreError as error:
            raise HTTPException(
                503,
                f"{name} is revoked, but the edge's admin API takes it until the copy of the tokens"
                f" there can be written, which is tried again: {error}",
            ) from None
        return self._responses.json({"revoked": name})


def _expiry(text: str) -> float | None:
    if not text:
        return None
    try:
        return time.time() + parse_positive_duration(text)
    except ConfigError as error:
        raise HTTPException(422, f"expires_in: {error}") from None

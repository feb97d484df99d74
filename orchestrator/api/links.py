"""Owns the endpoints that let one app reach another, and end that."""

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from edge.api.endpoint import Endpoint
from edge.api.permission import Scope
from orchestrator.api.responses import Responses
from orchestrator.model import Link
from orchestrator.security import validation
from orchestrator.services import ApiServices

_PATH = "/api/apps/{name}/links/{to}"
_DESCRIPTION = (
    "`applied` is false where the Docker Engine does not answer: it is done as soon as it does."
)


class LinkApi:
    """Handlers of the endpoints about links."""

    def __init__(self, services: ApiServices, responses: Responses) -> None:
        self._services = services
        self._responses = responses

    def endpoints(self) -> list[Endpoint]:
        """The endpoints of these handlers. A link concerns two apps: no token of one may."""
        return [
            Endpoint(
                method="PUT",
                path=_PATH,
                permission=Scope.WRITE,
                handler=self._link,
                summary="Let containers of the app reach those of another one by its name.",
                description=_DESCRIPTION,
                errors=(409, 422, 503),
            ),
            Endpoint(
                method="DELETE",
                path=_PATH,
                permission=Scope.WRITE,
                handler=self._unlink,
                summary="Let containers of the app no longer reach those of the other one.",
                description=_DESCRIPTION,
                errors=(503,),
            ),
        ]

    async def _link(self, request: Request) -> Response:
        link = _named(request)
        if link.app == link.to:
            raise HTTPException(422, f"{link.app} reaches itself without a link")
        applied = await self._services.deployer.link(link)
        live = (await self._services.store.deploys.live()).get(link.to)
        address = f"{link.to}:{live.port}" if live is not None else ""
        return self._responses.json({**link._asdict(), "address": address, "applied": applied})

    async def _unlink(self, request: Request) -> Response:
        link = _named(request)
        applied = await self._services.deployer.unlink(link)
        return self._responses.json({**link._asdict(), "applied": applied})


def _named(request: Request) -> Link:
    return Link(*(validation.check_app(request.path_params[name]) for name in ("name", "to")))

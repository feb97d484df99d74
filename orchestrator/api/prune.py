"""Owns the endpoints that remove what is too old or too much, and say what would go."""

from starlette.requests import Request
from starlette.responses import Response

from edge.api.endpoint import Endpoint
from edge.api.permission import Scope
from orchestrator.api.responses import Responses
from orchestrator.services import ApiServices


class PruneApi:
    """Handlers of the endpoints about what is kept."""

    def __init__(self, services: ApiServices, responses: Responses) -> None:
        self._deployer = services.deployer
        self._responses = responses

    def endpoints(self) -> list[Endpoint]:
        """The endpoints of these handlers."""
        return [
            Endpoint(
                method="GET",
                path="/api/prune",
                permission=Scope.READ,
                handler=self._plan,
                summary="Show what a prune would remove, by kind.",
                errors=(503,),
            ),
            Endpoint(
                method="POST",
                path="/api/prune",
                permission=Scope.WRITE,
                handler=self._prune,
                summary="Remove what is too old or too much; `more` if it is not all done yet.",
                errors=(503,),
            ),
        ]

    async def _plan(self, _request: Request) -> Response:
        return await self._answer(dry_run=True)

    async def _prune(self, _request: Request) -> Response:
        return await self._answer(dry_run=False)

    async def _answer(self, *, dry_run: bool) -> Response:
        pruned, more = await self._deployer.prune(dry_run=dry_run)
        return self._responses.json(
            {"pruned": [each.as_json() for each in pruned], "more": more, "dry_run": dry_run}
        )

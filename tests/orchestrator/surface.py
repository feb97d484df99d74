"""Owns the HTTP surface of the tests: the real application on a real port, over a real store.

Deploys do what a test says: queue and pipeline have tests of their own.
"""

import asyncio
import dataclasses
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from edge.routing.store_writer import RouteWriter
from orchestrator.api.app import create_access, create_app
from orchestrator.api.server import create_server, listen, listen_here
from orchestrator.deploys.log import DeployLogs
from orchestrator.deploys.pruner import Pruned
from orchestrator.edge_tokens import EdgeTokens
from orchestrator.engine.engine import Engine
from orchestrator.errors import RefusedError
from orchestrator.loop_watch import LoopWatch
from orchestrator.metrics import Metrics
from orchestrator.model import Deploy, DeployRequest, DeployState, Link
from orchestrator.security.clients import Clients
from orchestrator.security.redact import Redactor
from orchestrator.services import ApiServices
from orchestrator.settings import load
from orchestrator.store.store import Store
from orchestrator.webhooks.inbox import Inbox
from tests.process import NO_AUTHORITIES, TOKEN

PATIENCE = 30.0
"""Seconds that something may take on a busy machine."""

SECRET = "a-webhook-secret-of-the-tests"
COMMIT = "a" * 40


class Deploys:
    """Stands in for queue and pipeline: stores what is submitted, ends it when a test says so."""

    def __init__(self, store: Store, logs: DeployLogs) -> None:
        self.logs = logs
        self.requests: list[DeployRequest] = []
        self.missing: str | None = None
        self.fails_with: Exception | None = None
        self.removed: list[str] = []
        self.prunes: list[bool] = []
        self._store = store
        self._changed = asyncio.Condition()

    async def submit(self, request: DeployRequest) -> Deploy:
        if self.fails_with is not None:
            raise self.fails_with
        deploy = await self._store.deploys.add(request, request.health_path or "/")
        async with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
        return deploy

    async def branch_for(self, app: str, default_branch: str) -> str:
        return default_branch

    async def wait(self, number: int, seconds: float) -> Deploy:
        try:
            async with asyncio.timeout(seconds), self._changed:
                while not (await self._deploy(number)).state.is_final:
                    await self._changed.wait()
        except TimeoutError:
            pass
        return await self._deploy(number)

    async def cancel(self, number: int) -> Deploy:
        if (await self._deploy(number)).state.is_final:
            raise RefusedError("it has ended", 409)
        return await self.ends(number, DeployState.CANCELLED)

    async def link(self, link: Link) -> bool:
        await self._store.links.add(link)
        return self.missing is None

    async def unlink(self, link: Link) -> bool:
        if not await self._store.links.remove(link):
            raise RefusedError("no such link", 404)
        return self.missing is None

    async def remove_app(self, app: str) -> None:
        self.removed.append(app)

    async def prune(self, *, dry_run: bool) -> tuple[list[Pruned], bool]:
        self.prunes.append(dry_run)
        return [Pruned("images", {"fairlead/app:1": 5, "fairlead/app:2": 7})], False

    def written(self) -> dict[str, int]:
        return {"app": 7}

    def queued(self) -> int:
        return 3

    def running(self) -> int:
        return 2

    def unready_reason(self) -> str | None:
        return self.missing

    async def ends(self, number: int, state: DeployState, **fields: Any) -> Deploy:
        """The deploy is over, as the pipeline would write it down."""
        deploy = dataclasses.replace(await self._deploy(number), state=state, **fields)
        await self._store.deploys.finish(deploy)
        async with self._changed:
            self._changed.notify_all()
        return deploy

    async def are(self, count: int) -> None:
        """Returns when so many were submitted."""
        async with asyncio.timeout(PATIENCE), self._changed:
            await self._changed.wait_for(lambda: len(self.requests) >= count)

    async def _deploy(self, number: int) -> Deploy:
        deploy = await self._store.deploys.get(number)
        assert deploy is not None
        return deploy


@dataclasses.dataclass(frozen=True)
class Surface:
    """A running one. `http` is a client with the admin's token, `stranger` one without any, and
    `operator` is at the socket.
    """

    services: ApiServices
    inbox: Inbox
    deploys: Deploys
    http: httpx.AsyncClient
    stranger: httpx.AsyncClient
    operator: httpx.AsyncClient
    port: int
    token: str

    @property
    def store(self) -> Store:
        return self.services.store

    async def push(self, headers: dict[str, str] | None = None, **query: str) -> httpx.Response:
        """A push of GitHub's, its delivery id from `headers`."""
        return await self.delivers(push(), headers, **query)

    async def delivers(
        self, body: bytes, headers: dict[str, str] | None = None, **query: str
    ) -> httpx.Response:
        """Anything of GitHub's, signed if there is a secret, else with the token."""
        secret = self.services.settings.webhook_secret
        given = github(body, secret) | (headers or {})
        client = self.stranger if secret else self.http
        return await client.post("/webhook", content=body, headers=given, params=query)


@asynccontextmanager
async def surface(
    folder: Path,
    engine_host: str = "unix:///nowhere.sock",
    engine: Engine | None = None,
    **flags: str,
) -> AsyncIterator[Surface]:
    """The application with these settings; everything is closed at the end."""
    given = {"db": str(folder / "fairlead.db"), "addr": "127.0.0.1:0", "api_token": TOKEN, **flags}
    settings = load(given, {})
    redactor = Redactor() if engine is None else engine.redactor
    for secret in (settings.api_token, settings.webhook_secret):
        redactor.add(secret)
    async with AsyncExitStack() as stack:
        store = await Store.open(settings.state_path, settings.db)
        stack.push_async_callback(store.close)
        if engine is None:
            engine = Engine(store.instance, redactor, engine_host)
            stack.push_async_callback(engine.close)
        deploys = Deploys(store, DeployLogs(settings.logs_folder, redactor))
        metrics = Metrics()
        metrics.watch(
            deploys.queued,
            deploys.running,
            lambda: deploys.unready_reason() is None,
            LoopWatch().longest_pause,
            lambda: 0,
        )
        access = create_access(settings, store)
        clients = Clients(settings.trusted_proxies)
        services = ApiServices(
            settings,
            store,
            engine,
            deploys,
            access,
            EdgeTokens(store.tokens, RouteWriter(settings.db)),
            clients,
            redactor,
            metrics,
        )
        inbox = Inbox(services)
        listening = stack.enter_context(listen(settings.addr))
        here = stack.enter_context(listen_here(settings.api_path))
        app = create_app(services, inbox)
        for each in (here, listening):
            server = create_server(app, each)
            await server.start()
            stack.push_async_callback(server.stop)
        port = listening.getsockname()[1]

        async def client(**options: Any) -> httpx.AsyncClient:
            return await stack.enter_async_context(
                httpx.AsyncClient(
                    base_url=f"http://127.0.0.1:{port}",
                    timeout=PATIENCE,
                    trust_env=False,
                    verify=NO_AUTHORITIES,
                    **options,
                )
            )

        yield Surface(
            services,
            inbox,
            deploys,
            await client(headers={"Authorization": f"Bearer {settings.api_token}"}),
            await client(),
            await client(transport=httpx.AsyncHTTPTransport(uds=str(settings.api_path))),
            port,
            settings.api_token,
        )


def push(**changes: Any) -> bytes:
    """The body of a push as the seed's tutorial sends it, more or less."""
    repository = {
        "name": "sim-app",
        "full_name": "owner/sim-app",
        "clone_url": "https://git.test/owner/sim-app.git",
        "default_branch": "main",
    }
    fields = {"ref": "refs/heads/main", "after": COMMIT, "repository": repository, **changes}
    return json.dumps(fields).encode()


def github(body: bytes, secret: str = "", event: str = "push") -> dict[str, str]:
    """The headers of a delivery."""
    headers = {"X-GitHub-Event": event, "Content-Type": "application/json"}
    if secret:
        digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        headers["X-Hub-Signature-256"] = f"sha256={digest}"
    return headers

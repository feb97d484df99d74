"""Owns what becomes of a verified webhook delivery: it is stored, decided once, and answered alike
however often it comes.

A delivery that a crash left undecided is decided by the next start.
"""

import asyncio
import logging
import math
import uuid
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl

from orchestrator import webhooks
from orchestrator.errors import RefusedError
from orchestrator.model import Delivery, Deploy, DeployRequest, DeployState
from orchestrator.security import validation
from orchestrator.security.local_repositories import is_local_repository
from orchestrator.services import ApiServices
from orchestrator.webhooks.kept import credentials_of, kept_body, kept_query

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Seconds that a webhook may ask to wait. GitHub hangs up after 10, others after 30.
MAX_WAIT: Final = 30.0
# Deliveries that a start looks through for undecided ones. A crash leaves those that were decided
# at that moment, a handful at most.
MAX_RESUMED: Final = 200
# What the query of the webhook's URL may say.
WEBHOOK_PARAMS: Final = ("branch", "domain", "health_path", "wait")

# Stored with the headers, under names that no header can have (RFC 9110 section 5.1): a replay
# wants what the webhook's URL said, and a crash must not make the operator somebody else.
_QUERY: Final = ":query"
_OPERATOR: Final = ":operator"
_SIGNED: Final = ":signed"  # nothing but the body's signature proves it
_UNREADABLE: Final = ":unreadable"  # why nothing of the body is kept


@dataclass(frozen=True, slots=True)
class WebhookParams:
    """What the query of the webhook's URL says; "" where it says nothing."""

    domain: str = ""
    health_path: str = ""
    branch: str = ""
    wait: float | None = None


@dataclass(frozen=True, slots=True)
class _Outcome:
    decision: str
    reason: str
    status: int
    deploy: int | None = None


class Inbox:
    """The deliveries of one daemon."""

    def __init__(self, services: ApiServices) -> None:
        self._services = services
        # By delivery, while they are decided here: whoever brings the same one waits with us.
        self._deciding: dict[int, asyncio.Task[Delivery]] = {}
        # Without a reference to it, a task may vanish before it is done.
        self._tasks: set[asyncio.Task[Any]] = set()

    async def receive(
        self,
        event: webhooks.WebhookEvent,
        headers: Mapping[str, str],
        body: bytes,
        query: str,
        *,
        by_operator: bool,
        is_signed: bool,
    ) -> Delivery:
        """Store and decide a delivery, or find what was decided when it came first.

        Goes on to its end even if the caller is cancelled.
        """
        redactor = self._services.redactor
        interpret = partial(webhooks.interpret, event)

        async def keep_and_decide() -> Delivery:
            # In threads: what takes a sender nothing to write may take a second to read.
            credentials = await asyncio.to_thread(credentials_of, body, interpret)
            redactor.add_credentials(credentials)
            stored = redactor.redact_json(webhooks.stored_headers(headers))
            stored[_QUERY] = kept_query(query, WEBHOOK_PARAMS)
            if by_operator:
                stored[_OPERATOR] = "yes"
            if is_signed:
                stored[_SIGNED] = "yes"
            try:
                kept = await asyncio.to_thread(kept_body, body, interpret, redactor.redact)
            except RefusedError as error:
                stored[_UNREADABLE], kept = str(error), b""
            return await self._store_and_decide(event, stored, kept, credentials=credentials)

        return await self._shielded(keep_and_decide())

    async def replay(self, delivery: Delivery, *, by_operator: bool) -> Delivery:
        """Decide a delivery anew, as one of its own that tells which one it repeats."""
        is_ours = {_OPERATOR, _SIGNED}.__contains__
        stored = {name: value for name, value in delivery.headers.items() if not is_ours(name)}
        if by_operator:
            stored[_OPERATOR] = "yes"
        event = webhooks.WebhookEvent(
            delivery.provider, delivery.event, f"replay:{delivery.id}:{uuid.uuid4()}"
        )
        return await self._shielded(
            self._store_and_decide(event, stored, delivery.body, replay_of=delivery.id)
        )

    async def resume(self) -> None:
        """Decide what was stored but not decided when the last process ended, oldest first."""
        for delivery in reversed(await self._services.store.deliveries.page(limit=MAX_RESUMED)):
            if not delivery.decision and delivery.id not in self._deciding:
                logger.info(
                    "resuming a webhook delivery that was interrupted",
                    extra={"fields": {"delivery": delivery.id}},
                )
                try:
                    await self._decide_once(delivery)
                except Exception:
                    # The others are not its fault; it is tried again at the next start, or when
                    # the provider sends it again.
                    logger.exception("cannot process webhook delivery %s", delivery.id)

    async def finish(self) -> None:
        """Wait for the deliveries that are being stored and decided."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _store_and_decide(
        self,
        event: webhooks.WebhookEvent,
        stored: Mapping[str, str],
        body: bytes,
        *,
        replay_of: int | None = None,
        credentials: str = "",
    ) -> Delivery:
        delivery, _ = await self._services.store.deliveries.add(
            event.provider, event.delivery_id, event.name, stored, body, replay_of, credentials
        )
        if delivery.decision:
            return delivery
        return await self._decide_once(delivery)

    async def _decide_once(self, delivery: Delivery) -> Delivery:
        task = self._deciding.get(delivery.id)
        if task is None:
            task = self._start(self._decide(delivery))
            self._deciding[delivery.id] = task
            task.add_done_callback(lambda _: self._deciding.pop(delivery.id, None))
        return await asyncio.shield(task)

    async def _decide(self, delivery: Delivery) -> Delivery:
        # Whoever read the row before another one's decision was written finds it now.
        now = await self._services.store.deliveries.get(delivery.id)
        assert now is not None  # noqa: S101  narrows a type
        if now.decision:
            return now
        outcome = (
            _Outcome("deploy", "", 202, now.deploy)
            if now.deploy is not None
            else await self._evaluate(now)
        )
        await self._services.store.deliveries.set_decision(
            now.id, outcome.decision, outcome.reason, outcome.status, outcome.deploy
        )
        self._services.metrics.delivery_decided(now.provider, outcome.decision)
        logger.info(
            "webhook processed",
            extra={
                "fields": {
                    "provider": now.provider,
                    "event": now.event,
                    "delivery": now.id,
                    "decision": outcome.decision,
                    "reason": outcome.reason,
                    "deploy_id": outcome.deploy,
                }
            },
        )
        now.decision, now.reason = outcome.decision, outcome.reason
        now.status, now.deploy = outcome.status, outcome.deploy
        return now

    async def _evaluate(self, delivery: Delivery) -> _Outcome:
        event = webhooks.WebhookEvent(delivery.provider, delivery.event, delivery.delivery_id)
        try:
            params = parse_webhook_params(delivery.headers.get(_QUERY, ""))
            result = await asyncio.to_thread(webhooks.interpret, event, delivery.body)
            if isinstance(result, webhooks.Pong):
                return _Outcome("pong", "", 200)
            if isinstance(result, webhooks.Ignored):
                return _Outcome("ignored", result.reason, 202)
            return await self._evaluate_push(delivery, result, params)
        except RefusedError as error:
            if error.status == 503:
                raise  # not now: it stays undecided, and the next start takes it up
            reason = delivery.headers.get(_UNREADABLE) or str(error)
            return _Outcome("refused", reason, error.status)

    async def _evaluate_push(
        self, delivery: Delivery, push: webhooks.Push, params: WebhookParams
    ) -> _Outcome:
        services = self._services
        # The body is kept without them.
        credentials = await services.store.deliveries.credentials(delivery)
        if push.credentials and not credentials:
            raise RefusedError("the credentials of its clone URL are lost: push again", 409)
        services.redactor.add_credentials(credentials)
        app = validation.app_name(push.name)
        if delivery.headers.get(_SIGNED):
            params = await self._signed_params(app, params)
        branch = params.branch or await services.deployer.branch_for(app, push.default_branch)
        push = webhooks.select_branch(push, branch)
        reason = webhooks.skip_reason(push, branch)
        if reason is not None:
            return _Outcome("ignored", reason, 202)
        allow_file = delivery.headers.get(_OPERATOR) == "yes" or is_local_repository(
            push.clone_url, services.settings.local_repos
        )
        deploy = await services.deployer.submit(
            DeployRequest(
                app=app,
                provider=delivery.provider,
                repository=push.repository,
                clone_url=validation.check_clone_url(push.clone_url, allow_file=allow_file),
                credentials=credentials,
                branch=push.branch,
                commit=validation.check_commit(push.commit),
                domain=params.domain,
                health_path=params.health_path,
                delivery=delivery.id,
                allow_file=allow_file,
                operator=delivery.replay_of is not None,
            )
        )
        return _Outcome("deploy", "", 202, deploy.id)

    async def _signed_params(self, app: str, params: WebhookParams) -> WebhookParams:
        """What may be believed of the query, which no signature is over: all of it for a new app,
        whose owner has yet to say it. Raises RefusedError."""
        known = await self._services.store.apps.get(app)
        if known is None:
            return params
        if params.domain and params.domain not in known.domains:
            raise RefusedError(
                f"{params.domain} is no domain of app {app}, and the query of a webhook is not"
                f" signed: add it with `fairlead deploy {app} --domain {params.domain}`",
                409,
            )
        return replace(params, health_path="")

    async def _shielded(self, work: Coroutine[Any, Any, T]) -> T:
        return await asyncio.shield(self._start(work))

    def _start(self, work: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def parse_webhook_params(query: str) -> WebhookParams:
    """What the query says. Raises RefusedError 400 for what cannot be meant."""
    found: dict[str, str] = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=20)
    except ValueError:
        raise RefusedError("too many query parameters", 400) from None
    for name, value in pairs:
        if name not in WEBHOOK_PARAMS:
            allowed = ", ".join(WEBHOOK_PARAMS)
            raise RefusedError(f"unknown query parameter {name[:40]!r}; allowed: {allowed}", 400)
        if name in found:
            raise RefusedError(f"query parameter {name!r} is given twice", 400)
        found[name] = value
    try:
        return WebhookParams(
            domain=validation.check_domain(found["domain"]) if found.get("domain") else "",
            health_path=validation.check_health_path(found["health_path"])
            if found.get("health_path")
            else "",
            branch=validation.check_branch(found["branch"]) if found.get("branch") else "",
            wait=parse_wait(found["wait"]) if found.get("wait") else None,
        )
    except RefusedError as error:
        raise RefusedError(str(error), 400) from None


def parse_wait(text: str) -> float:
    """Seconds to wait for a result. Raises RefusedError 400."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= MAX_WAIT:
        raise RefusedError(f"wait must be a number of seconds from 0 to {MAX_WAIT:g}", 400)
    return seconds


def result_response(deploy: Deploy) -> tuple[int, dict[str, Any]]:
    """Status and JSON of a deploy's result, for whoever waited; a failure without its cause."""
    if deploy.state in (DeployState.LIVE, DeployState.RETIRED):
        return 200, deploy.result_json()
    known: dict[str, Any] = {
        "deploy_id": deploy.id,
        "app": deploy.app,
        "state": deploy.state.value,
    }
    if deploy.state is DeployState.FAILED:
        return 500, {"error": "deploy failed", **known}
    if deploy.state is DeployState.SUPERSEDED:
        return 200, {**known, "superseded_by": deploy.superseded_by}
    return 200 if deploy.state.is_final else 202, known

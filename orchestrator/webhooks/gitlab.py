"""Owns how GitLab proves itself and tells a push. Pure.

https://docs.gitlab.com/user/project/integrations/webhook_events/
"""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final

from orchestrator.webhooks.github import message_of
from orchestrator.webhooks.push import (
    Ignored,
    Push,
    WebhookEvent,
    header_bytes,
    make_push,
    parse,
    webhook_event,
)

PROVIDER = "gitlab"

_PUSHES: Final = ("Push Hook", "Tag Push Hook")


def identify(headers: Mapping[str, str], body: bytes) -> WebhookEvent | None:
    """What GitLab says in its headers; None if it did not send them."""
    event = headers.get("x-gitlab-event")
    if event is None:
        return None
    key = headers.get("idempotency-key", "")
    uuid = headers.get("x-gitlab-event-uuid", "")
    if uuid and not key:
        # Before GitLab 17.4. All webhooks that one request of a user's, or another webhook, leads
        # to have the same one (Gitlab::WebHooks::RecursionDetection::UUID): two branches in one
        # push are told apart by what they say.
        uuid = f"{uuid}:{hashlib.sha256(body).hexdigest()}"
    return webhook_event(PROVIDER, event, body, key, uuid)


def verify(headers: Mapping[str, str], body: bytes, secret: str) -> bool:
    """Whether it knows the secret, which GitLab sends as it is, and not the body's signature.

    Digests are compared, so that not even the secret's length shows in the time.
    """
    given = header_bytes(headers.get("x-gitlab-token", ""))
    return hmac.compare_digest(
        hashlib.sha256(given).digest(), hashlib.sha256(secret.encode()).digest()
    )


def interpret(event: WebhookEvent, body: bytes) -> Push | Ignored:
    """What the delivery is about."""
    if event.name not in _PUSHES:
        return Ignored(f"event {event.name} is not a push")
    payload = parse(body)
    project = payload.part("project")
    full_name = project.text("path_with_namespace")
    after = payload.text("after")
    commit = payload.text_or_empty("checkout_sha") or after
    return make_push(
        full_name=full_name,
        # The last part of the path stays when somebody gives the project another title.
        name=full_name.rpartition("/")[2],
        clone_url=project.text("git_http_url"),
        default_branch=project.text_or_empty("default_branch"),
        ref=payload.text("ref"),
        before=payload.text_or_empty("before"),
        after=commit,
        deleted=not after.strip("0"),
        empty=False,
        message=message_of(payload, commit),
    )

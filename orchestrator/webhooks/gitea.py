"""Owns how Gitea and Forgejo sign and tell a push. Pure. https://docs.gitea.com/usage/webhooks

They send GitHub's event header beside their own, but their own signature.
"""

from collections.abc import Mapping

from orchestrator.webhooks import github
from orchestrator.webhooks.push import (
    Ignored,
    Push,
    WebhookEvent,
    parse,
    signature_matches,
    webhook_event,
)

PROVIDER = "gitea"


def identify(headers: Mapping[str, str], body: bytes) -> WebhookEvent | None:
    """What Gitea says in its headers; None if it did not send them."""
    event = headers.get("x-gitea-event")
    if event is None:
        return None
    given = headers.get("x-gitea-delivery", "")
    return webhook_event(PROVIDER, event, body, given)


def verify(headers: Mapping[str, str], body: bytes, secret: str) -> bool:
    """Whether it is signed, by the bare hex HMAC-SHA256."""
    return signature_matches(body, secret, headers.get("x-gitea-signature", ""))


def interpret(event: WebhookEvent, body: bytes) -> Push | Ignored:
    """What the delivery is about."""
    if event.name != "push":
        return Ignored(f"event {event.name} is not a push")
    return github.push_of(parse(body))

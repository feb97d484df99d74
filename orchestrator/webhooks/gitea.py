"""Owns how Gitea and Forgejo sign and tell a push. Pure. https://docs.gitea.com/usage/webhooks

They send GitHub's event header beside their own, but their own signature.
"""

from collections.abc import Mapping

from orchestrator.webhooks import github
from orchestrator.webhooks.push import Ignored, Incoming, Push, incoming, parse, signed

PROVIDER = "gitea"


def recognise(headers: Mapping[str, str], body: bytes) -> Incoming | None:
    """What Gitea says in its headers; None if it did not send them."""
    event = headers.get("x-gitea-event")
    if event is None:
        return None
    given = headers.get("x-gitea-delivery", "")
    return incoming(PROVIDER, event, body, given)


def verify(headers: Mapping[str, str], body: bytes, secret: str) -> bool:
    """Whether it is signed, by the bare hex HMAC-SHA256."""
    return signed(body, secret, headers.get("x-gitea-signature", ""))


def interpret(about: Incoming, body: bytes) -> Push | Ignored:
    """What the delivery is about."""
    if about.event != "push":
        return Ignored(f"event {about.event} is not a push")
    return github.push_of(parse(body))

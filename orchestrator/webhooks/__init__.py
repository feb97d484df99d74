"""Owns the rules of webhooks: whose delivery it is, whether it is genuine, and what it asks for.

Pure: headers and bytes in, a verdict out. The names of headers are in lower case. The bytes are
verified as they came, and parsed only then.
"""

from collections.abc import Mapping
from typing import Final, Protocol

from orchestrator.webhooks import bitbucket, gitea, github, gitlab
from orchestrator.webhooks.push import (
    Ignored,
    Pong,
    Push,
    WebhookEvent,
    lacks_delivery_id,
    select_branch,
    skip_reason,
)

__all__ = [
    "Ignored",
    "Pong",
    "Push",
    "WebhookEvent",
    "identify",
    "interpret",
    "is_ping",
    "lacks_delivery_id",
    "select_branch",
    "skip_reason",
    "stored_headers",
    "verify",
]


class _Provider(Protocol):
    PROVIDER: str

    def identify(self, headers: Mapping[str, str], body: bytes) -> WebhookEvent | None: ...

    def verify(self, headers: Mapping[str, str], body: bytes, secret: str) -> bool: ...

    def interpret(self, event: WebhookEvent, body: bytes) -> Push | Ignored | Pong: ...


# Gitea's headers come with GitHub's, so it is asked first.
_ALL: Final[tuple[_Provider, ...]] = (gitea, gitlab, bitbucket, github)
_PROVIDERS: Final = {each.PROVIDER: each for each in _ALL}

# Named one by one: a header that nobody thought of may be a secret.
_STORED_HEADERS: Final = (
    "content-type",
    "user-agent",
    "x-github-delivery",
    "x-github-event",
    "x-github-hook-id",
    "x-github-hook-installation-target-id",
    "x-github-hook-installation-target-type",
    "idempotency-key",
    "x-gitlab-event",
    "x-gitlab-event-uuid",
    "x-gitlab-instance",
    "x-gitlab-webhook-uuid",
    "x-gitea-delivery",
    "x-gitea-event",
    "x-gitea-event-type",
    "x-forgejo-delivery",
    "x-forgejo-event",
    "x-attempt-number",
    "x-event-key",
    "x-hook-uuid",
    "x-request-uuid",
)
_MAX_VALUE: Final = 500  # characters


def identify(headers: Mapping[str, str], body: bytes) -> WebhookEvent | None:
    """Whose delivery it is, None if no provider's. Nothing of this is proven yet."""
    for provider in _ALL:
        event = provider.identify(headers, body)
        if event is not None:
            return event
    return None


def verify(event: WebhookEvent, headers: Mapping[str, str], body: bytes, secret: str) -> bool:
    """Whether the sender knows `secret`, which is not empty. In constant time."""
    return _PROVIDERS[event.provider].verify(headers, body, secret)


def interpret(event: WebhookEvent, body: bytes) -> Push | Ignored | Pong:
    """What the delivery asks for.

    Raises RefusedError with status 400 where it is not what the provider sends; the text says which
    field.
    """
    return _PROVIDERS[event.provider].interpret(event, body)


def is_ping(event: WebhookEvent) -> bool:
    """Whether it only asks whether anybody is there."""
    return event.name in ("ping", "diagnostics:ping")


def stored_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """What the inbox keeps of them: what tells deliveries apart, and no secret."""
    return {name: headers[name][:_MAX_VALUE] for name in _STORED_HEADERS if name in headers}

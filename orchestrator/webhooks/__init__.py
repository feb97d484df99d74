"""Owns the rules of webhooks: whose delivery it is, whether it is genuine, and what it asks for.

Pure: headers and bytes in, a verdict out. The names of headers are in lower case. The bytes are
verified as they came, and parsed only then.
"""

from collections.abc import Mapping
from typing import Final, Protocol

from orchestrator.webhooks import bitbucket, gitea, github, gitlab
from orchestrator.webhooks.push import Ignored, Incoming, Pong, Push, has_no_id, on_branch, why_not

__all__ = [
    "Ignored",
    "Incoming",
    "Pong",
    "Push",
    "has_no_id",
    "interpret",
    "kept_headers",
    "on_branch",
    "recognise",
    "verify",
    "why_not",
]


class _Provider(Protocol):
    PROVIDER: str

    def recognise(self, headers: Mapping[str, str], body: bytes) -> Incoming | None: ...

    def verify(self, headers: Mapping[str, str], body: bytes, secret: str) -> bool: ...

    def interpret(self, about: Incoming, body: bytes) -> Push | Ignored | Pong: ...


# Gitea's headers come with GitHub's, so it is asked first.
_ALL: Final[tuple[_Provider, ...]] = (gitea, gitlab, bitbucket, github)
_PROVIDERS: Final = {each.PROVIDER: each for each in _ALL}

# Named one by one: a header that nobody thought of may be a secret.
_KEPT: Final = (
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


def recognise(headers: Mapping[str, str], body: bytes) -> Incoming | None:
    """Whose delivery it is, None if no provider's. Nothing of this is proven yet."""
    for provider in _ALL:
        incoming = provider.recognise(headers, body)
        if incoming is not None:
            return incoming
    return None


def verify(incoming: Incoming, headers: Mapping[str, str], body: bytes, secret: str) -> bool:
    """Whether the sender knows `secret`, which is not empty. In constant time."""
    return _PROVIDERS[incoming.provider].verify(headers, body, secret)


def interpret(incoming: Incoming, body: bytes) -> Push | Ignored | Pong:
    """What the delivery asks for.

    Raises RefusedError with status 400 where it is not what the provider sends; the text says which
    field.
    """
    return _PROVIDERS[incoming.provider].interpret(incoming, body)


def kept_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """What the inbox keeps of them: what tells deliveries apart, and no secret."""
    return {name: headers[name][:_MAX_VALUE] for name in _KEPT if name in headers}

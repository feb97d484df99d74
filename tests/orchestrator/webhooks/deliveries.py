"""Owns the payloads that tests send, and how each provider signs and heads them.

GitHub's are the published examples of octokit/webhooks (MIT licence); the other ones have the
fields, and the shapes, of the providers' documentation.
"""

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

PAYLOADS = Path(__file__).parent.parent / "payloads"

SECRET = "correct horse battery staple"


def body_of(name: str) -> bytes:
    """A payload as it is sent; `name` is such as github/push-new-branch."""
    return (PAYLOADS / f"{name}.json").read_bytes()


def fields_of(name: str) -> dict[str, Any]:
    """A payload to change something in."""
    fields: dict[str, Any] = json.loads(body_of(name))
    return fields


def hmac_of(body: bytes, secret: str = SECRET, algorithm: str = "sha256") -> str:
    """The hex HMAC."""
    return hmac.new(secret.encode(), body, getattr(hashlib, algorithm)).hexdigest()


def github(body: bytes, event: str = "push", secret: str = SECRET) -> dict[str, str]:
    """The headers of GitHub's, in lower case."""
    return {
        "content-type": "application/json",
        "user-agent": "GitHub-Hookshot/044aadd",
        "x-github-delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "x-github-event": event,
        "x-github-hook-id": "292430182",
        "x-hub-signature": f"sha1={hmac_of(body, secret, 'sha1')}",
        "x-hub-signature-256": f"sha256={hmac_of(body, secret)}",
    }


def gitlab(body: bytes, event: str = "Push Hook", secret: str = SECRET) -> dict[str, str]:
    """The headers of GitLab's."""
    return {
        "content-type": "application/json",
        "user-agent": "GitLab/17.4.0-pre",
        "idempotency-key": "f5e5f430-f57b-4e6e-9fac-d9128cd7232f",
        "x-gitlab-event": event,
        "x-gitlab-event-uuid": "13792a34-cac6-4fda-95a8-c58e00a3954e",
        "x-gitlab-instance": "https://gitlab.example.com",
        "x-gitlab-token": secret,
        "x-gitlab-webhook-uuid": "4f4f4f4f-cac6-4fda-95a8-c58e00a3954e",
    }


def gitea(body: bytes, event: str = "push", secret: str = SECRET) -> dict[str, str]:
    """The headers of Gitea's, which has those of others beside its own."""
    delivery = "f6266f16-1bf3-46a5-9ea4-602e06ead473"
    return {
        "content-type": "application/json",
        "x-gitea-delivery": delivery,
        "x-gitea-event": event,
        "x-gitea-event-type": event,
        "x-gitea-signature": hmac_of(body, secret),
        "x-github-delivery": "of-github",
        "x-github-event": event,
        "x-gogs-delivery": delivery,
        "x-gogs-event": event,
        "x-gogs-signature": hmac_of(body, secret),
        "x-hub-signature": f"sha1={hmac_of(body, secret, 'sha1')}",
        "x-hub-signature-256": f"sha256={hmac_of(body, secret)}",
    }


def bitbucket(body: bytes, event: str = "repo:push", secret: str = SECRET) -> dict[str, str]:
    """The headers of Bitbucket's."""
    return {
        "content-type": "application/json",
        "user-agent": "Bitbucket-Webhooks/2.0",
        "x-attempt-number": "1",
        "x-event-key": event,
        "x-hook-uuid": "908a6d9e-45fd-46c8-97e6-c4f350f219dd",
        "x-hub-signature": f"sha256={hmac_of(body, secret)}",
        "x-request-uuid": "07606ab4-601c-4ca4-8c93-b979d3c7b3a1",
    }


HEADS = {"github": github, "gitlab": gitlab, "gitea": gitea, "bitbucket": bitbucket}
PUSHES = {
    "github": "github/push-new-branch",
    "gitlab": "gitlab/push",
    "gitea": "gitea/push",
    "bitbucket": "bitbucket/push",
}
# The header that proves a delivery.
PROOFS = {
    "github": "x-hub-signature-256",
    "gitlab": "x-gitlab-token",
    "gitea": "x-gitea-signature",
    "bitbucket": "x-hub-signature",
}

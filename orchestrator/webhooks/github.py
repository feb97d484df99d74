"""Owns how GitHub signs and tells a push, and how Gitea does, which took over its payload. Pure.

https://docs.github.com/webhooks/webhook-events-and-payloads
"""

from collections.abc import Mapping

from orchestrator.webhooks.push import (
    Ignored,
    Payload,
    Pong,
    Push,
    WebhookEvent,
    make_push,
    parse,
    signature_matches,
    webhook_event,
)

PROVIDER = "github"


def identify(headers: Mapping[str, str], body: bytes) -> WebhookEvent | None:
    """What GitHub says in its headers; None if it did not send them."""
    event = headers.get("x-github-event")
    if event is None:
        return None
    given = headers.get("x-github-delivery", "")
    return webhook_event(PROVIDER, event, body, given)


def verify(headers: Mapping[str, str], body: bytes, secret: str) -> bool:
    """Whether it is signed; by SHA-256, for the signature by SHA-1 beside it is not looked at."""
    return signature_matches(body, secret, headers.get("x-hub-signature-256", ""), "sha256=")


def interpret(event: WebhookEvent, body: bytes) -> Push | Ignored | Pong:
    """What the delivery is about."""
    if event.name == "ping":
        return Pong()
    if event.name != "push":
        return Ignored(f"event {event.name} is not a push")
    return push_of(parse(body))


def push_of(payload: Payload) -> Push | Ignored:
    """The push of a payload of GitHub's kind.

    Of the repository, `name` and `clone_url` suffice, as people write it by hand.
    """
    repository = payload.part("repository")
    head = payload.part("head_commit")
    after = payload.text("after")
    return make_push(
        full_name=repository.text_or_empty("full_name"),
        name=repository.text("name"),
        clone_url=repository.text("clone_url"),
        default_branch=repository.text_or_empty("default_branch"),
        ref=payload.text("ref"),
        before=payload.text_or_empty("before"),
        after=after,
        deleted=payload.flag("deleted"),
        # A branch that is made at, or put back to, an old commit comes without commits, too; but
        # then its head is told.
        empty=payload.has("commits")
        and not payload.parts("commits")
        and not payload.has("head_commit"),
        message=head.text_or_empty("message") or message_of(payload, after),
    )


def message_of(payload: Payload, commit: str) -> str:
    """The message of one of the commits that are listed; "" if it is not among them."""
    for each in payload.parts("commits"):
        if each.text_or_empty("id") == commit:
            return each.text_or_empty("message")
    return ""

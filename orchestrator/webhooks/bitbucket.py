"""Owns how Bitbucket Cloud signs and tells a push. Pure.

https://support.atlassian.com/bitbucket-cloud/docs/event-payloads/
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from orchestrator.webhooks.push import (
    Ignored,
    Payload,
    Push,
    WebhookEvent,
    make_push,
    parse,
    signature_matches,
    webhook_event,
)

PROVIDER = "bitbucket"

_FULL_NAME: Final = re.compile(r"[A-Za-z0-9_.-]+/[A-Za-z0-9_.-]+")
# Branches and tags that one push may move. All of them are looked at, and kept while it is decided.
MAX_CHANGES: Final = 1000
_ZERO_COMMIT: Final = "0" * 40


def identify(headers: Mapping[str, str], body: bytes) -> WebhookEvent | None:
    """What Bitbucket says in its headers; None if it did not send them."""
    event = headers.get("x-event-key")
    if event is None:
        return None
    given = headers.get("x-request-uuid", "")
    return webhook_event(PROVIDER, event, body, given)


def verify(headers: Mapping[str, str], body: bytes, secret: str) -> bool:
    """Whether it is signed, by SHA-256 in the header that means SHA-1 elsewhere."""
    return signature_matches(body, secret, headers.get("x-hub-signature", ""), "sha256=")


def interpret(event: WebhookEvent, body: bytes) -> Push | Ignored:
    """What the delivery is about.

    One delivery tells all branches and tags that moved. The last branch that is still there counts;
    the other ones are in `other_refs`.
    """
    if event.name != "repo:push":
        return Ignored(f"event {event.name} is not a push")
    payload = parse(body)
    repository = payload.part("repository")
    full_name = repository.text("full_name")
    if not _FULL_NAME.fullmatch(full_name):
        raise repository.refuse("full_name", "must be OWNER/NAME")
    changes = payload.part("push").parts("changes")
    if len(changes) > MAX_CHANGES:
        raise payload.part("push").refuse("changes", f"more than {MAX_CHANGES} branches and tags")
    found = [_change(full_name, change) for change in changes]
    pushes = [each for each in found if isinstance(each, Push)]
    if not pushes:
        return found[-1] if found else Ignored("the push changed no branch and no tag")
    last = max(enumerate(pushes), key=lambda each: (_precedence(each[1]), each[0]))[0]
    return replace(pushes[last], other_refs=tuple(pushes[:last] + pushes[last + 1 :]))


def _precedence(push: Push) -> int:
    if push.tag:
        return 0
    return 1 if push.deleted else 2


def _change(full_name: str, change: Payload) -> Push | Ignored:
    new, old = change.part("new"), change.part("old")
    deleted = not change.has("new")
    named = old if deleted else new
    kind = named.text("type")
    folder = {"branch": "refs/heads/", "tag": "refs/tags/"}.get(kind)
    if folder is None:
        return Ignored(f"a {kind} is neither a branch nor a tag")
    target = new.part("target")
    return make_push(
        full_name=full_name,
        name=full_name.rpartition("/")[2],
        # No URL to clone from is told: it is made of the name.
        clone_url=f"https://bitbucket.org/{full_name}.git",
        default_branch="",
        ref=folder + named.text("name"),
        before=old.part("target").text_or_empty("hash"),
        after=_ZERO_COMMIT if deleted else target.text("hash"),
        deleted=deleted,
        empty=False,
        message=target.text_or_empty("message"),
    )

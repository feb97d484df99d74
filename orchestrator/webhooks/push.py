"""Owns what a webhook can tell, whoever sent it, and how its JSON is read field by field. Pure."""

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs

import orjson

from edge.errors import quote
from orchestrator.errors import RefusedError
from orchestrator.security import validation

# A delivery's id is a key of the inbox; providers send 36 characters.
MAX_DELIVERY_ID: Final = 200
MAX_EVENT: Final = 100  # characters of an event's name
# What a head commit's message may say to be left alone, in any case of letters.
SKIP_MARKERS: Final = ("[skip ci]", "[skip deploy]")

_NOT_IN_EVENT: Final = re.compile(r"[^ -~]")
_FORM: Final = b"payload="
_MAX_FORM_FIELDS: Final = 10


@dataclass(frozen=True, slots=True)
class WebhookEvent:
    """What the headers say: who sends, what kind of event, and which delivery of all it is."""

    provider: str  # "github", "gitlab", "gitea" or "bitbucket"
    name: str
    delivery_id: str


@dataclass(frozen=True, slots=True)
class Push:
    """One branch or tag that moved. Its names are checked, its clone URL is not."""

    repository: str  # "owner/name"; the clone URL where the payload says none
    name: str  # of the repository, which the app is named after
    clone_url: str  # without credentials
    credentials: str  # "user:password" or ""
    default_branch: str  # "": the provider does not say
    branch: str  # "": a tag
    tag: str
    commit: str  # "": it was deleted
    deleted: bool
    empty: bool  # nothing came with it that was not there before
    message: str  # of the head commit; "" where the payload has none
    other_refs: tuple["Push", ...] = ()  # more branches that moved in the same push (Bitbucket)


@dataclass(frozen=True, slots=True)
class Ignored:
    """An event that asks for nothing."""

    reason: str


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a ping, which a provider sends when a webhook is set up."""


def select_branch(push: Push, branch: str) -> Push:
    """Of all that moved in one push, what moved on `branch`; `push` itself if nothing did."""
    return next(
        (each for each in (push, *push.other_refs) if branch and each.branch == branch), push
    )


def skip_reason(push: Push, branch: str) -> str | None:
    """Why a push to an app that deploys from `branch` ("": any) deploys nothing; None if it does.

    A text for the inbox.
    """
    if push.tag:
        return (
            f"tag {push.tag} was {'deleted' if push.deleted else 'pushed'}: tags are not deployed"
        )
    if push.deleted:
        return f"branch {push.branch} was deleted"
    if push.empty:
        return f"the push to {push.branch} has no new commits"
    if branch and push.branch != branch:
        return f"push to {push.branch}, but the app deploys from {branch}"
    message = push.message.lower()
    mark = next((mark for mark in SKIP_MARKERS if mark in message), None)
    return f"commit message contains {mark}" if mark else None


_DIGEST: Final = "sha256:"


def webhook_event(provider: str, event: str, body: bytes, *ids: str) -> WebhookEvent:
    """What the headers say, fit for the inbox and for logs.

    The delivery's id is the first of `ids` that can be one, else a digest of what came: without an
    id of its own, a delivery is known by its content, and the same one again is a repeat.
    """
    event = _NOT_IN_EVENT.sub("?", event[:MAX_EVENT])
    for text in ids:
        if text and len(text) <= MAX_DELIVERY_ID and text.isascii() and text.isprintable():
            return WebhookEvent(provider, event, text)
    digest = hashlib.sha256(b"\0".join((provider.encode(), event.encode(), body)))
    return WebhookEvent(provider, event, f"{_DIGEST}{digest.hexdigest()}")


def lacks_delivery_id(event: WebhookEvent) -> bool:
    """Whether the sender gave no id that can be one."""
    return event.delivery_id.startswith(_DIGEST)


def signature_matches(body: bytes, secret: str, signature: str, prefix: str = "") -> bool:
    """Whether `signature` is `prefix` and the hex HMAC-SHA256 of the bytes as they came.

    Takes the same time whatever is wrong with it.
    """
    expected = prefix + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), header_bytes(signature))


def header_bytes(value: str) -> bytes:
    """The bytes of a header as they came; servers decode them as ISO 8859-1 (RFC 9110 5.5)."""
    return value.encode("latin-1", "backslashreplace")


def parse(body: bytes) -> "Payload":
    """The JSON object of a body, to be read field by field. Raises RefusedError 400."""
    return Payload(load(body))


def load(body: bytes) -> dict[str, Any]:
    """The JSON object of a body, which may stand in the field `payload` of a form.

    Raises RefusedError 400.
    """
    if body.startswith(_FORM):
        try:
            fields = parse_qs(body.decode("ascii"), max_num_fields=_MAX_FORM_FIELDS)
            body = fields["payload"][0].encode()
        except (ValueError, KeyError):
            raise RefusedError("form field payload is missing or invalid", 400) from None
    try:
        found = orjson.loads(body)
    except ValueError as error:
        raise RefusedError(f"invalid JSON in the request body: {error}", 400) from None
    if not isinstance(found, dict):
        raise RefusedError("the request body must be a JSON object", 400)
    return found


class Payload:
    """A JSON object that says the path of a field which is not what it must be.

    Everything raises RefusedError with status 400. A field that is null is as one that is absent.
    """

    def __init__(self, fields: Mapping[str, Any], path: str = "") -> None:
        self._fields = fields
        self._path = path

    def text(self, name: str) -> str:
        """A text that must be there."""
        found = self.text_or_empty(name)
        if not found:
            raise RefusedError(f"payload field {self._path}{name} is missing", 400)
        return found

    def text_or_empty(self, name: str) -> str:
        """A text that may be absent."""
        found = self._fields.get(name)
        if found is None:
            return ""
        if not isinstance(found, str):
            raise RefusedError(f"payload field {self._path}{name} must be a string", 400)
        return found

    def flag(self, name: str) -> bool:
        """Whether a field is true; false if absent."""
        found = self._fields.get(name)
        if found is not None and not isinstance(found, bool):
            raise RefusedError(f"payload field {self._path}{name} must be true or false", 400)
        return bool(found)

    def has(self, name: str) -> bool:
        """Whether a field is there and not null."""
        return self._fields.get(name) is not None

    def part(self, name: str) -> "Payload":
        """An object in this one, empty if absent."""
        found = self._fields.get(name)
        if found is not None and not isinstance(found, dict):
            raise RefusedError(f"payload field {self._path}{name} must be an object", 400)
        return Payload(found or {}, f"{self._path}{name}.")

    def parts(self, name: str) -> list["Payload"]:
        """A list of objects, empty if absent."""
        found = self._fields.get(name)
        if found is None:
            return []
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            raise RefusedError(f"payload field {self._path}{name} must be a list of objects", 400)
        return [Payload(each, f"{self._path}{name}[{at}].") for at, each in enumerate(found)]

    def refuse(self, name: str, reason: str) -> RefusedError:
        """The error that a field has a value which cannot be used."""
        return RefusedError(f"payload field {self._path}{name}: {reason}", 400)


def make_push(
    *,
    full_name: str,
    name: str,
    clone_url: str,
    default_branch: str,
    ref: str,
    before: str,
    after: str,
    deleted: bool,
    empty: bool,
    message: str,
) -> Push | Ignored:
    """One moved reference out of the texts of a payload, checked.

    `before` and `after` are commits, all zeros where there was or is none.
    """
    branch, tag = validation.branch_of(ref), validation.tag_of(ref)
    if branch is None and tag is None:
        return Ignored(f"{quote(ref)} is neither a branch nor a tag")
    deleted = deleted or _is_zero(after)
    try:
        validation.check_branch(branch if branch is not None else tag or "")
        if default_branch:
            validation.check_branch(default_branch)
        commit = "" if deleted else validation.check_commit(after)
        bare, credentials = validation.split_credentials(clone_url)
    except RefusedError as error:
        raise RefusedError(f"invalid payload: {error}", 400) from None
    return Push(
        repository=full_name or bare,
        name=name,
        clone_url=bare,
        credentials=credentials,
        default_branch=default_branch,
        branch=branch or "",
        tag=tag or "",
        commit=commit,
        deleted=deleted,
        empty=not deleted and (empty or before == after),
        message=message,
    )


def _is_zero(commit: str) -> bool:
    return bool(commit) and not commit.strip("0")

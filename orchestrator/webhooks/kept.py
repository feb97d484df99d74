"""Owns what is kept of a delivery: all that it takes to decide it again, and no secret. Pure."""

import re
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Final
from urllib.parse import parse_qsl, urlencode

import orjson

from orchestrator.errors import RefusedError
from orchestrator.security.redact import MASK
from orchestrator.webhooks.push import Ignored, Pong, Push, load

Interpret = Callable[[bytes], Push | Ignored | Pong]

# In JSON as orjson writes it, where nothing is escaped but what must be. What an ssh URL has there
# is a name, and a secret only behind a colon.
_USERINFO: Final = re.compile(
    r"(?i)(?<=(?<!ssh)://)(?:\\.|[^/\"\\])+@|(?<=ssh://)[^/\":@]*:(?:\\.|[^/\"\\])*@"
)


def credentials_of(body: bytes, interpret: Interpret) -> str:
    """The "user:password" of the clone URL of a push; "" if there is none."""
    found = _interpreted(body, interpret)
    return found.credentials if isinstance(found, Push) else ""


def kept_body(body: bytes, interpret: Interpret, redact: Callable[[str], str]) -> bytes:
    """The body as JSON without the user information of URLs, and without what `redact` finds.

    A secret that is also part of a name that the push is about, such as "test", is left there: the
    same name stands in the deploy. Raises RefusedError for what is no JSON; nothing of it is to be
    kept, since nobody can tell where in it a secret is.
    """
    try:
        text = orjson.dumps(load(body)).decode()
    except orjson.JSONEncodeError:
        raise RefusedError("invalid JSON in the request body: nested too deeply", 400) from None
    found = _interpreted(body, interpret)
    if isinstance(found, Push) and _has_slash_in_userinfo(found.clone_url):
        text = text.replace(orjson.dumps(found.clone_url).decode(), f'"https://{MASK}"')
    masked = _USERINFO.sub(f"{MASK}@", text)
    redacted = redact(masked)
    is_same = _essence(redacted.encode(), interpret) == _essence(body, interpret)
    return (redacted if is_same else masked).encode()


def kept_query(query: str, known: Collection[str]) -> str:
    """The query with the values of the `known` parameters alone."""
    pairs = parse_qsl(query, keep_blank_values=True)
    return urlencode([(name, value if name in known else "") for name, value in pairs])


def _has_slash_in_userinfo(clone_url: str) -> bool:
    """Whether a password was taken for a path: such a URL is refused only after it is kept."""
    authority = clone_url.partition("://")[2].partition("/")[0]
    port = authority.rpartition(":")[2]
    return "@" in clone_url and ":" in authority and not port.isdecimal()


def _interpreted(body: bytes, interpret: Interpret) -> Push | Ignored | Pong | None:
    try:
        return interpret(body)
    except RefusedError:
        return None


def _essence(body: bytes, interpret: Interpret) -> object:
    found = _interpreted(body, interpret)
    if not isinstance(found, Push):
        return type(found)
    moved = (found, *found.other_refs)
    return [replace(each, credentials="", message="", other_refs=()) for each in moved]

"""Owns the answer to "which route does this URL take, and why not another one?". Pure."""

import re
from typing import Final, NamedTuple

from edge.errors import HttpError, RouteError, quote
from edge.hosts import normalize_host
from edge.routing.table import Candidate, Normalized, RouteTable

_URL: Final = re.compile(r"(?:(?:https?|wss?)://)?([^/?#]+)([^#]*)(?:#.*)?", re.IGNORECASE)
_PORT: Final = re.compile(r":[0-9]*$")


class Explanation(NamedTuple):
    """The route that is taken, if any, and those that come close, each with the reason.

    `target` is the request target that the route's target gets, `refused` why the edge answers 400
    instead; each is empty if there is none.
    """

    version: int
    chosen: Candidate | None
    others: tuple[Candidate, ...]
    target: bytes
    refused: str


def explain(table: RouteTable, host: str, target: bytes) -> Explanation:
    """Look up what `parse_url` made of a URL."""
    try:
        found = table.match(host, target)
        candidates = table.candidates(host, target)
        if isinstance(found, Normalized):
            found, target = found
        forwarded = found.upstream_target(target) if found is not None else b""
    except HttpError as error:
        return Explanation(table.version, None, (), b"", str(error))
    chosen = next((each for each in candidates if each.chosen), None)
    others = tuple(each for each in candidates if not each.chosen)
    return Explanation(table.version, chosen, others, forwarded, "")


def parse_url(url: str) -> tuple[str, bytes]:
    """The host and the target in origin form that a client would send for a URL.

    Raises RouteError for a text that is none.
    """
    found = _URL.fullmatch(url)
    if found is None or (found[1].endswith(":") and found[2].startswith("//")):
        raise RouteError(f"{quote(url)} is not a URL such as http://app.test/path")
    host = normalize_host(_PORT.sub("", found[1]))
    path = found[2] if found[2].startswith("/") else f"/{found[2]}"
    return host, path.encode(errors="surrogateescape")

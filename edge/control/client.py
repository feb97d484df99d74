"""Owns how the edge that runs beside a database is asked: HTTP/1.1 on its control socket.

One request per connection: what is asked is rare, and what the edge closes is then whole. `request`
is for commands; who has an event loop moves the bytes of `encode` and `decode` himself.
"""

import re
import socket
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Any, Final

import orjson

from edge.errors import EdgeError

# Seconds that an answer may take beyond what was asked to be waited for.
REPLY_TIMEOUT: Final = 30.0
# Bytes of an answer, and characters of a refusal: whoever listens there must not fill our memory.
MAX_ANSWER: Final = 2**20
MAX_REFUSAL: Final = 4096

_HEAD: Final = re.compile(rb"HTTP/1\.1 (\d{3})[ \r].*?\r\n\r\n", re.DOTALL)
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d{1,15})", re.IGNORECASE)
_WAITS: Final = ("timeout", "tunnel_timeout")

_CHANGED: Final = {"version": int, "workers": int, "milliseconds": float}
_CUT: Final = {"finished": int, "cut": int, "tunnels_closed": int, "workers_lost": int}
# What is read of the answer to each request. Something else may listen there.
_FIELDS: Final[Mapping[str, Mapping[str, type | UnionType]]] = {
    "/workers": {"pid": int},
    "/explain": {"route": str | None, "targets": list, "requests": int},
    "/reload": _CHANGED,
    "/adopt": _CHANGED,
    "/drain": {"target": str, "seconds": float, **_CUT},
    "/undrain": {"target": str},
    "/upgrade": {"pid": int, "seconds": float},
}

Answer = dict[str, Any]


class EdgeTimeoutError(EdgeError):
    """The edge was asked, and has not answered in time; it may do what it was asked."""


class EdgeClosedError(EdgeError):
    """The edge was asked, and has closed the connection, for good; it may have done that."""


class ClosedError(Exception):
    """The connection was closed before the whole answer had come.

    An edge that has just handed over to another one does so: what changes nothing if it comes twice
    is asked again.
    """


def encode(method: str, resource: str, fields: Mapping[str, object] | None) -> bytes:
    """A request; `fields` go as a JSON object."""
    body = b"" if fields is None else orjson.dumps(fields)
    return (
        f"{method} {resource} HTTP/1.1\r\nHost: edge\r\nConnection: close\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def reply_timeout(fields: Mapping[str, object] | None) -> float:
    """Seconds that the answer to `fields` may take."""
    asked = fields or {}
    return REPLY_TIMEOUT + max(float(str(asked.get(name) or 0)) for name in _WAITS)


def decode(path: Path, resource: str, raw: bytes) -> Answer:
    """The answer in all that came from `path` until it closed; it has what `resource` answers.

    Raises EdgeError with the edge's own text where it refuses, and ClosedError.
    """
    if len(raw) > MAX_ANSWER:
        raise EdgeError(f"the edge at {path} does not end its answer")
    head = _HEAD.match(raw)
    if head is None and b"HTTP/1.1".startswith(raw[:8]):
        raise ClosedError
    body = raw[head.end() :] if head else b""
    length = _LENGTH.search(head[0]) if head else None
    if length and len(body) < int(length[1]):
        raise ClosedError
    try:
        answer = orjson.loads(body)
    except ValueError:
        answer = None
    if head is None or not isinstance(answer, dict):
        raise EdgeError(f"{path} is not the control socket of an edge")
    if int(head[1]) >= 400:
        raise EdgeError(str(answer.get("error", answer))[:MAX_REFUSAL])
    for name, kind in _FIELDS.get(resource.partition("?")[0], {}).items():
        if not _is_a(answer.get(name), kind):
            raise EdgeError(
                f"{path} is not the control socket of an edge: its answer to {resource} has no"
                f" valid {name}"
            )
    return answer


def _is_a(value: object, kind: type | UnionType) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int | float if kind is float else kind)


def closed(path: Path) -> EdgeError:
    """What ClosedError is, where it is not asked again."""
    return EdgeClosedError(f"the edge at {path} closed the connection")


def failed(path: Path, error: OSError) -> EdgeError:
    """What a connection that cannot be made, or does not answer in time, is."""
    if isinstance(error, TimeoutError):
        return EdgeTimeoutError(f"the edge at {path} did not respond in time")
    return EdgeError(f"cannot connect to the edge at {path}: {error.strerror or error}")


def request(
    path: Path, method: str, resource: str, fields: Mapping[str, object] | None = None
) -> Answer | None:
    """What the edge at the socket `path` answers; None if no edge is there. Raises EdgeError.

    The `timeout` and `tunnel_timeout` in `fields`, in seconds, are waited for.
    """
    try:
        return _request(path, method, resource, fields)
    except ClosedError:
        if resource == "/upgrade":  # the one that changes something if it comes twice
            raise closed(path) from None
    try:
        return _request(path, method, resource, fields)
    except ClosedError:
        raise closed(path) from None


def _request(
    path: Path, method: str, resource: str, fields: Mapping[str, object] | None
) -> Answer | None:
    raw = b""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(reply_timeout(fields))
        try:
            connection.connect(str(path))
            connection.sendall(encode(method, resource, fields))
            while len(raw) <= MAX_ANSWER and (received := connection.recv(65536)):
                raw += received
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except ConnectionError:
            raise ClosedError from None
        except OSError as error:
            raise failed(path, error) from None
    return decode(path, resource, raw)

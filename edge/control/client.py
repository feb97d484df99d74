"""Owns how a command talks to the edge that runs beside a database: HTTP on the control socket."""

import contextlib
import http.client
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from edge.errors import EdgeError

# Seconds that an answer may take beyond what was asked to be waited for.
PATIENCE: Final = 30.0


class _UnixConnection(http.client.HTTPConnection):
    """HTTP to a Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def request(
    path: Path, method: str, resource: str, fields: Mapping[str, object] | None = None
) -> dict[str, Any] | None:
    """What the edge at the socket `path` answers; None if no edge is there. Raises EdgeError.

    `fields` go as a JSON object; their `timeout`, in seconds, is waited for.
    """
    try:
        return _request(path, method, resource, fields)
    except ConnectionError as error:
        # It was closed without an answer, as by an edge that has just handed over to another one.
        # What changes nothing if it comes twice is asked again.
        if resource == "/upgrade":
            raise _broken_off(path, error) from None
    try:
        return _request(path, method, resource, fields)
    except ConnectionError as error:
        raise _broken_off(path, error) from None


def _broken_off(path: Path, error: Exception) -> EdgeError:
    return EdgeError(f"the edge at {path} broke off: {error!r}")


def _request(
    path: Path, method: str, resource: str, fields: Mapping[str, object] | None
) -> dict[str, Any] | None:
    wait = max((float(str((fields or {}).get(name) or 0)) for name in _WAITS), default=0.0)
    with contextlib.closing(_UnixConnection(path, PATIENCE + wait)) as connection:
        try:
            connection.connect()
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except OSError as error:
            reason = error.strerror or error
            raise EdgeError(f"cannot reach the edge at {path}: {reason}") from None
        try:
            body = None if fields is None else orjson.dumps(fields)
            connection.request(method, resource, body)
            response = connection.getresponse()
            answer = orjson.loads(response.read())
        except ConnectionError:
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise _broken_off(path, error) from None
    if response.status >= 400:
        raise EdgeError(str(answer.get("error", answer)))
    found: dict[str, Any] = answer
    return found


_WAITS: Final = ("timeout", "tunnel_timeout")

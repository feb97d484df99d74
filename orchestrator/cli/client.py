"""Owns how a command talks to the orchestrator: HTTP and WebSockets on its Unix socket, or on the
address of one elsewhere.

To one elsewhere a command shows its token. On this machine it needs none, but looks who listens on
the socket before it says anything.
"""

import contextlib
import http.client
import os
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import orjson
from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

from edge.peer import ROOT, peer_of
from edge.settings.syntax import Address
from orchestrator.errors import OrchestratorError
from orchestrator.settings import Settings

# Seconds that an answer may take.
PATIENCE: Final = 30.0
# Bytes of one message.
LARGEST_MESSAGE: Final = 2**20


class ApiError(OrchestratorError):
    """The orchestrator is not there, or refuses; the text says what to do."""


class ApiClient:
    """The API of the orchestrator that `settings` describe; `is_named`: the address was typed.

    An address of this machine that was not typed is where its orchestrator listens for others.
    """

    def __init__(self, settings: Settings, *, is_named: bool) -> None:
        self._settings = settings
        self._address: Address | None = None
        if is_named or _is_elsewhere(settings.addr.host):
            self._address = Address(settings.addr.host or "127.0.0.1", settings.addr.port)
        self._place = "orchestrator" if self._address is None else str(self._address)

    def ask(
        self,
        method: str,
        path: str,
        fields: dict[str, object] | None = None,
        query: dict[str, str | int] | None = None,
    ) -> Any:
        """The JSON of the answer, or its text. Raises ApiError."""
        body = None if fields is None else orjson.dumps(fields)
        headers = {} if body is None else {"Content-Type": "application/json"}
        if self._address is not None:
            headers |= self._authorization()
        connection = http.client.HTTPConnection(self._place, timeout=PATIENCE)
        with contextlib.closing(connection):
            connection.sock = self._connect()
            try:
                resource = f"{path}?{urlencode(query)}" if query else path
                connection.request(method, resource, body, headers)
                response = connection.getresponse()
                content = response.read()
            except (OSError, http.client.HTTPException) as error:
                reason = str(error) or type(error).__name__
                raise ApiError(
                    f"the orchestrator at {self._where} did not answer: {reason}"
                ) from None
        if response.status >= 400:
            raise self._refusal(response.status, content)
        if "json" not in response.headers.get("Content-Type", ""):
            return content.decode("utf-8", "replace")
        try:
            return orjson.loads(content)
        except ValueError:
            raise ApiError(f"{self._where} is not a Fairlead orchestrator") from None

    @contextlib.contextmanager
    def follow_deploy(self, deploy: int) -> Iterator[ClientConnection]:
        """The log of a deploy as it grows. Raises ApiError."""
        with self._websocket(f"/api/ws/deploys/{deploy}/log") as websocket:
            yield websocket

    @contextlib.contextmanager
    def follow_container(self, container: str) -> Iterator[ClientConnection]:
        """The log of a container as it grows, from FAIRLEAD_LOG_WS_URL, if that is elsewhere.

        Raises ApiError.
        """
        query = urlencode({"container": container})
        url = self._settings.log_ws_url
        parts = urlsplit(url)
        if not _is_elsewhere(parts.hostname or ""):
            with self._websocket(f"/api/ws/logs?{query}") as websocket:
                yield websocket
            return
        place = f"{parts.scheme}://{parts.netloc}"
        try:
            with _opened(
                f"{url}{'&' if parts.query else '?'}{query}",
                place,
                self._authorization(),
            ) as websocket:
                yield websocket
        except InvalidStatus as error:
            raise self._refusal_of(error) from None
        except OSError:
            raise _missing(place, "FAIRLEAD_LOG_WS_URL") from None

    @contextlib.contextmanager
    def _websocket(self, resource: str) -> Iterator[ClientConnection]:
        headers = {} if self._address is None else self._authorization()
        sock = self._connect()
        try:
            with _opened(f"ws://{self._place}{resource}", self._where, headers, sock) as websocket:
                yield websocket
        except InvalidStatus as error:
            raise self._refusal_of(error) from None
        finally:
            sock.close()

    @property
    def _where(self) -> str:
        return str(self._settings.api_path if self._address is None else f"http://{self._place}")

    def _connect(self) -> socket.socket:
        """A connection. Raises ApiError."""
        if self._address is not None:
            try:
                return socket.create_connection(self._address, PATIENCE)
            except OSError:
                raise _missing(self._where, "--addr or FAIRLEAD_ADDR") from None
        path = self._settings.api_path
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(PATIENCE)
            sock.connect(str(path))
            uid = peer_of(sock).uid
            if uid not in (ROOT, os.geteuid(), path.absolute().parent.stat().st_uid):
                raise ApiError(
                    f"{path} is served by user {uid}, who is neither you, nor root, nor the owner"
                    " of its folder: nothing was sent"
                )
        except PermissionError:
            sock.close()
            raise ApiError(
                f"you may not use {path}: run the command as its owner, as root or as a member of"
                " the group fairlead, or use --addr and FAIRLEAD_API_TOKEN"
            ) from None
        except OSError:
            sock.close()
            raise _missing(
                str(path), "--db, FAIRLEAD_STATE_DB or FAIRLEAD_API_SOCKET, or --addr"
            ) from None
        except ApiError:
            sock.close()
            raise
        return sock

    def _authorization(self) -> dict[str, str]:
        token = self._settings.api_token
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _refusal_of(self, error: InvalidStatus) -> ApiError:
        return self._refusal(error.response.status_code, bytes(error.response.body or b""))

    def _refusal(self, status: int, body: bytes) -> ApiError:
        try:
            reason = str(orjson.loads(body)["error"])
        except (ValueError, KeyError, TypeError):
            reason = f"the orchestrator answered with status {status}"
        if status == 401:
            reason += " (set FAIRLEAD_API_TOKEN)"
        return ApiError(reason)


@contextlib.contextmanager
def _opened(
    url: str, place: str, headers: dict[str, str], sock: socket.socket | None = None
) -> Iterator[ClientConnection]:
    """Raises ApiError, InvalidStatus where it is refused, OSError where nobody listens."""
    try:
        websocket = connect(
            url,
            sock=sock,
            additional_headers=headers,
            open_timeout=PATIENCE,
            max_size=LARGEST_MESSAGE,
            proxy=None,
        )
    except InvalidStatus:
        raise
    except (InvalidHandshake, WebSocketException) as error:
        raise ApiError(f"{place} does not speak WebSocket: {error}") from None
    with websocket:
        yield websocket


def _is_elsewhere(host: str) -> bool:
    """Whether it is one of another machine, as far as it tells."""
    if host in ("", "localhost"):
        return False
    try:
        ip = ip_address(host)
    except ValueError:
        return True
    return not ip.is_loopback and not ip.is_unspecified


def _missing(place: str, setting: str) -> ApiError:
    return ApiError(
        f"no orchestrator at {place}: start one with `fairlead up`, or set its place with {setting}"
    )

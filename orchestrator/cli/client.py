"""Owns how a command talks to the orchestrator: HTTP and WebSockets on its address."""

import contextlib
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import httpx
import orjson
from websockets.exceptions import InvalidHandshake, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection, connect

from orchestrator.errors import OrchestratorError
from orchestrator.settings import Settings

# Seconds that an answer may take.
PATIENCE: Final = 30.0
# Bytes of one message.
LARGEST_MESSAGE: Final = 2**20

_EVERYWHERE: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  no bind
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
# What says where it is, in the words of an error.
_ADDRESS_SETTING: Final = "--addr or FAIRLEAD_ADDR"


class ApiError(OrchestratorError):
    """The orchestrator is not there, or refuses; the text says what to do."""


class ApiClient:
    """The API of the orchestrator that `settings` describe."""

    def __init__(self, settings: Settings) -> None:
        host = _EVERYWHERE.get(settings.addr.host, settings.addr.host)
        place = f"[{host}]" if ":" in host else host
        self._place = f"{place}:{settings.addr.port}"
        self._settings = settings

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{self._place}"

    def ask(
        self,
        method: str,
        path: str,
        fields: dict[str, object] | None = None,
        query: dict[str, str | int] | None = None,
    ) -> Any:
        """The JSON of the answer, or its text. Raises ApiError."""
        headers = self._headers(urlsplit(self.url).hostname or "")
        try:
            # No proxy of the environment: the way to this machine leads past it.
            with httpx.Client(trust_env=False, timeout=PATIENCE, headers=headers) as client:
                response = client.request(method, self.url + path, json=fields, params=query)
        except httpx.ConnectError:
            raise self._missing(self.url, _ADDRESS_SETTING) from None
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise ApiError(f"the orchestrator at {self.url} did not answer: {reason}") from None
        content = response.content
        if response.is_error:
            raise self._refusal(response.status_code, content)
        if "json" not in response.headers.get("Content-Type", ""):
            return response.text
        try:
            return orjson.loads(content)
        except ValueError:
            raise ApiError(f"{self.url} is not a Fairlead orchestrator") from None

    @contextlib.contextmanager
    def follow_deploy(self, deploy: int) -> Iterator[ClientConnection]:
        """The log of a deploy as it grows. Raises ApiError."""
        url = f"ws://{self._place}/api/ws/deploys/{deploy}/log"
        with self._websocket(url, _ADDRESS_SETTING) as websocket:
            yield websocket

    @contextlib.contextmanager
    def follow_container(self, container: str) -> Iterator[ClientConnection]:
        """The log of a container as it grows, from FAIRLEAD_LOG_WS_URL, if set. Raises ApiError."""
        url, setting = self._settings.log_ws_url, "FAIRLEAD_LOG_WS_URL"
        if not url:
            url, setting = f"ws://{self._place}/api/ws/logs", _ADDRESS_SETTING
        separator = "&" if urlsplit(url).query else "?"
        query = urlencode({"container": container})
        with self._websocket(f"{url}{separator}{query}", setting) as websocket:
            yield websocket

    @contextlib.contextmanager
    def _websocket(self, url: str, setting: str) -> Iterator[ClientConnection]:
        parts = urlsplit(url)
        place = f"{parts.scheme}://{parts.netloc}"
        try:
            websocket = connect(
                url,
                additional_headers=self._headers(parts.hostname or ""),
                open_timeout=PATIENCE,
                max_size=LARGEST_MESSAGE,
                proxy=None,
            )
        except InvalidStatus as error:
            body = bytes(error.response.body or b"")
            raise self._refusal(error.response.status_code, body) from None
        except (InvalidHandshake, WebSocketException) as error:
            raise ApiError(f"{place} does not speak WebSocket: {error}") from None
        except OSError:
            raise self._missing(place, setting) from None
        with websocket:
            yield websocket

    def _headers(self, host: str) -> dict[str, str]:
        token = self._settings.api_token
        # The one that this machine's orchestrator made for itself is not for others.
        if not token and host in _LOOPBACK:
            with contextlib.suppress(OSError, UnicodeDecodeError):
                token = self._settings.token_path.read_text().strip()
        return {"Authorization": f"Bearer {token}"} if token else {}

    def _missing(self, place: str, setting: str) -> ApiError:
        return ApiError(
            f"no orchestrator at {place}: start one with `fairlead up`, or set its address with"
            f" {setting}"
        )

    def _refusal(self, status: int, body: bytes) -> ApiError:
        try:
            reason = str(orjson.loads(body)["error"])
        except (ValueError, KeyError, TypeError):
            reason = f"the orchestrator answered with status {status}"
        if status == 401:
            reason += (
                f" (set FAIRLEAD_API_TOKEN, or --db as a user who can read"
                f" {self._settings.token_path})"
            )
        return ApiError(reason)

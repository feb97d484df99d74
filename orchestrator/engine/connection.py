"""Owns how the Docker Engine is reached, and the one place where its faults get our names.

Short calls go through docker-py, in threads of our own. The three that last (a build, a container's
output, events) go through httpx on the event loop instead: the engine ends a build when the
connection closes, and only there can a call be left at any moment, with no thread that hangs.
"""

import asyncio
import os
import socket
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import httpx
import orjson
import requests
from docker import APIClient
from docker.errors import APIError, DockerException
from docker.utils import version_lt
from urllib3.exceptions import HTTPError

from orchestrator.errors import EngineUnavailableError, OrchestratorError

T = TypeVar("T")

DEFAULT_HOST: Final = "unix:///var/run/docker.sock"
DEFAULT_PORT: Final = 2375  # of an engine over TCP
# Docker 20.10, of December 2020: the first with statistics at once, without a wait of a second.
MIN_API_VERSION: Final = "1.41"
# Calls at once. More wait for a thread.
MAX_CONCURRENT_CALLS: Final = 16
# Seconds that the engine may take for a short call.
CALL_TIMEOUT: Final = 60.0
CONNECT_TIMEOUT: Final = 10.0
# One message of the engine, in bytes: a build's output comes in pieces of far less.
MAX_MESSAGE_BYTES: Final = 1024 * 1024
# Seconds that the pieces of one read, thousands if they are small, may keep all others waiting.
TURN: Final = 0.01


class EngineConnection:
    """Everything that is sent to the engine at `host`. Nothing is, before the first call.

    Every method raises EngineUnavailableError where the engine cannot be reached.
    """

    def __init__(self, host: str | None = None) -> None:
        self.host = host or os.environ.get("DOCKER_HOST") or DEFAULT_HOST
        self._pool = ThreadPoolExecutor(MAX_CONCURRENT_CALLS, thread_name_prefix="engine")
        self._client_lock = threading.Lock()
        self._client: APIClient | None = None
        self._streams: httpx.AsyncClient | None = None

    def __repr__(self) -> str:
        return f"<EngineConnection {self.host}>"

    @property
    def socket(self) -> str:
        """The path of the engine's socket; empty if it is reached over TCP."""
        return self.host.removeprefix("unix://") if self.host.startswith("unix://") else ""

    async def close(self) -> None:
        """Wait for the calls under way, and close all connections."""
        await asyncio.to_thread(self._pool.shutdown, wait=True, cancel_futures=True)
        if self._streams is not None:
            await self._streams.aclose()
        if self._client is not None:
            self._client.close()

    async def call(self, function: Callable[[APIClient], T]) -> T:
        """What `function` returns, called in a thread. Raises APIError for the engine's refusals.

        What was begun has ended when the caller goes on, even one that is cancelled: nothing is
        made behind the back of whoever cleans up.
        """
        return await self.in_thread(lambda: self._call(function))

    async def in_thread(self, function: Callable[[], T]) -> T:
        """The same for what needs no engine."""
        future = asyncio.get_running_loop().run_in_executor(self._pool, function)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            if not future.cancelled():
                future.exception()  # it is nobody's any more
            raise

    def _call(self, function: Callable[[APIClient], T]) -> T:
        with self._mapped_errors():
            try:
                if self.socket:
                    # docker-py never closes a socket that it cannot connect: ours tries first.
                    self.check()
                with self._client_lock:
                    client = self._client or self._connect()
                    self._client = client
                return function(client)
            except APIError:
                raise
            except (EngineUnavailableError, requests.ConnectionError):
                # The engine that comes back may be another one, of another version.
                self._client = None
                raise

    def check(self) -> None:
        """Raise EngineUnavailableError unless a connection can be made; blocking (50 us)."""
        try:
            if self.socket:
                with socket.socket(socket.AF_UNIX) as sock:
                    sock.settimeout(CONNECT_TIMEOUT)
                    sock.connect(self.socket)
            else:
                found = urlsplit(self.host)
                address = (found.hostname or "", found.port or DEFAULT_PORT)
                socket.create_connection(address, CONNECT_TIMEOUT).close()
        except OSError as error:
            raise self._unavailable(error) from None

    def _connect(self) -> APIClient:
        self._check_host()
        client = APIClient(
            self.host, version="auto", timeout=int(CALL_TIMEOUT), max_pool_size=MAX_CONCURRENT_CALLS
        )
        if version_lt(client.api_version, MIN_API_VERSION):
            client.close()
            raise EngineUnavailableError(
                f"the Docker Engine at {self.host} is too old: its API version is"
                f" {client.api_version}, at least {MIN_API_VERSION} (Docker 20.10) is required"
            )
        return client

    def _check_host(self) -> None:
        if not self.host.startswith(("unix://", "tcp://", "http://")):
            raise EngineUnavailableError(
                f"unsupported DOCKER_HOST {self.host}: the Docker Engine must be on this machine,"
                " because apps are reached on 127.0.0.1. Use unix://PATH or tcp://HOST:PORT"
            )

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        params: Mapping[str, str | int],
        content: AsyncIterator[bytes] | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """An answer whose body is still to come; the end of the block ends the call.

        Raises OrchestratorError with the engine's reason where it refuses, with `status` of the
        answer.
        """
        version = await self.call(lambda client: client.api_version)
        with self._mapped_errors():
            if self._streams is None:
                self._streams = httpx.AsyncClient(
                    transport=httpx.AsyncHTTPTransport(
                        uds=self.socket or None, limits=httpx.Limits(max_keepalive_connections=0)
                    ),
                    base_url=f"http://{'engine' if self.socket else self.host.partition('//')[2]}",
                    timeout=httpx.Timeout(CALL_TIMEOUT, connect=CONNECT_TIMEOUT, read=None),
                    trust_env=False,
                )
            async with self._streams.stream(
                method, f"/v{version}{path}", params=dict(params), content=content
            ) as response:
                if response.status_code >= 400:
                    raise EngineResponseError(
                        response.status_code, _message(await response.aread())
                    )
                yield response

    @contextmanager
    def _mapped_errors(self) -> Iterator[None]:
        try:
            yield
        except APIError:
            raise
        except (DockerException, requests.RequestException, HTTPError, httpx.TransportError) as e:
            raise self._unavailable(e) from None

    def _unavailable(self, error: BaseException) -> EngineUnavailableError:
        return EngineUnavailableError(
            f"cannot connect to the Docker Engine at {self.host}: {_reason(error)}. Is it running,"
            " and may this user access its socket? Set DOCKER_HOST if it is elsewhere"
        )


class EngineResponseError(OrchestratorError):
    """The engine said no to a call that lasts; `status` is its answer's."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Turn:
    """What one reader does at a time: what a program prints byte by byte takes long to read."""

    def __init__(self) -> None:
        self._clock = asyncio.get_running_loop().time
        self._end = self._clock() + TURN

    async def ends(self) -> None:
        """Let the others have theirs, if this one has been long."""
        if self._clock() > self._end:
            await asyncio.sleep(0)
            self._end = self._clock() + TURN


async def messages(response: httpx.Response) -> AsyncGenerator[dict[str, Any], None]:
    """The JSON objects of a stream, one a line."""
    unread = b""
    turn = Turn()
    async for data in response.aiter_raw():
        *lines, unread = (unread + data).split(b"\n")
        for line in lines:
            if line.strip():
                yield orjson.loads(line)
                await turn.ends()
        if len(unread) > MAX_MESSAGE_BYTES:
            raise OrchestratorError(
                f"the Docker Engine sent a message of more than {MAX_MESSAGE_BYTES} bytes"
            )


def explanation(error: APIError) -> str:
    """The engine's own words."""
    return str(error.explanation or error)


def _message(body: bytes) -> str:
    try:
        return str(orjson.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace").strip()


def _reason(error: BaseException) -> str:
    """What the system said, which docker-py, requests and urllib3 wrap four times."""
    todo: list[object] = [error]
    seen: list[object] = []
    while todo and len(seen) < 50:
        one = todo.pop(0)
        seen.append(one)
        if isinstance(one, OSError) and one.strerror:
            return one.strerror.lower()
        if isinstance(one, BaseException):
            todo += [*one.args, getattr(one, "reason", None), one.__cause__, one.__context__]
    return str(error) or type(error).__name__

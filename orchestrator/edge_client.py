"""Owns how the orchestrator talks to the edge: HTTP on its control socket.

An edge that is not there is no error: None says so. EdgeError says why one that is there cannot.
"""

from pathlib import Path
from typing import Any, Final

import httpx
import orjson

from edge.errors import EdgeError

# Seconds that an answer may take beyond what was asked to be waited for.
REPLY_TIMEOUT: Final = 30.0
# Seconds until every worker must serve a new table.
RELOAD_TIMEOUT: Final = 10.0

Answer = dict[str, Any]


class EdgeClient:
    """The edge that listens on the Unix socket `path`, now or later."""

    def __init__(self, path: Path) -> None:
        self.path = path
        transport = httpx.AsyncHTTPTransport(uds=str(path))
        # The host name is a formality: the socket decides who is asked.
        self._http = httpx.AsyncClient(transport=transport, base_url="http://edge")

    async def close(self) -> None:
        """Close the connections to it."""
        await self._http.aclose()

    async def reload(self, version: int) -> Answer | None:
        """Returns when every worker serves `version` or a later one: version and workers."""
        return await self._post("/reload", {"version": version, "timeout": RELOAD_TIMEOUT})

    async def drain(
        self,
        target: str,
        timeout: float,  # noqa: ASYNC109 - the edge's, which answers when it is over
        tunnel_timeout: float,
    ) -> Answer | None:
        """Returns when nothing is in flight on `target`, or it was cut when its time was over."""
        return await self._post(
            "/drain", {"target": target, "timeout": timeout, "tunnel_timeout": tunnel_timeout}
        )

    async def undrain(self, target: str) -> Answer | None:
        """Let `target` get requests again."""
        return await self._post("/undrain", {"target": target})

    async def _post(self, resource: str, fields: dict[str, object]) -> Answer | None:
        try:
            return await self._post_once(resource, fields)
        except (httpx.RemoteProtocolError, httpx.ReadError):
            # An edge that has just handed over to a new one closes without an answer. All that is
            # asked here may be asked twice.
            pass
        try:
            return await self._post_once(resource, fields)
        except (httpx.RemoteProtocolError, httpx.ReadError) as error:
            raise EdgeError(f"the edge at {self.path} closed the connection: {error!r}") from None

    async def _post_once(self, resource: str, fields: dict[str, object]) -> Answer | None:
        waits = [float(str(fields.get(name, 0))) for name in ("timeout", "tunnel_timeout")]
        try:
            response = await self._http.post(
                resource, content=orjson.dumps(fields), timeout=REPLY_TIMEOUT + max(waits)
            )
        except (httpx.RemoteProtocolError, httpx.ReadError):
            raise
        except httpx.ConnectError as error:
            if _is_not_running(error):
                return None
            raise EdgeError(f"cannot connect to the edge at {self.path}: {error}") from None
        except httpx.HTTPError as error:
            raise EdgeError(f"the edge at {self.path} did not respond: {error!r}") from None
        try:
            answer: Answer = orjson.loads(response.content)
        except ValueError:
            raise EdgeError(f"{self.path} is not the control socket of an edge") from None
        if response.status_code >= 400:
            raise EdgeError(f"the edge refused: {answer.get('error', answer)}")
        return answer


def _is_not_running(error: BaseException | None) -> bool:
    """Whether there is no socket, or nobody behind it; the cause is some layers down."""
    while error is not None:
        if isinstance(error, FileNotFoundError | ConnectionRefusedError):
            return True
        error = error.__cause__ or error.__context__
    return False

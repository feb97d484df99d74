"""Owns how the orchestrator talks to the edge: HTTP on its control socket.

An edge that is not there is no error: None says so. EdgeError says why one that is there cannot.
"""

import asyncio
from pathlib import Path
from typing import Final

from edge.control.client import (
    MAX_ANSWER,
    Answer,
    ClosedError,
    closed,
    decode,
    encode,
    failed,
    reply_timeout,
)

# Seconds until every worker must serve a new table.
RELOAD_TIMEOUT: Final = 10.0


class EdgeClient:
    """The edge that listens on the Unix socket `path`, now or later."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def reload(self, version: int) -> Answer | None:
        """Returns when every worker serves `version` or a later one: version and workers."""
        return await self._post("/reload", {"version": version, "timeout": RELOAD_TIMEOUT})

    async def drain(
        self,
        target: str,
        timeout: float,  # noqa: ASYNC109 - the edge's, which answers when it is over
        tunnel_timeout: float,
        version: int = 0,
    ) -> Answer | None:
        """Returns when nothing is in flight on `target`, or it was cut when its time was over.

        Raises EdgeError where the edge does not serve `version` of the routes, which leads
        elsewhere.
        """
        fields = {"target": target, "timeout": timeout, "tunnel_timeout": tunnel_timeout}
        return await self._post("/drain", {**fields, "version": version})

    async def undrain(self, target: str) -> Answer | None:
        """Let `target` get requests again."""
        return await self._post("/undrain", {"target": target})

    async def _post(self, resource: str, fields: dict[str, object]) -> Answer | None:
        try:
            return await self._post_once(resource, fields)
        except ClosedError:
            pass  # all that is asked here may be asked twice
        try:
            return await self._post_once(resource, fields)
        except ClosedError:
            raise closed(self.path) from None

    async def _post_once(self, resource: str, fields: dict[str, object]) -> Answer | None:
        try:
            async with asyncio.timeout(reply_timeout(fields)):
                raw = await self._exchange(encode("POST", resource, fields))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except ConnectionError:
            raise ClosedError from None
        except OSError as error:
            raise failed(self.path, error) from None
        return decode(self.path, resource, raw)

    async def _exchange(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(self.path)
        try:
            writer.write(request)
            raw = b""
            while len(raw) <= MAX_ANSWER and (received := await reader.read(MAX_ANSWER)):
                raw += received
            return raw
        finally:
            writer.close()

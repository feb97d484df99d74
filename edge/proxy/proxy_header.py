"""Owns the first bytes of a connection that must begin with a PROXY header.

It stands in the place of the `ClientConnection` until the header has come, so that a connection on
which requests flow has nothing to ask.
"""

import asyncio

from edge.proxy.ports import ProxiedClient
from edge.wire.proxy_protocol import ProxyHeaderError, parse_proxy_header


class ProxyHeaderReader(asyncio.Protocol):
    """The Protocol that faces a trusted proxy until it has said who its client is."""

    __slots__ = ("_client", "_data")

    def __init__(self, client: ProxiedClient) -> None:
        self._client = client
        self._data = b""

    def __repr__(self) -> str:
        return f"<ProxyHeaderReader {self._client!r}>"

    def data_received(self, data: bytes) -> None:
        self._data += data
        try:
            header = parse_proxy_header(self._data)
        except ProxyHeaderError as error:
            self._client.reject_proxy_header(str(error))
            return
        if header is not None:
            self._client.proxy_header_received(header.source, self._data[header.size :])

    def eof_received(self) -> bool | None:
        # A proxy that connects and leaves wants to know whether we listen.
        if self._data:
            self._client.reject_proxy_header("the header is incomplete")
            return False
        return self._client.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.connection_lost(exc)

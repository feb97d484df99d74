"""Owns how long a client of an API may take nothing of what it is sent.

A connection that is closed in order stays until the last byte is taken: one whose client has
stopped to read would stay for ever, with its descriptor and what waits for it.
"""

import asyncio


def limited(protocol: type[asyncio.Protocol], seconds: float) -> type[asyncio.Protocol]:
    """`protocol`, whose connections are cut when nothing is taken for so many seconds."""
    return type(protocol.__name__, (_StallLimit, protocol), {"stall_timeout": seconds})


class _StallLimit(asyncio.Protocol):
    stall_timeout: float

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has come."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  narrows a type
        self._to_cut = transport
        self._stalled: asyncio.TimerHandle | None = None
        # Whatever the kernel does not take at once is a stall, until it has taken it.
        transport.set_write_buffer_limits(high=0)
        super().connection_made(transport)

    def pause_writing(self) -> None:
        """Something waits for the client."""
        super().pause_writing()
        loop = asyncio.get_running_loop()
        self._stalled = loop.call_later(self.stall_timeout, self._to_cut.abort)

    def resume_writing(self) -> None:
        """The client has taken it."""
        super().resume_writing()
        self._forget()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        super().connection_lost(exc)
        self._forget()

    def _forget(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

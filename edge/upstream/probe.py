"""Owns one active check of a target under way: a request on a connection of its own.

It is no client's request: neither the request counters nor the access log know it. The head of the
answer decides; the body is read, within bounds, so that the upstream sees no connection broken off.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final, NoReturn, Protocol

from edge.errors import UpstreamError
from edge.net.shortage import is_own_fault
from edge.rules.health_check import HealthCheck
from edge.upstream.connection import UpstreamConnection
from edge.upstream.target import Target
from edge.wire.framing import Piece
from edge.wire.response_head import ResponseHead

logger = logging.getLogger(__name__)

# Bytes of an answer's body that are read for courtesy. A page for people is smaller.
MAX_BODY: Final = 64 * 1024


class ProbeListener(Protocol):
    """Who has sent a probe."""

    def check_finished(self, probe: "Probe", passed: bool, reason: str) -> None:
        """It has its answer, or none in time; `reason` is what it saw. Called once at most."""

    def probe_ended(self, probe: "Probe") -> None:
        """Nothing of it is left."""


class Probe:
    """One request and the verdict on its answer, told to its listener once."""

    __slots__ = (
        "_connection",
        "_judged",
        "_listener",
        "_over",
        "_received",
        "_target",
        "_task",
        "check",
        "deadline",
    )

    # What `UpstreamConnection` asks of whom it answers
    accepts_whole_response: Final = False
    request_id_line: Final = b""
    method: Final = b"GET"

    def __init__(
        self, listener: ProbeListener, target: Target, check: HealthCheck, now: float
    ) -> None:
        self._listener = listener
        self._target = target
        self.check = check
        self.deadline = now + check.timeout
        self._task: asyncio.Task[UpstreamConnection] | None = None
        self._connection: UpstreamConnection | None = None
        self._judged = False
        self._over = False
        self._received = 0  # bytes of the answer's body

    def __repr__(self) -> str:
        return f"<Probe {self.check.name} of {self._target.address}>"

    @property
    def address(self) -> str:
        """Of the target."""
        return self._target.address

    def start(self) -> None:
        """Connect, and ask."""
        self._task = self._target.pool.connect()
        self._task.add_done_callback(self._connected)

    def on_deadline(self) -> None:
        """The time is up: no answer is a bad one, a body that goes on is nobody's concern."""
        missing = "connection" if self._connection is None else "response"
        self._judge(False, f"no {missing} within {self.check.timeout:g} s")
        self.close()

    def close(self) -> None:
        """Break off what is still under way; without a verdict if there was none."""
        self._over = True
        if self._task is not None:
            self._task.cancel()
        if self._connection is not None:
            self._connection.close()
        self._listener.probe_ended(self)

    def _connected(self, task: asyncio.Task[UpstreamConnection]) -> None:
        self._task = None
        if task.cancelled():
            return
        cause = task.exception()
        if self._over:
            # It was done in the very moment in which it was given up.
            if cause is None:
                task.result().close()
        elif is_own_fault(cause):
            # That says nothing of the target; the next check may.
            self.close()
        elif cause is not None:
            if not isinstance(cause, OSError | UpstreamError):
                logger.error("connecting to %s failed", self.address, exc_info=cause)
            self._fail(_brief(cause))
        elif task.result().transport.is_closing():
            self._fail("the upstream closed the connection")
        else:
            self._connection = connection = task.result()
            connection.exchange = self
            connection.transport.write(self.check.request(self.address))

    def _judge(self, passed: bool, reason: str) -> None:
        if not self._judged:
            self._judged = True
            self._listener.check_finished(self, passed, reason)

    def _fail(self, reason: str) -> None:
        self._judge(False, reason)
        self.close()

    def _judge_head(self, head: ResponseHead) -> None:
        passed = self.check.passes(head.status)
        self._judge(passed, f"{self.check.name}: {head.status}")

    # The answer

    def interim(self, head: ResponseHead) -> None:
        """A 1xx says nothing yet."""

    def whole_response(
        self, connection: UpstreamConnection, head: ResponseHead, start: bytes, data: bytes
    ) -> NoReturn:
        """Never: see `accepts_whole_response`."""
        raise AssertionError("a probe takes the head and the body apart")

    def response_begins(self, head: ResponseHead, length: int, start: bytes) -> "Probe":
        """The head, which decides; the body is for the probe itself."""
        self._judge_head(head)
        return self

    def response_data(self, data: bytes | memoryview) -> None:
        """Read up to a limit."""
        self._received += len(data)
        if self._received > MAX_BODY:
            self.close()

    def response_pieces(self, pieces: Sequence[Piece]) -> None:
        """Read up to a limit."""
        self._received += sum(map(len, pieces))
        if self._received > MAX_BODY:
            self.close()

    def response_ends(self, connection: UpstreamConnection, reusable: bool) -> None:
        """Nothing more comes."""
        self.close()

    def upstream_failed(self, error: UpstreamError, retryable: bool = False) -> None:
        """The connection is lost or unusable; that is the verdict unless the head was there."""
        self._fail(f"{self.check.name}: {error}")

    def may_upgrade_to(self, protocols: Sequence[bytes]) -> bool:
        """A probe asks for no upgrade."""
        return False

    def switch_protocols(
        self, connection: UpstreamConnection, head: ResponseHead, early: bytes
    ) -> NoReturn:
        """Never: see `may_upgrade_to`."""
        raise AssertionError("a probe requests no upgrade")

    def upstream_write_paused(self) -> None:
        """The request fits into any buffer: it waits there for the answer or the deadline."""

    def upstream_write_resumed(self) -> None:
        """Nothing was held back."""


def _brief(cause: BaseException) -> str:
    """Why a connection failed, in a few words: "connection refused"."""
    words = (cause.strerror if isinstance(cause, OSError) else None) or str(cause)
    return words[:1].lower() + words[1:]

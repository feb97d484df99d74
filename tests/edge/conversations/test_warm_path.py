"""Guards the path of a warm request: every Python call of `edge/` on it, by name and in order.

Three calls less were 1.5 us of 20 (`Exchange.whole_response`), and nobody sees one more in a diff
of the code. If a test here fails and the call is meant, change its list: that is what a reviewer
sees.

Nothing here depends on chance:

- The profiler is on in the edge's thread only, and counts Python functions of `edge/` only.
- A look at the deadlines could fall between two calls: the edge takes none by itself here.
- TCP could cut a body anywhere: each piece is sent while the edge is held, so that it reads the
  whole piece at once. `PIECE` is well below what the kernel takes before anybody reads.
- The upstream reads a whole request before it answers, so the acknowledgement comes with the
  answer, and nothing is unsent when the connection is given back.
- The upstream sends Date, so the second that begins makes no new one.

The compiled head codec is no Python: with it the walks are shorter by what `_CODEC` names.
"""

import difflib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

import pytest

import edge as package
from edge.proxy import client as client_module
from edge.upstream import connection as connection_module
from edge.worker import worker
from tests.edge.wire.twins import CODECS, request_reader_class, response_reader_class
from tests.harness import Client, Edge, Upstream, UpstreamConnection
from tests.messages import ok, request

pytestmark = pytest.mark.pure

FOLDER: Final = f"{Path(package.__file__).parent}/"

WARMING: Final = 3
"""Exchanges before the one that is looked at, all on the same two connections."""

PIECE: Final = 16 * 1024
BODY: Final = b"x" * (4 * PIECE)

# The walk, in the order of docs/request-lifetime.md.

HEAD: Final = (
    "proxy/client.py:ClientConnection.data_received",
    "proxy/client.py:ClientConnection._serve",
    "wire/request_reader.py:RequestReader.read",
    "proxy/exchange.py:Exchange.__init__",
)
ROUTE: Final = (
    "proxy/exchange.py:Exchange.start",
    "routing/table.py:RouteTable.match",
)
ADMITTED: Final = (
    "proxy/admission.py:Admission.admits",
    "proxy/admission.py:Admission._check_rate",
    "proxy/exchange.py:Exchange.client_address",
    "wire/forwarding.py:Peer.client_address",
    "rules/rate_limit.py:RateTable.take",
    "rules/rate_limit.py:RateTable._move",
)
UPSTREAM: Final = (
    "proxy/exchange.py:Exchange.connect_upstream",
    "upstream/pool.py:Pool.take",
    "proxy/exchange.py:Exchange.on_pool_ready",
)
BODY_IS_TO_COME: Final = (
    "proxy/timeouts.py:set_deadline",
    "proxy/timeouts.py:_phase",
)
BODY_PIECE: Final = (
    "proxy/client.py:ClientConnection.data_received",
    "proxy/exchange.py:Exchange.request_data",
    "wire/request_body.py:RequestBody.feed",
    "proxy/timeouts.py:set_deadline",
    "proxy/timeouts.py:_phase",
)
WHOLE_RESPONSE: Final = (
    "upstream/connection.py:UpstreamConnection.data_received",
    "wire/response_reader.py:ResponseReader.read",
    "proxy/exchange.py:Exchange.whole_response",
)
RESPONSE_BEGINS: Final = (
    "upstream/connection.py:UpstreamConnection.data_received",
    "wire/response_reader.py:ResponseReader.read",
    "upstream/connection.py:UpstreamConnection._read_response",
    "wire/response_head.py:ResponseHead.length",
    "proxy/exchange.py:Exchange.response_begins",
    "proxy/response_relay.py:ResponseRelay.__init__",
    "upstream/connection.py:UpstreamConnection._body",
    "proxy/response_relay.py:ResponseRelay.response_data",
)
RESPONSE_PIECE: Final = (
    "upstream/connection.py:UpstreamConnection.data_received",
    "upstream/connection.py:UpstreamConnection._body",
    "proxy/response_relay.py:ResponseRelay.response_data",
)
RESPONSE_ENDS: Final = (
    "upstream/connection.py:UpstreamConnection._complete",
    "proxy/exchange.py:Exchange.response_ends",
)
GIVEN_BACK: Final = ("upstream/pool.py:Pool.give_back",)
COUNTED: Final = (
    "proxy/exchange.py:Exchange.account",
    "telemetry/metrics.py:RouteCounters.record",
)
LOGGED: Final = (
    "proxy/access_entry.py:exchange_entry",
    "wire/forwarding.py:Peer.client_address",
    "wire/request_id.py:id_in",
    "telemetry/access_record.py:access_record",
    "telemetry/access_log.py:AccessLog.append",
)
NEXT: Final = ("proxy/client.py:ClientConnection.exchange_done",)

DEFAULT_WALK: Final = (
    *HEAD,
    *ROUTE,
    *UPSTREAM,
    *WHOLE_RESPONSE,
    *GIVEN_BACK,
    *COUNTED,
    *NEXT,
)
LOGGED_WALK: Final = (
    *HEAD,
    *ROUTE,
    *UPSTREAM,
    *WHOLE_RESPONSE,
    *GIVEN_BACK,
    *COUNTED,
    *LOGGED,
    *NEXT,
)
RATE_LIMITED_WALK: Final = (
    *HEAD,
    *ROUTE,
    *ADMITTED,
    *UPSTREAM,
    *WHOLE_RESPONSE,
    *GIVEN_BACK,
    *COUNTED,
    *NEXT,
)
UPLOAD_WALK: Final = (
    *HEAD,
    *ROUTE,
    "wire/request_body.py:RequestBody.__init__",
    "proxy/exchange.py:Exchange.request_data",  # the piece that came with the head
    "wire/request_body.py:RequestBody.feed",
    *UPSTREAM,
    *BODY_IS_TO_COME,
    *(BODY_PIECE * 3),
    *WHOLE_RESPONSE,
    "net/read_gate.py:unsent",
    *GIVEN_BACK,
    *COUNTED,
    *NEXT,
)
DOWNLOAD_WALK: Final = (
    *HEAD,
    *ROUTE,
    *UPSTREAM,
    *RESPONSE_BEGINS,
    *(RESPONSE_PIECE * 3),
    *RESPONSE_ENDS,
    *GIVEN_BACK,
    "proxy/exchange.py:Exchange.finish",
    *COUNTED,
    *NEXT,
)


_CODEC: Final = (
    "wire/request_reader.py:RequestReader.read",
    "wire/response_reader.py:ResponseReader.read",
    "wire/response_head.py:ResponseHead.length",
)


@pytest.fixture(params=CODECS, autouse=True)
def codec(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The head codec that the edge has: "pure" or "compiled"."""
    name = str(request.param)
    monkeypatch.setattr(client_module, "RequestReader", request_reader_class(name))
    monkeypatch.setattr(connection_module, "ResponseReader", response_reader_class(name))
    return name


@pytest.fixture(autouse=True)
def _no_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    """The edge looks at its deadlines when it starts, and not again."""
    monkeypatch.setattr(worker, "SWEEP_INTERVAL", 3600.0)


@contextmanager
def profiled(edge: Edge) -> Iterator[list[str]]:
    """The calls that the edge's thread makes meanwhile, as `file:function`, in order."""
    calls: list[str] = []

    def note(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(FOLDER):
            calls.append(f"{code.co_filename.removeprefix(FOLDER)}:{code.co_qualname}")

    async def profile(function: Callable[[FrameType, str, object], None] | None) -> None:
        sys.setprofile(function)  # of the thread that runs this: the edge's

    edge.settle()
    edge.calls(profile(note))
    try:
        yield calls
        edge.settle()
    finally:
        edge.calls(profile(None))


def pieces(message: bytes) -> Iterator[bytes]:
    """The head with the first `PIECE` of the body, then the rest of it by the piece."""
    start, end = 0, message.index(b"\r\n\r\n") + 4 + PIECE
    while start < len(message):
        yield message[start:end]
        start, end = end, end + PIECE


def sends(edge: Edge, sender: Client | UpstreamConnection, message: bytes) -> None:
    """Sends `message` so that the edge reads it in exactly its `pieces`."""
    for piece in pieces(message):
        with edge.held():
            sender.sends(piece)


def warm_walk(
    edge: Edge,
    upstream: Upstream,
    asked: bytes | None = None,
    answered: bytes | None = None,
) -> list[str]:
    """The calls of one exchange, when `WARMING` of its like have gone the same way before.

    `asked` is GET / for app.test and `answered` a small 200 if not given.
    """
    asked = request("GET /") if asked is None else asked
    answered = ok("hello") if answered is None else answered
    client = edge.connects()
    sends(edge, client, asked)
    connection = upstream.accepts()

    def finish() -> None:
        connection.receives_request()
        sends(edge, connection, answered)
        assert client.receives_response().status == 200

    finish()
    for _ in range(WARMING - 1):
        sends(edge, client, asked)
        finish()
    with profiled(edge) as calls:
        sends(edge, client, asked)
        finish()
    upstream.accepts_nothing()
    return calls


def follows(walk: Sequence[str], expected: Sequence[str]) -> None:
    """Raises AssertionError that names each call which is new and each which is gone."""
    if walk == list(expected):
        return
    lines = list(difflib.unified_diff(expected, walk, n=len(expected), lineterm=""))[3:]
    raise AssertionError(
        f"the walk was {_size(expected)} and is {_size(walk)} (+ is new, - is gone):\n"
        + "\n".join(f"  {line}" for line in lines)
    )


def without_codec(walk: Sequence[str], codec: str) -> list[str]:
    """What is left of a walk with this codec."""
    return [call for call in walk if codec == "pure" or call not in _CODEC]


def _size(walk: Sequence[str]) -> str:
    files = {call.partition(":")[0] for call in walk}
    return f"{len(walk)} calls in {len(files)} files"


class TestTheCallsOfAWarmRequest:
    """A keep-alive client, a pooled connection to the upstream."""

    def test_with_default_settings(self, edge: Edge, upstream: Upstream, codec: str) -> None:
        follows(warm_walk(edge, upstream), without_codec(DEFAULT_WALK, codec))

    def test_with_the_access_log(
        self, make_edge: Callable[..., Edge], upstream: Upstream, tmp_path: Path, codec: str
    ) -> None:
        edge = make_edge(access_log=str(tmp_path / "access.log"))
        edge.routes("app.test", upstream.target)
        follows(warm_walk(edge, upstream), without_codec(LOGGED_WALK, codec))

    def test_on_a_route_with_a_rate_limit(self, edge: Edge, upstream: Upstream, codec: str) -> None:
        edge.routes("app.test", upstream.target, rate=1000)
        follows(warm_walk(edge, upstream), without_codec(RATE_LIMITED_WALK, codec))

    def test_with_a_request_body_that_comes_in_four_pieces(
        self, edge: Edge, upstream: Upstream, codec: str
    ) -> None:
        asked = request("POST /", f"Content-Length: {len(BODY)}", body=BODY)
        follows(warm_walk(edge, upstream, asked), without_codec(UPLOAD_WALK, codec))

    def test_with_a_response_body_that_comes_in_four_pieces(
        self, edge: Edge, upstream: Upstream, codec: str
    ) -> None:
        follows(warm_walk(edge, upstream, answered=ok(BODY)), without_codec(DOWNLOAD_WALK, codec))


class TestACallThatIsNew:
    def test_is_named_by_the_failure(self, edge: Edge, upstream: Upstream, codec: str) -> None:
        edge.routes("app.test", upstream.target, rate=1000)
        walk = warm_walk(edge, upstream)
        with pytest.raises(AssertionError) as failure:
            follows(walk, without_codec(DEFAULT_WALK, codec))
        text = str(failure.value)
        sizes = {
            "pure": "16 calls in 8 files and is 22 calls in 11 files",
            "compiled": "14 calls in 6 files and is 20 calls in 9 files",
        }
        assert sizes[codec] in text
        new = [line.strip() for line in text.splitlines() if line.startswith("  +")]
        assert new == [f"+{call}" for call in ADMITTED]

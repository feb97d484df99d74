"""Many requests that came at once: the edge answers them in turns, and others are not held up."""

import math

import pytest

from edge.proxy import client as module
from edge.proxy.exchange import Exchange
from tests.harness import Client, Edge, Upstream
from tests.messages import request

pytestmark = pytest.mark.pure

MANY = 1000
"""Small requests that the edge answers by itself: 50 KiB, which it reads at once."""

UNKNOWN = request("GET /", host="unknown.test")


def answered(client: Client, times: int = MANY) -> None:
    for _ in range(times):
        assert client.receives_response().status == 404


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hosts that requests were for, in the order in which the edge began with them."""
    hosts: list[str] = []
    start = Exchange.start

    def noted(exchange: Exchange, resumed: bool = False) -> None:
        hosts.append(exchange.fields.host)
        start(exchange, resumed)

    monkeypatch.setattr(Exchange, "start", noted)
    return hosts


def test_others_have_their_turn(edge: Edge, upstream: Upstream, begun: list[str]) -> None:
    many, one = edge.connects(), edge.connects()
    with edge.held():
        many.sends(UNKNOWN * MANY)
        one.sends(request("GET /"))
    answered(many)
    upstream.accepts().receives_request()
    assert len(begun) == MANY + 1
    assert begun.index("app.test") <= 2 * module.MAX_PER_TURN


def test_what_comes_meanwhile_waits_for_its_turn(edge: Edge, begun: list[str]) -> None:
    client = edge.connects()
    with edge.held():
        client.sends(UNKNOWN * MANY)
    for _ in range(10):
        client.sends(UNKNOWN * 100)
    answered(client, MANY + 1000)
    assert len(begun) == MANY + 1000


def test_a_client_that_says_no_more_gets_all_answers(client: Client) -> None:
    client.sends(UNKNOWN * MANY)
    client.half_closes()
    answered(client)
    client.sees_eof()


def test_a_request_that_stops_short_behind_them_is_refused(client: Client) -> None:
    client.sends(UNKNOWN * MANY + UNKNOWN[:-4])
    client.half_closes()
    answered(client)
    assert client.receives_response().status == 400
    client.sees_eof()


def test_a_malformed_one_among_them_is_the_last(client: Client, begun: list[str]) -> None:
    client.sends(UNKNOWN * 50 + b"NONSENSE\r\n\r\n" + UNKNOWN * 50)
    answered(client, 50)
    assert client.receives_response().status == 400
    client.sees_eof()
    assert len(begun) == 50


def test_the_way_to_an_upstream_is_open_behind_them(client: Client, upstream: Upstream) -> None:
    client.sends(UNKNOWN * MANY + request("GET /last"))
    answered(client)
    assert upstream.accepts().receives_request().target == "/last"


@pytest.mark.parametrize("end", ["resets", "closes"])
def test_a_client_may_leave_before_its_turn(edge: Edge, upstream: Upstream, end: str) -> None:
    client = edge.connects()
    with edge.held():
        client.sends(UNKNOWN * MANY)
        getattr(client, end)()
    edge.advance(2)
    edge.advance(10)
    other = edge.connects()
    other.sends(request("GET /"))
    upstream.accepts().receives_request()


def test_a_client_that_waits_for_its_turn_is_not_idle(edge: Edge) -> None:
    """Idle ones are closed where descriptors run short, and soon where the edge drains."""
    client = edge.connects()
    idle_since: list[float] = []

    def look() -> None:
        (waiting,) = edge.worker.state.clients
        idle_since.append(waiting.idle_since)
        waiting.drain()

    with edge.held():
        client.sends(UNKNOWN * MANY)
        # In the turn that is held it comes behind the first requests, and before the next ones.
        edge.loop.call_soon_threadsafe(edge.loop.call_later, 0, look)
    answered(client)
    assert idle_since == [math.inf]


def test_a_long_body_behind_them_is_read(client: Client, upstream: Upstream) -> None:
    body = b"x" * 400_000
    client.sends(UNKNOWN * MANY)
    client.sends(request("POST /", f"Content-Length: {len(body)}", body=body))
    answered(client)
    assert upstream.accepts().receives_request().body == body

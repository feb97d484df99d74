"""A paused route: what it holds, for how long, and how it goes on."""

from collections.abc import Callable

import pytest

from edge.proxy.pause import RELEASE_BATCH
from edge.routing.store_writer import RouteWriter
from tests.harness import WAIT, Client, Conversation, Edge, Upstream, exchange
from tests.messages import ok, request, response

PAUSED = 'fairlead_http_requests_paused{route="app.test"}'


def pauses(edge: Edge, seconds: float = 30, most: int = 1000) -> None:
    options = {"pause": seconds, "pause_max": most}
    edge.reloads(RouteWriter(edge.settings.db).change("app.test", options))


def resumes(edge: Edge) -> None:
    options = {"pause": None, "pause_max": None}
    edge.reloads(RouteWriter(edge.settings.db).change("app.test", options))


def held(edge: Edge) -> float:
    edge.settle()
    return edge.metrics()[PAUSED]


def is_held(client: Client, *fields: str, line: str = "GET /", body: str = "") -> None:
    client.sends(request(line, *fields, body=body))
    client.receives_nothing()


def is_answered(client: Client, upstream: Upstream) -> None:
    connection = upstream.accepts()
    connection.receives_request()
    connection.sends(ok("went on", "Connection: close"))
    assert client.receives_response().text == "went on"


class TestHolding:
    def test_a_request_waits_until_the_route_is_resumed(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        pauses(edge)
        is_held(client)
        upstream.accepts_nothing()
        assert held(edge) == 1
        resumes(edge)
        is_answered(client, upstream)
        assert held(edge) == 0
        assert exchange(client, upstream).response.text == "hello"

    def test_requests_behind_it_come_after_it(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        pauses(edge)
        is_held(client, line="GET /one")
        client.sends(request("GET /two"))
        client.receives_nothing()
        assert held(edge) == 1
        resumes(edge)
        connection = upstream.accepts()
        for target in ("/one", "/two"):
            assert connection.receives_request().target == target
            connection.sends(ok(target))
            assert client.receives_response().text == target

    def test_more_than_one_turn_of_the_loop_lets_go_all_go_on(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        pauses(edge)
        clients = [edge.connects() for _ in range(2 * RELEASE_BATCH + 1)]
        for client in clients:
            client.sends(request("GET /"))
            edge.settle()
        assert held(edge) == len(clients)
        resumes(edge)
        for _ in clients:
            connection = upstream.accepts()
            connection.receives_request()
            connection.sends(ok("went on", "Connection: close"))
        assert {client.receives_response().text for client in clients} == {"went on"}
        assert held(edge) == 0

    def test_the_new_target_gets_what_waited_for_the_old_one(
        self, edge: Edge, client: Client, upstream: Upstream, conversation: Conversation
    ) -> None:
        pauses(edge)
        is_held(client)
        new = Upstream(conversation)
        edge.routes("app.test", new.target)
        is_answered(client, new)
        upstream.accepts_nothing()

    @pytest.mark.settings(pool_idle=5)
    def test_a_connection_that_grew_too_old_meanwhile_is_not_used(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        old = exchange(client, upstream).connection
        pauses(edge)
        is_held(client)
        edge.clock.now += 6
        resumes(edge)
        is_answered(client, upstream)
        old.sees_eof()

    def test_what_waited_for_a_route_that_is_gone_is_404(self, edge: Edge, client: Client) -> None:
        pauses(edge)
        is_held(client)
        edge.unroutes("app.test")
        assert client.receives_response().status == 404

    def test_another_change_of_the_table_lets_nothing_go_on(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        pauses(edge)
        is_held(client)
        edge.routes("other.test", upstream.target)
        pauses(edge, seconds=10)
        client.receives_nothing()
        upstream.accepts_nothing()
        edge.advance(29)
        client.receives_nothing()
        resumes(edge)
        is_answered(client, upstream)

    def test_what_is_paused_again_before_its_turn_waits_again(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        pauses(edge)
        is_held(client)
        hold = edge.worker.state.pause_queue("app.test")

        async def release() -> None:
            hold.release()

        edge.calls(release())  # as if it had been resumed, and is paused anew when its turn comes
        client.receives_nothing()
        assert held(edge) == 1
        resumes(edge)
        is_answered(client, upstream)

    def test_an_edge_that_starts_with_a_paused_route_holds_too(
        self, make_edge: Callable[..., Edge], upstream: Upstream
    ) -> None:
        edge = make_edge()
        edge.routes("app.test", upstream.target, pause=5)
        client = edge.connects()
        is_held(client)
        edge.advance(5)
        assert client.receives_response().status == 503

    def test_what_is_in_flight_goes_on(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("POST /", "Content-Length: 8", body="half"))
        connection = upstream.accepts()
        connection.receives_head()
        pauses(edge)
        client.sends(b"more")
        connection.receives_data("halfmore")
        connection.sends(ok("fine"))
        assert client.receives_response().text == "fine"

    def test_a_tunnel_goes_on_and_a_new_one_waits(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        handshake = request("GET /", "Connection: Upgrade", "Upgrade: chat")
        switch = response("101 Switching Protocols", "Connection: Upgrade", "Upgrade: chat")
        client.sends(handshake)
        connection = upstream.accepts()
        connection.receives_head()
        connection.sends(switch)
        client.receives_head()
        pauses(edge)
        client.sends(b"ping")
        connection.receives(b"ping")
        other = edge.connects()
        other.sends(handshake + b"early")
        other.receives_nothing()
        resumes(edge)
        connection = upstream.accepts()
        connection.receives_head()
        connection.sends(switch)
        assert other.receives_head().status == 101
        connection.receives(b"early")

    def test_a_drain_waits_for_it(self, edge: Edge, client: Client, upstream: Upstream) -> None:
        pauses(edge)
        is_held(client)
        drained = edge.drains()
        resumes(edge)
        connection = upstream.accepts()
        connection.receives_request()
        connection.sends(ok("fine"))
        answer = client.receives_response()
        assert answer.text == "fine"
        assert answer.closes()
        client.sees_eof()
        client.closes()
        assert drained.result(WAIT) is True


class TestBodies:
    def test_a_body_is_not_read_while_the_request_waits(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        pauses(edge)
        client = edge.connects(send_buffer=65536)
        size = 32 * 2**20
        client.sends(request("PUT /", f"Content-Length: {size}"))
        edge.settle()
        taken = client.sends_until_blocked(b"x" * 65536, size)
        assert taken < size
        resumes(edge)
        connection = upstream.accepts()
        connection.receives_head()
        connection.receives_data(b"x" * taken)

    @pytest.mark.parametrize(
        ("fields", "body"),
        [
            (("Content-Length: 5",), "hello"),
            (("Transfer-Encoding: chunked",), "5\r\nhello\r\n0\r\n\r\n"),
        ],
    )
    def test_a_body_that_came_with_the_head_goes_on_and_the_next_request_too(
        self, edge: Edge, client: Client, upstream: Upstream, fields: tuple[str, ...], body: str
    ) -> None:
        pauses(edge)
        client.sends(request("POST /", *fields, body=body) + request("GET /next"))
        client.receives_nothing()
        resumes(edge)
        connection = upstream.accepts()
        assert connection.receives_request().text == "hello"
        connection.sends(ok("one"))
        assert client.receives_response().text == "one"
        assert connection.receives_request().target == "/next"

    def test_too_large_a_body_is_refused_when_it_goes_on(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, pause=30, max_body=3)
        client = edge.connects()
        is_held(client, "Content-Length: 4", line="POST /", body="four")
        edge.routes("app.test", upstream.target, max_body=3)
        assert client.receives_response().status == 413
        client.sees_eof()


class TestBounds:
    def test_after_its_time_it_is_503(self, edge: Edge, client: Client) -> None:
        pauses(edge, seconds=20)
        is_held(client)
        edge.advance(19)
        client.receives_nothing()
        edge.advance(1)
        answer = client.receives_response()
        assert (answer.status, answer["Retry-After"]) == (503, "5")
        assert held(edge) == 0
        is_held(client)  # the connection goes on

    def test_an_upload_that_waits_too_long_is_503_with_close(
        self, edge: Edge, client: Client
    ) -> None:
        pauses(edge, seconds=2)
        is_held(client, "Content-Length: 9", line="POST /", body="some")
        edge.advance(1)
        edge.advance(1)
        client.is_refused(503)

    def test_one_too_many_is_503_at_once(self, edge: Edge, upstream: Upstream) -> None:
        pauses(edge, most=2)
        clients = [edge.connects() for _ in range(3)]
        for client in clients:
            client.sends(request("GET /"))
            edge.settle()
        answer = clients.pop().receives_response()
        assert (answer.status, answer["Retry-After"]) == (503, "5")
        assert held(edge) == 2
        clients.pop().resets()
        assert held(edge) == 1
        is_held(edge.connects())

    def test_a_rate_counts_a_request_once(self, edge: Edge, upstream: Upstream) -> None:
        edge.routes("app.test", upstream.target, pause=30, rate=0.001, burst=1)
        client = edge.connects()
        is_held(client)
        edge.routes("app.test", upstream.target, rate=0.001, burst=1)
        is_answered(client, upstream)
        client.sends(request("GET /"))
        assert client.receives_response().status == 429


class TestClientsThatLeave:
    @pytest.mark.parametrize("leaves", [Client.resets, Client.closes])
    def test_a_reader_that_leaves_is_no_longer_held(
        self, edge: Edge, client: Client, upstream: Upstream, leaves: Callable[[Client], None]
    ) -> None:
        pauses(edge)
        is_held(client)
        leaves(client)
        for _ in range(3):  # of one that closed: asked whether it is there, and gone
            edge.advance(1)
        assert held(edge) == 0
        resumes(edge)
        upstream.accepts_nothing()

    @pytest.mark.parametrize("leaves", [Client.resets, Client.closes])
    def test_a_sender_that_leaves_is_no_longer_held(
        self, edge: Edge, client: Client, upstream: Upstream, leaves: Callable[[Client], None]
    ) -> None:
        """Its body is not read, so neither is its end."""
        pauses(edge)
        is_held(client, "Content-Length: 4", line="POST /", body="four")
        leaves(client)
        for _ in range(3):
            edge.advance(1)
        assert held(edge) == 0
        resumes(edge)
        upstream.accepts_nothing()

    def test_a_sender_that_stays_is_held(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        pauses(edge)
        is_held(client, "Content-Length: 4", line="POST /", body="four")
        for _ in range(5):
            edge.advance(1)
        client.receives_nothing()
        assert held(edge) == 1
        resumes(edge)
        connection = upstream.accepts()
        assert connection.receives_request().text == "four"

    def test_one_that_has_half_closed_gets_its_answer(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        pauses(edge)
        is_held(client)
        client.half_closes()
        for _ in range(5):
            edge.advance(1)
        assert held(edge) == 1
        assert client.receives_head().status == 100
        client.receives_nothing()
        resumes(edge)
        is_answered(client, upstream)
        client.sees_eof()

    def test_an_old_client_that_has_half_closed_is_not_asked(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        pauses(edge)
        client.sends(request("GET / HTTP/1.0"))
        client.half_closes()
        for _ in range(3):
            edge.advance(1)
        client.receives_nothing()
        resumes(edge)
        is_answered(client, upstream)


@pytest.mark.settings(drain_timeout=20)
class TestAnEdgeThatEnds:
    def test_before_the_pause_does_tells_those_that_are_held(
        self, edge: Edge, client: Client
    ) -> None:
        pauses(edge, seconds=300)
        is_held(client)
        drained = edge.drains()
        edge.advance(19)
        client.receives_nothing()
        edge.advance(2)
        answer = client.receives_response()
        assert (answer.status, answer["Retry-After"]) == (503, "5")
        client.sees_eof()
        client.closes()
        assert drained.result(WAIT) is False

    def test_after_the_route_was_resumed_waits_for_them(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        pauses(edge)
        is_held(client)
        drained = edge.drains()
        resumes(edge)
        connection = upstream.accepts()
        connection.receives_request()
        connection.sends(ok("went on"))
        assert client.receives_response().text == "went on"
        client.sees_eof()
        client.closes()
        assert drained.result(WAIT) is True

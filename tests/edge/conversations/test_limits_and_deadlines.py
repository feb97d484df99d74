"""Every wait has an end, and every accumulation a bound."""

import pytest

from edge.proxy.state import IDLE_GRACE
from edge.worker.worker import EXPIRY_BATCH
from tests.harness import (
    Client,
    Edge,
    Upstream,
    UpstreamConnection,
    exchange,
    flow,
)
from tests.messages import chunk, ok, request, response

POST = request("POST /", "Content-Length: 10")


def asked(client: Client, upstream: Upstream, sent: bytes | None = None) -> UpstreamConnection:
    """The upstream connection that has received a request and owes the answer."""
    client.sends(request("GET /") if sent is None else sent)
    connection = upstream.accepts()
    connection.receives_request()
    return connection


class TestHeadTimeout:
    """RFC 9110 section 15.5.9: a request that does not come."""

    @pytest.mark.parametrize("sent", [b"G", b"GET / HTTP/1.1\r\n", request("GET /")[:-1]])
    def test_a_partial_head_is_408(
        self, edge: Edge, client: Client, upstream: Upstream, sent: bytes
    ) -> None:
        client.sends(sent)
        edge.advance(9.9)
        client.receives_nothing()
        edge.advance(0.2)
        client.is_refused(408)
        upstream.accepts_nothing()

    def test_it_is_not_prolonged_by_single_bytes(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        """Slowloris."""
        for octet in request("GET /")[:11]:
            client.sends(bytes([octet]))
            edge.advance(1)
        client.is_refused(408)
        upstream.accepts_nothing()

    def test_however_many_are_late_each_is_told(self, edge: Edge) -> None:
        """Attackers come by the hundreds."""
        clients = [edge.connects() for _ in range(3 * EXPIRY_BATCH)]
        for client in clients:
            client.sends(b"G")
        edge.advance(10.1)
        for client in clients:
            client.is_refused(408)

    def test_of_many_that_are_late_a_few_are_told_at_a_time(self, edge: Edge) -> None:
        """The others are served in between."""
        for _ in range(EXPIRY_BATCH + 1):
            edge.connects().sends(b"G")
        edge.settle()

        async def told_in_one_turn_of_the_loop() -> int:
            edge.clock.now += 10.1
            edge.worker.sweep()
            return edge.worker.state.metrics.unrouted.requests[4]

        assert edge.calls(told_in_one_turn_of_the_loop()) == EXPIRY_BATCH

    def test_it_begins_anew_with_each_request(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        connection = exchange(client, upstream).connection
        edge.advance(50)
        client.sends(request("GET /")[:10])
        edge.advance(9)
        client.sends(request("GET /")[10:])
        connection.receives_request()
        connection.sends(ok("in time"))
        assert client.receives_response().text == "in time"

    def test_a_partial_head_on_a_used_connection_is_408(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        exchange(client, upstream)
        client.sends(b"GET ")
        edge.advance(10.1)
        client.is_refused(408)

    def test_a_partial_head_behind_a_pipelined_request_is_408(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        exchange(client, upstream, request("GET /") + b"GET /second")
        edge.advance(10.1)
        client.is_refused(408)

    @pytest.mark.settings(head_timeout=2)
    def test_the_setting_decides(self, edge: Edge, client: Client) -> None:
        client.sends(b"GET ")
        edge.advance(2.1)
        client.is_refused(408)

    def test_empty_lines_do_not_prolong_it(self, edge: Edge, client: Client) -> None:
        client.sends(b"\r\n")
        edge.advance(60)
        client.sends(b"\r\n")
        edge.advance(61)
        client.receives_some()
        client.sees_end()


class TestIdleTimeout:
    """RFC 9112 section 9.5."""

    def test_a_client_that_never_speaks_is_closed_silently(
        self, edge: Edge, client: Client
    ) -> None:
        edge.advance(119)
        client.receives_nothing()
        edge.advance(2)
        client.sees_eof()

    def test_a_client_between_requests_is_closed_silently(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        exchange(client, upstream)
        edge.advance(119)
        client.receives_nothing()
        edge.advance(2)
        client.sees_eof()

    def test_each_request_begins_it_anew(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        connection = exchange(client, upstream, answered=ok("hi", "Connection: close")).connection
        connection.sees_end()
        for _ in range(3):
            edge.advance(100)
            exchange(client, upstream, answered=ok("hi", "Connection: close"))

    @pytest.mark.settings(idle_timeout=3)
    def test_the_setting_decides(self, edge: Edge, client: Client) -> None:
        edge.advance(3.1)
        client.sees_eof()


class TestBodyTimeout:
    """RFC 9110 section 15.5.9: a body that stops coming."""

    def test_a_body_of_which_nothing_comes_is_408(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        client.sends(POST)
        connection = upstream.accepts()
        connection.receives_head()
        edge.advance(29)
        client.receives_nothing()
        edge.advance(1.1)
        client.is_refused(408)
        connection.sees_broken_body()

    @pytest.mark.parametrize(
        "sent",
        [
            POST + b"hello",
            request("POST /", "Transfer-Encoding: chunked", body=chunk("hello")),
            request("POST /", "Transfer-Encoding: chunked", body=b"5\r\nhel"),
        ],
    )
    def test_a_body_that_stops_is_408_and_never_whole(
        self, edge: Edge, client: Client, upstream: Upstream, sent: bytes
    ) -> None:
        client.sends(sent)
        connection = upstream.accepts()
        connection.receives_head()
        edge.advance(30.1)
        client.is_refused(408)
        connection.sees_broken_body()

    def test_an_upload_has_no_total_limit(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        client.sends(POST)
        connection = upstream.accepts()
        connection.receives_head()
        for octet in b"0123456789":
            edge.advance(25)
            client.sends(bytes([octet]))
            connection.receives_data(bytes([octet]))
        connection.receives_end()
        connection.sends(ok("timeout"))
        assert client.receives_response().text == "timeout"

    @pytest.mark.settings(body_timeout=2)
    def test_the_setting_decides(self, edge: Edge, client: Client, upstream: Upstream) -> None:
        client.sends(POST)
        upstream.accepts().receives_head()
        edge.advance(2.1)
        client.is_refused(408)

    def test_a_slow_upload_may_be_answered_while_it_comes(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        """An answer that streams has begun: there is no 408 any more, only a broken end."""
        client.sends(POST + b"he")
        connection = upstream.accepts()
        connection.receives_head()
        connection.sends(response("200 OK", "Transfer-Encoding: chunked", body=chunk("got he")))
        client.receives_head()
        client.receives_data("got he")
        edge.advance(1000)
        client.sees_broken_body()
        connection.sees_broken_body()


class TestConnectTimeout:
    """RFC 9110 section 15.6.3."""

    def test_a_target_that_does_not_answer_is_502(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        upstream.swallows()
        client.sends(request("GET /"))
        edge.advance(4.9)
        client.receives_nothing()
        edge.advance(0.2)
        assert client.receives_response().status == 502
        assert edge.metrics()['fairlead_upstream_errors_total{kind="connect_timeout"}'] == 1

    @pytest.mark.settings(connect_timeout=1)
    def test_the_setting_decides(self, edge: Edge, client: Client, upstream: Upstream) -> None:
        upstream.swallows()
        client.sends(request("GET /"))
        edge.advance(1.1)
        assert client.receives_response().status == 502

    def test_another_target_gets_the_request_then(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        silent = Upstream(client.conversation)
        silent.swallows()
        edge.routes("app.test", silent.target, upstream.target)
        client.sends(request("POST /", "Content-Length: 2", body="hi"))
        edge.advance(5.1)
        connection = upstream.accepts()
        assert connection.receives_request().text == "hi"
        connection.sends(ok("hello"))
        assert client.receives_response().text == "hello"

    def test_a_client_that_leaves_while_connecting_is_forgotten(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        upstream.swallows()
        client.sends(request("GET /"))
        edge.settle()
        client.resets()
        edge.advance(6)
        other = Upstream(client.conversation)
        edge.routes("app.test", other.target)
        assert exchange(edge.connects(), other).response.status == 200


class TestResponseTimeout:
    """RFC 9110 section 15.6.5."""

    @pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\nContent-"])
    def test_an_upstream_without_a_head_is_504(
        self, edge: Edge, client: Client, upstream: Upstream, said: bytes
    ) -> None:
        connection = asked(client, upstream)
        connection.sends(said)
        edge.advance(59)
        client.receives_nothing()
        edge.advance(1.1)
        assert client.receives_response().status == 504
        connection.sees_end()
        assert edge.metrics()['fairlead_upstream_errors_total{kind="response_timeout"}'] == 1

    def test_it_is_not_repeated(self, edge: Edge, client: Client, upstream: Upstream) -> None:
        connection = exchange(client, upstream).connection
        client.sends(request("GET /"))
        connection.receives_request()
        edge.advance(60.1)
        assert client.receives_response().status == 504
        upstream.accepts_nothing()

    def test_a_body_of_the_request_is_not_counted(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        """The time begins when the whole request was sent."""
        client.sends(POST)
        connection = upstream.accepts()
        connection.receives_head()
        for octet in b"0123456789":
            edge.advance(20)
            client.sends(bytes([octet]))
            connection.receives_data(bytes([octet]))
        edge.advance(59)
        connection.sends(ok("thorough"))
        assert client.receives_response().text == "thorough"

    def test_the_client_can_go_on_after_a_504(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        asked(client, upstream)
        edge.advance(60.1)
        assert client.receives_response().status == 504
        assert exchange(client, upstream).response.status == 200

    @pytest.mark.settings(response_timeout=2)
    def test_the_setting_decides(self, edge: Edge, client: Client, upstream: Upstream) -> None:
        asked(client, upstream)
        edge.advance(2.1)
        assert client.receives_response().status == 504


class TestStreamTimeout:
    """RFC 9112 section 8: a response that falls silent is incomplete."""

    @pytest.mark.parametrize(
        "said",
        [
            response("200 OK", "Content-Length: 10", body="hello"),
            response("200 OK", "Transfer-Encoding: chunked", body=chunk("hello")),
            response("200 OK", body="hello"),
        ],
    )
    def test_a_silent_stream_is_broken(
        self, edge: Edge, client: Client, upstream: Upstream, said: bytes
    ) -> None:
        connection = asked(client, upstream)
        connection.sends(said)
        client.receives_head()
        client.receives_data("hello")
        edge.advance(299)
        client.receives_nothing()
        edge.advance(1.1)
        client.sees_broken_body()
        connection.sees_end()

    def test_a_stream_has_no_total_limit(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        connection = asked(client, upstream)
        connection.sends(response("200 OK", "Transfer-Encoding: chunked"))
        client.receives_head()
        for _ in range(10):
            edge.advance(250)
            connection.sends(chunk("tick"))
            client.receives_data("tick")
        connection.sends(chunk(""))
        client.receives_end()

    @pytest.mark.settings(stream_timeout=2)
    def test_the_setting_decides(self, edge: Edge, client: Client, upstream: Upstream) -> None:
        connection = asked(client, upstream)
        connection.sends(response("200 OK", "Transfer-Encoding: chunked", body=chunk("hello")))
        client.receives_head()
        client.receives_data("hello")
        edge.advance(2.1)
        client.sees_broken_body()


class TestSendTimeout:
    """RFC 9112 section 9.5: a client that reads nothing."""

    def test_a_client_that_reads_nothing_is_given_up(self, edge: Edge, upstream: Upstream) -> None:
        client = edge.connects(receive_buffer=4096)
        connection = asked(client, upstream)
        connection.sends(response("200 OK", "Content-Length: 100000000"))
        connection.sends_until_blocked(b"x" * 65536, at_most=100_000_000)
        edge.advance(30)
        edge.advance(29)
        edge.advance(2)
        edge.advance(61)
        connection.sees_end()

    def test_a_client_that_reads_slowly_is_served(self, edge: Edge, upstream: Upstream) -> None:
        client = edge.connects(receive_buffer=65536)
        connection = asked(client, upstream)
        body = b"0123456789abcdef" * 1_000_000
        connection.sends(response("200 OK", f"Content-Length: {len(body)}"))
        sent = connection.sends_until_blocked(body, at_most=len(body))
        client.receives_head()
        received = b""
        for _ in range(10):
            edge.advance(50)
            received += client.takes(200_000)
        received += flow(connection, client, body[sent:])
        received += client.takes(len(body) - len(received))
        assert received == body

    def test_a_client_that_asks_and_never_reads_is_given_up(self, edge: Edge) -> None:
        """Answers of the edge's own wait for it, bounded, and then not for ever."""
        client = edge.connects(receive_buffer=4096)
        client.sends_until_blocked(request("GET /", host="unknown.test") * 1000, at_most=10**8)
        edge.advance(61)
        edge.advance(61)
        client.is_gone()

    def test_a_client_that_asks_and_reads_late_gets_every_answer(self, edge: Edge) -> None:
        client = edge.connects(receive_buffer=65536)
        question = request("GET /", host="unknown.test")
        sent = client.sends_until_blocked(question * 1000, at_most=10**8)
        edge.advance(50)
        client.half_closes()
        answers = client.receives_rest()
        whole, rest = divmod(sent, len(question))
        assert answers.count(b"HTTP/1.1 404 Not Found\r\n") == whole
        assert answers.count(b"HTTP/1.1 400 Bad Request\r\n") == (1 if rest else 0)

    def test_the_last_response_is_waited_for_as_long_as_it_is_read(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        client = edge.connects(receive_buffer=65536)
        client.sends(request("GET /", "Connection: close"))
        connection = upstream.accepts()
        connection.receives_request()
        body = b"0123456789abcdef" * 500_000
        connection.sends(response("200 OK", f"Content-Length: {len(body)}"))
        client.receives_head()
        received = flow(connection, client, body)
        connection.closes()
        for _ in range(5):
            edge.advance(50)
            received += client.takes(200_000)
        received += client.receives_rest()
        assert received == body

    def test_the_last_response_is_cut_when_it_is_not_read(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        client = edge.connects(receive_buffer=4096)
        client.sends(request("GET /", "Connection: close"))
        connection = upstream.accepts()
        connection.receives_request()
        connection.sends(response("200 OK", "Content-Length: 100000000"))
        connection.sends_until_blocked(b"x" * 65536, at_most=100_000_000)
        edge.advance(61)
        edge.advance(61)
        connection.sees_end()
        client.receives_head()
        client.sees_broken_body()


@pytest.mark.settings(max_body=10)
class TestBodyLimit:
    """RFC 9110 section 15.5.14."""

    def test_a_body_of_the_limit_passes(self, client: Client, upstream: Upstream) -> None:
        sent = request("POST /", "Content-Length: 10", body="0123456789")
        assert exchange(client, upstream, sent).request.text == "0123456789"

    def test_a_length_over_the_limit_is_413_before_the_body_comes(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("POST /", "Content-Length: 11"))
        client.is_refused(413)
        upstream.accepts_nothing()

    def test_a_body_over_the_limit_is_413(self, client: Client, upstream: Upstream) -> None:
        client.sends(request("POST /", "Content-Length: 11", body="0123456789a"))
        client.is_refused(413)
        upstream.accepts_nothing()

    def test_chunks_over_the_limit_are_413_and_never_a_whole_request(
        self, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("POST /", "Transfer-Encoding: chunked", body=chunk("0123456789")))
        connection = upstream.accepts()
        connection.receives_head()
        connection.receives_data("0123456789")
        client.sends(chunk("a"))
        client.is_refused(413)
        connection.sees_broken_body()

    def test_chunks_of_the_limit_pass(self, client: Client, upstream: Upstream) -> None:
        body = chunk("01234") + chunk("56789") + chunk("")
        sent = request("POST /", "Transfer-Encoding: chunked", body=body)
        assert exchange(client, upstream, sent).request.text == "0123456789"

    def test_an_expectation_over_the_limit_is_413(self, client: Client, upstream: Upstream) -> None:
        client.sends(request("POST /", "Content-Length: 11", "Expect: 100-continue"))
        client.is_refused(413)
        upstream.accepts_nothing()

    def test_a_route_may_allow_more(self, edge: Edge, upstream: Upstream) -> None:
        edge.routes("app.test", upstream.target, max_body=20)
        sent = request("POST /", "Content-Length: 20", body="0123456789" * 2)
        assert exchange(edge.connects(), upstream, sent).response.status == 200

    def test_a_route_may_allow_less(self, edge: Edge, upstream: Upstream) -> None:
        edge.routes("app.test", upstream.target, max_body=5)
        client = edge.connects()
        client.sends(request("POST /", "Content-Length: 6", body="012345"))
        client.is_refused(413)

    def test_a_route_may_lift_the_limit(self, edge: Edge, upstream: Upstream) -> None:
        edge.routes("app.test", upstream.target, max_body=0)
        sent = request("POST /", "Content-Length: 5000", body="x" * 5000)
        assert exchange(edge.connects(), upstream, sent).response.status == 200


class TestConnectionLimit:
    """RFC 9110 section 15.6.4."""

    @pytest.mark.settings(max_connections=2)
    def test_past_the_limit_is_503_and_close(self, edge: Edge, upstream: Upstream) -> None:
        first, second = edge.connects(), edge.connects()
        connection = exchange(first, upstream).connection
        edge.settle()
        third = edge.connects()
        third.sends(request("GET /"))
        answer = third.receives_response()
        assert answer.status == 503
        assert answer.closes()
        third.sees_end()
        assert exchange(second, connection).response.status == 200
        assert exchange(first, connection).response.status == 200
        assert edge.metrics()["fairlead_client_connections_rejected_total"] == 1

    @pytest.mark.settings(max_connections=1)
    def test_far_past_the_limit_connections_are_dropped_without_a_word(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        """A flood must not cost an answer for each of its connections."""
        first = edge.connects()
        edge.settle()
        crowd = [edge.connects() for _ in range(300)]
        edge.settle()
        edge.settle()
        assert edge.metrics()["fairlead_client_connections_open"] < 150
        crowd[-1].sees_end()
        assert exchange(first, upstream).response.status == 200

    @pytest.mark.settings(max_connections=1)
    def test_a_place_that_is_free_again_is_given(self, edge: Edge, upstream: Upstream) -> None:
        first = edge.connects()
        connection = exchange(first, upstream).connection
        first.closes()
        edge.settle()
        assert exchange(edge.connects(), connection).response.status == 200

    @pytest.mark.settings(max_connections=1)
    def test_a_client_that_is_idle_gives_its_place_to_a_new_one(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        first = edge.connects()
        connection = exchange(first, upstream).connection
        edge.advance(IDLE_GRACE)
        assert exchange(edge.connects(), connection).response.status == 200
        first.sees_eof()
        assert edge.metrics()["fairlead_idle_clients_closed_total"] == 1
        assert edge.metrics()["fairlead_client_connections_rejected_total"] == 0

    @pytest.mark.settings(max_connections=1)
    def test_one_whose_request_is_on_its_way_keeps_it(self, edge: Edge, upstream: Upstream) -> None:
        first = edge.connects()
        connection = exchange(first, upstream).connection
        edge.advance(IDLE_GRACE)
        first.sends(request("GET /"))
        connection.receives_request()
        edge.connects().is_refused(503)
        connection.sends(ok("hello"))
        assert first.receives_response().status == 200

    @pytest.mark.settings(max_connections=1)
    def test_one_that_sends_a_head_slowly_keeps_it_for_its_time(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        first = edge.connects()
        first.sends(b"GET / HTTP/1.1\r\n")
        edge.settle()
        edge.advance(IDLE_GRACE)
        edge.connects().is_refused(503)
        first.sends(b"Host: app.test\r\n\r\n")
        connection = upstream.accepts()
        connection.receives_request()
        connection.sends(ok("hello"))
        assert first.receives_response().status == 200

    def test_open_connections_are_counted(self, edge: Edge) -> None:
        clients = [edge.connects() for _ in range(3)]
        edge.settle()
        assert edge.metrics()["fairlead_client_connections_open"] == 3
        clients[0].closes()
        edge.settle()
        assert edge.metrics()["fairlead_client_connections_open"] == 2
        assert edge.metrics()["fairlead_client_connections_accepted_total"] == 3


class TestStagedClose:
    """RFC 9112 section 9.6: a lingering close has an end of its own."""

    def test_a_refused_client_that_stays_is_cut(self, edge: Edge, client: Client) -> None:
        client.sends(b"NONSENSE\r\n\r\n")
        client.is_refused(400)
        for _ in range(10):
            edge.advance(10)
        client.is_gone()

    def test_a_refused_client_that_leaves_is_forgotten(self, edge: Edge, client: Client) -> None:
        client.sends(b"NONSENSE\r\n\r\n")
        client.is_refused(400)
        client.closes()
        edge.settle()
        assert edge.metrics()["fairlead_client_connections_open"] == 0

    def test_a_refused_client_cannot_prolong_it_by_sending(
        self, edge: Edge, client: Client
    ) -> None:
        client.sends(b"NONSENSE\r\n\r\n")
        client.is_refused(400)
        for _ in range(60):
            client.keeps_sending(b"more")
            edge.advance(1)
        client.is_gone()

"""Which targets are well: what active checks and requests find out, and who gets requests then.

The edge sweeps twice a second by the true time, too, so a check that is due can begin a little
before a test asks for it; what follows is the same.
"""

import asyncio
import json
import logging
from collections.abc import Callable

import pytest

from edge.upstream import health
from edge.upstream.connection import UpstreamConnection as Connection
from edge.upstream.health import TargetState, Verdict
from edge.upstream.pool import Pool
from edge.upstream.probe import MAX_BODY
from edge.upstream.target import INITIAL_BACKOFF
from tests.harness import Client, Conversation, Edge, Upstream, UpstreamConnection, exchange
from tests.messages import Message, chunk, chunks, ok, request, response


@pytest.fixture
def edge(make_edge: Callable[..., Edge]) -> Edge:
    """An edge without a route."""
    return make_edge()


@pytest.fixture
def other(conversation: Conversation) -> Upstream:
    """A second upstream."""
    return Upstream(conversation)


def looks(edge: Edge, upstream: Upstream) -> tuple[UpstreamConnection, Message]:
    """The next check of `upstream`, when it is due."""
    edge.advance(0)
    connection = upstream.accepts()
    return connection, connection.receives_request()


def check(
    edge: Edge,
    upstream: Upstream,
    answer: bytes | int = 200,
    after: float = 5,
) -> UpstreamConnection:
    """`after` seconds later `upstream` is checked, and answers."""
    edge.advance(after)
    connection, _ = looks(edge, upstream)
    sent = response(f"{answer} X", "Content-Length: 0") if isinstance(answer, int) else answer
    connection.sends(sent)
    edge.settle()
    return connection


def fail(edge: Edge, upstream: Upstream, times: int) -> None:
    """That many checks, which fail."""
    for _ in range(times):
        check(edge, upstream, 503)


def state(edge: Edge, upstream: Upstream) -> TargetState:
    """What the edge knows of `upstream`."""

    async def look() -> list[TargetState]:
        return edge.worker.state.health.states()

    (found,) = (each for each in edge.calls(look()) if each.address == upstream.target)
    return found


def becomes(edge: Edge, upstream: Upstream, wanted: str) -> TargetState:
    """`state`, when it is the one that is wanted: a connection may take a while to fail."""
    for _ in range(200):
        found = state(edge, upstream)
        if found.state == wanted:
            return found
        edge.settle()
    return edge.conversation.fails(f"{found} did not become {wanted}")


def ask(client: Client, path: str, answer: bytes | None, *upstreams: Upstream) -> Upstream:
    """One request; returns which upstream got it. It answers 200, or `answer`, and closes."""
    client.sends(request(f"GET {path}"))
    for _ in range(100):
        for upstream in upstreams:
            connection = upstream.accepts_if_connected()
            if connection is not None:
                assert connection.receives_request().target == path
                connection.sends(answer or ok("done", "Connection: close"))
                client.receives_response()
                client.conversation.settle()
                return upstream
    return client.conversation.fails("no upstream got the request")


def broken(status: int) -> bytes:
    """An answer that speaks against the target."""
    return response(f"{status} X", "Content-Length: 0", "Connection: close")


def looks_after(edge: Edge, upstream: Upstream, after: float) -> tuple[UpstreamConnection, Message]:
    """The next check of `upstream`, `after` seconds later."""
    edge.advance(after)
    return looks(edge, upstream)


def verdicts(edge: Edge) -> list[Verdict]:
    """What the worker holds."""

    async def look() -> list[Verdict]:
        return edge.worker.state.health.verdicts()

    return edge.calls(look())


def reason_of(edge: Edge, upstream: Upstream) -> str:
    """The last failure; empty as long as nobody used the target."""

    async def look() -> list[TargetState]:
        return edge.worker.state.health.states()

    return "".join(each.reason for each in edge.calls(look()) if each.address == upstream.target)


def ask_any(client: Client, upstream: Upstream, other: Upstream, status: int = 502) -> Upstream:
    """One request, which `upstream` answers with `status` and `other` with 200."""
    client.sends(request("GET /"))
    for _ in range(100):
        for each in (upstream, other):
            connection = each.accepts_if_connected()
            if connection is not None:
                connection.receives_request()
                bad = each is upstream
                connection.sends(broken(status) if bad else ok("done", "Connection: close"))
                client.receives_response()
                client.conversation.settle()
                return each
    return client.conversation.fails("no upstream got the request")


class TestChecks:
    def test_a_check_is_a_request_of_its_own_that_no_counter_takes_for_a_clients(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, health_path="/up?deep=1")
        connection, asked = looks(edge, upstream)
        assert asked.line == "GET /up?deep=1 HTTP/1.1"
        assert asked["Host"] == upstream.target
        assert asked["User-Agent"] == "fairlead-health"
        assert asked.closes()
        connection.sends(ok("fine"))
        connection.sees_end()
        metrics = edge.metrics()
        assert metrics['fairlead_health_checks_total{result="passed"}'] == 1
        assert metrics[f'fairlead_upstream_up{{target="{upstream.target}"}}'] == 1
        assert metrics["fairlead_upstream_pool_misses_total"] == 0
        assert metrics['fairlead_http_requests_total{code="2xx",route=""}'] == 0
        assert 'fairlead_http_requests_total{code="2xx",route="app.test"}' not in metrics
        assert state(edge, upstream) == TargetState(upstream.target, "healthy", "", None, 0, 0)

    def test_the_host_is_what_the_route_says(self, edge: Edge, upstream: Upstream) -> None:
        edge.routes("app.test", upstream.target, health_path="/", health_host="up.test:8080")
        assert looks(edge, upstream)[1]["Host"] == "up.test:8080"

    def test_where_no_route_asks_for_it_there_is_none(self, edge: Edge, upstream: Upstream) -> None:
        edge.routes("app.test", upstream.target)
        edge.advance(100)
        upstream.accepts_nothing()
        exchange(edge.connects(), upstream)
        assert state(edge, upstream).state == "unchecked"
        assert "fairlead_upstream_up" not in "".join(edge.metrics())

    def test_the_first_check_is_believed_at_once(
        self, edge: Edge, upstream: Upstream, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        edge.routes("app.test", upstream.target, health_path="/up")
        looked, _ = looks(edge, upstream)
        assert state(edge, upstream).state == "unchecked"
        looked.sends(response("503 X", "Content-Length: 0"))
        edge.settle()
        found = state(edge, upstream)
        assert (found.state, found.reason) == ("unhealthy", "GET /up: 503")
        assert found.since is not None
        assert f"target {upstream.target} is unavailable: GET /up: 503" in caplog.text
        metrics = edge.metrics()
        assert metrics[f'fairlead_upstream_up{{target="{upstream.target}"}}'] == 0
        assert metrics['fairlead_health_checks_total{result="failed"}'] == 1

    def test_what_is_out_gets_no_requests_until_it_is_back(
        self, edge: Edge, upstream: Upstream, other: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, other.target)
        edge.routes("checks.test", upstream.target, health_path="/up", health_rise=1)
        client = edge.connects()
        check(edge, upstream, 500)
        for _ in range(4):
            assert ask(client, "/", None, upstream, other) is other
        check(edge, upstream)
        taken = {ask(client, "/", None, upstream, other) for _ in range(2)}
        assert taken == {upstream, other}

    def test_it_takes_three_failures_to_be_out_and_two_answers_to_be_back(
        self, edge: Edge, upstream: Upstream, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        edge.routes("app.test", upstream.target, health_path="/up")
        check(edge, upstream)
        fail(edge, upstream, 2)
        assert (state(edge, upstream).state, state(edge, upstream).reason) == (
            "healthy",
            "GET /up: 503",
        )
        check(edge, upstream)
        fail(edge, upstream, 2)
        assert state(edge, upstream).state == "healthy"
        assert "is unavailable" not in caplog.text
        fail(edge, upstream, 1)
        found = state(edge, upstream)
        assert (found.state, found.reason) == ("unhealthy", "GET /up: 503 (3 in a row)")
        check(edge, upstream)
        fail(edge, upstream, 1)
        check(edge, upstream)
        assert state(edge, upstream).state == "unhealthy"
        check(edge, upstream)
        assert state(edge, upstream).state == "healthy"
        assert caplog.text.count("is unavailable: GET /up: 503 (3 in a row)") == 1
        assert caplog.text.count("is available again: GET /up: 200 (2 in a row)") == 1

    @pytest.mark.parametrize(
        ("options", "status", "wanted"),
        [
            ({}, 200, "healthy"),
            ({}, 302, "healthy"),
            ({}, 404, "unhealthy"),
            ({"health_status": "204,401-404"}, 204, "healthy"),
            ({"health_status": "204,401-404"}, 404, "healthy"),
            ({"health_status": "204,401-404"}, 405, "unhealthy"),
            ({"health_status": "204,401-404"}, 200, "unhealthy"),
        ],
    )
    def test_the_route_says_which_answers_are_good(
        self, edge: Edge, upstream: Upstream, options: dict[str, object], status: int, wanted: str
    ) -> None:
        edge.routes("app.test", upstream.target, health_path="/", **options)
        check(edge, upstream, status)
        assert state(edge, upstream).state == wanted

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            (
                b"nonsense\r\n\r\n",
                "GET /up: the upstream sent an invalid response: invalid status line",
            ),
            (
                response("101 X", "Connection: upgrade", "Upgrade: x"),
                "GET /up: the upstream sent an invalid response: unexpected upgrade",
            ),
        ],
    )
    def test_a_malformed_answer_is_a_bad_one(
        self, edge: Edge, upstream: Upstream, answer: bytes, reason: str
    ) -> None:
        edge.routes("app.test", upstream.target, health_path="/up")
        check(edge, upstream, answer)
        assert becomes(edge, upstream, "unhealthy").reason == reason

    @pytest.mark.parametrize("end", ["closes", "resets"])
    def test_an_upstream_that_breaks_off_is_not_well(
        self, edge: Edge, upstream: Upstream, end: str
    ) -> None:
        edge.routes("app.test", upstream.target, health_path="/up")
        connection, _ = looks(edge, upstream)
        getattr(connection, end)()
        assert (
            becomes(edge, upstream, "unhealthy").reason
            == "GET /up: the upstream closed the connection"
        )

    def test_an_upstream_that_refuses_is_not_well(self, edge: Edge, upstream: Upstream) -> None:
        upstream.refuses()
        edge.routes("app.test", upstream.target, health_path="/up", health_rise=1)
        edge.advance(0)
        assert becomes(edge, upstream, "unhealthy").reason == "connection refused"
        upstream.listens()
        check(edge, upstream)
        assert state(edge, upstream).state == "healthy"

    def test_an_upstream_that_is_not_reached_in_time_is_not_well(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        upstream.swallows()
        edge.routes("app.test", upstream.target, health_path="/up", health_timeout=3)
        edge.advance(0)
        edge.advance(2.9)
        assert state(edge, upstream).state == "unchecked"
        edge.advance(0.1)
        assert becomes(edge, upstream, "unhealthy").reason == "no connection within 3 s"

    def test_an_upstream_that_does_not_answer_in_time_is_not_well(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, health_path="/up")
        connection, _ = looks(edge, upstream)
        connection.sends(response("100 Continue") + b"HTTP/1.1 200 OK\r\n")
        edge.advance(1.9)
        assert state(edge, upstream).state == "unchecked"
        edge.advance(0.1)
        assert becomes(edge, upstream, "unhealthy").reason == "no response within 2 s"
        connection.sees_end()

    @pytest.mark.parametrize(
        "answer",
        [
            response("200 OK", "Content-Length: 100001", body="x" * 100_000),
            response("200 OK", "Transfer-Encoding: chunked", body=chunk("x" * 100_000)),
            response("200 OK", body="x" * 100_000),
            response("200 OK", "Transfer-Encoding: chunked", body=chunks("fine")),
            response("200 OK", "Content-Length: 4", body="fine"),
        ],
    )
    def test_the_head_decides_and_the_body_is_read_within_bounds(
        self, edge: Edge, upstream: Upstream, answer: bytes
    ) -> None:
        assert MAX_BODY < 100_000
        edge.routes("app.test", upstream.target, health_path="/")
        connection, _ = looks(edge, upstream)
        connection.keeps_sending(answer)
        connection.sees_end()
        assert becomes(edge, upstream, "healthy").reason == ""
        check(edge, upstream)

    def test_a_body_that_does_not_end_is_left_at_the_deadline(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, health_path="/")
        connection = check(edge, upstream, response("200 OK", "Content-Length: 4", body="fi"))
        edge.advance(2)
        connection.sees_end()
        check(edge, upstream, after=3)
        assert state(edge, upstream) == TargetState(upstream.target, "healthy", "", None, 0, 0)

    def test_a_body_that_breaks_off_does_not_undo_the_verdict(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, health_path="/")
        connection = check(edge, upstream, response("200 OK", "Content-Length: 9", body="fi"))
        becomes(edge, upstream, "healthy")
        connection.closes()
        check(edge, upstream)
        assert edge.metrics()['fairlead_health_checks_total{result="failed"}'] == 0

    @pytest.mark.pure
    def test_a_fault_in_connecting_is_a_failed_check_and_is_logged(
        self,
        edge: Edge,
        upstream: Upstream,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        async def connect(_pool: object, _booked: object) -> None:
            raise ValueError("Bad luck")

        monkeypatch.setattr("edge.upstream.pool.Pool._open_connection", connect)
        edge.routes("app.test", upstream.target, health_path="/")
        edge.advance(0)
        assert becomes(edge, upstream, "unhealthy").reason == "bad luck"
        assert f"connecting to {upstream.target} failed" in caplog.text


class TestBeats:
    """When which target is checked."""

    def test_a_target_is_checked_once_per_interval(self, edge: Edge, upstream: Upstream) -> None:
        edge.routes("app.test", upstream.target, health_path="/", health_interval=10)
        check(edge, upstream, after=0)
        edge.advance(9.9)
        upstream.accepts_nothing()
        check(edge, upstream, after=0.1)
        edge.advance(35)
        check(edge, upstream, after=0)
        edge.advance(4.9)
        upstream.accepts_nothing()
        check(edge, upstream, after=0.1)

    def test_a_target_has_one_check_at_a_time(self, edge: Edge, upstream: Upstream) -> None:
        options = {"health_path": "/", "health_interval": 1, "health_timeout": 10}
        edge.routes("app.test", upstream.target, **options)
        connection, _ = looks(edge, upstream)
        edge.advance(5)
        upstream.accepts_nothing()
        connection.sends(ok())
        edge.settle()
        check(edge, upstream, after=0)

    def test_many_targets_are_spread_over_time(
        self, edge: Edge, conversation: Conversation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(health, "STARTS_PER_SECOND", 1)
        upstreams = [Upstream(conversation) for _ in range(4)]
        edge.routes("app.test", *(each.target for each in upstreams), health_path="/")
        for _ in range(2):
            waiting = list(upstreams)
            for _ in upstreams:
                edge.advance(0)
                (due,) = (each for each in waiting if each.accepts_if_connected() is not None)
                waiting.remove(due)
                edge.advance(1)
            edge.advance(1)

    def test_no_target_waits_longer_than_its_interval(
        self, edge: Edge, conversation: Conversation, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(health, "STARTS_PER_SECOND", 0.1)
        upstreams = [Upstream(conversation) for _ in range(4)]
        edge.routes("app.test", *(each.target for each in upstreams), health_path="/")
        edge.advance(5)
        for each in upstreams:
            each.accepts()


class TestSeveralRoutes:
    """A target is available or not for all routes."""

    def test_the_same_check_is_made_once(self, edge: Edge, upstream: Upstream) -> None:
        edge.routes("a.test", upstream.target, health_path="/up")
        edge.routes("b.test", upstream.target, health_path="/up")
        check(edge, upstream)
        edge.advance(4)
        upstream.accepts_nothing()

    def test_all_checks_have_to_pass(self, edge: Edge, upstream: Upstream) -> None:
        edge.routes("a.test", upstream.target, health_path="/a", health_fall=1, health_rise=1)
        edge.routes("b.test", upstream.target, health_path="/b", health_fall=1, health_rise=1)

        def answer(**statuses: int) -> None:
            edge.advance(5)
            for _ in statuses:
                connection, asked = looks(edge, upstream)
                status = statuses[asked.target[1:]]
                connection.sends(response(f"{status} X", "Content-Length: 0"))
                edge.settle()

        answer(a=200, b=200)
        assert state(edge, upstream).state == "healthy"
        answer(a=200, b=500)
        assert state(edge, upstream).state == "unhealthy"
        answer(a=500, b=200)
        assert state(edge, upstream).state == "unhealthy"
        answer(a=200, b=200)
        assert state(edge, upstream).state == "healthy"

    def test_a_slow_check_does_not_keep_another_from_its_turn(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        edge.routes("a.test", upstream.target, health_path="/a", health_interval=1)
        edge.routes("b.test", upstream.target, health_path="/b", health_interval=1)
        asked = []
        for _ in range(4):
            asked.append(looks(edge, upstream)[1].target)
            edge.advance(2)
        assert sorted(asked[:2]) == sorted(asked[2:]) == ["/a", "/b"]

    def test_the_check_that_failed_goes_with_its_route(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        edge.routes("a.test", upstream.target, health_path="/a")
        check(edge, upstream, 500)
        edge.routes("b.test", upstream.target, health_path="/b")
        check(edge, upstream, 200, after=0)
        assert state(edge, upstream).state == "unhealthy"
        edge.unroutes("a.test")
        assert state(edge, upstream).state == "healthy"

    def test_without_checks_nothing_keeps_it_out(
        self, edge: Edge, upstream: Upstream, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        edge.routes("app.test", upstream.target, health_path="/")
        check(edge, upstream, 500)
        edge.routes("app.test", upstream.target)
        assert state(edge, upstream).state == "unchecked"
        assert "fairlead_upstream_up" not in "".join(edge.metrics())
        assert (
            f"target {upstream.target} is available again: its health check was removed"
            in caplog.text
        )
        edge.advance(100)
        upstream.accepts_nothing()


class TestSwaps:
    def test_the_state_survives_a_swap_if_the_target_does(
        self, edge: Edge, upstream: Upstream, other: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, health_path="/")
        check(edge, upstream, 500)
        edge.routes("app.test", upstream.target, other.target, health_path="/")
        assert state(edge, upstream).state == "unhealthy"
        edge.routes("app.test", upstream.target, health_path="/other")
        assert state(edge, upstream).state == "unhealthy"
        check(edge, upstream, after=0)
        assert state(edge, upstream).state == "healthy"

    def test_a_target_that_comes_back_starts_anew(
        self, edge: Edge, upstream: Upstream, other: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, health_path="/")
        check(edge, upstream, 500)
        edge.routes("app.test", other.target)
        assert "fairlead_upstream_up" not in "".join(edge.metrics())
        edge.routes("app.test", upstream.target, health_path="/")
        assert state(edge, upstream).state == "unchecked"
        check(edge, upstream, after=0)
        assert state(edge, upstream).state == "healthy"

    def test_a_check_under_way_ends_with_what_asked_for_it(
        self, edge: Edge, upstream: Upstream, other: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, health_path="/old")
        connection, _ = looks(edge, upstream)
        edge.routes("app.test", upstream.target, health_path="/new")
        connection.sees_end()
        connection, asked = looks(edge, upstream)
        assert asked.target == "/new"
        edge.routes("app.test", other.target)
        connection.sees_end()

    @pytest.mark.pure
    def test_a_connection_that_comes_when_nobody_wants_it_is_closed(
        self, edge: Edge, upstream: Upstream, other: Upstream, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        connect = Pool._open_connection

        async def stubborn(pool: Pool, booked: list[Connection]) -> Connection:
            connection = await connect(pool, booked)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                pass  # too late: it is there
            return connection

        monkeypatch.setattr(Pool, "_open_connection", stubborn)
        edge.routes("app.test", upstream.target, health_path="/")
        edge.advance(0)
        connection = upstream.accepts()
        edge.routes("app.test", other.target)
        connection.sees_end()
        upstream.accepts_nothing()

    @pytest.mark.pure
    def test_a_connection_that_is_dropped_at_once_is_a_failed_check(
        self, edge: Edge, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        connect = Pool._open_connection

        async def unlucky(pool: Pool, booked: list[Connection]) -> Connection:
            connection = await connect(pool, booked)
            connection.transport.abort()
            return connection

        monkeypatch.setattr(Pool, "_open_connection", unlucky)
        edge.routes("app.test", upstream.target, health_path="/")
        edge.advance(0)
        assert becomes(edge, upstream, "unhealthy").reason == "the upstream closed the connection"

    def test_a_worker_that_stops_breaks_its_checks_off(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, health_path="/")
        connection, _ = looks(edge, upstream)
        edge.stops()
        connection.sees_end()


class TestRequests:
    """What requests say of a target, where the route has a limit of failures in a row."""

    @pytest.mark.parametrize("status", [502, 504])
    def test_failures_in_a_row_take_a_target_out_and_a_trial_brings_it_back(
        self,
        edge: Edge,
        upstream: Upstream,
        other: Upstream,
        status: int,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.INFO)
        edge.routes("app.test", upstream.target, other.target, max_fails=2)
        client = edge.connects()
        taken = [ask_any(client, upstream, other, status) for _ in range(4)]
        assert taken.count(upstream) == 2
        found = state(edge, upstream)
        assert (found.state, found.reason) == ("ejected", f"answered {status} (2 in a row)")
        assert (
            f"target {upstream.target} is unavailable: answered {status} (2 in a row)"
            in caplog.text
        )
        for _ in range(4):
            assert ask(client, "/", None, upstream, other) is other
        edge.advance(1)
        assert state(edge, upstream).state == "ejected"
        trials = [ask(client, "/", None, upstream, other) for _ in range(2)]
        assert upstream in trials
        assert state(edge, upstream).state == "unchecked"
        assert f"target {upstream.target} is available again: answered 200" in caplog.text

    def test_only_one_request_is_the_trial_and_its_failure_lengthens_the_rest(
        self, edge: Edge, upstream: Upstream, other: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, other.target, max_fails=1)
        client = edge.connects()
        while ask_any(client, upstream, other) is not upstream:
            pass
        rests = []
        for _ in range(7):
            seconds = 0
            # Of two requests, one would go to the upstream if it were in.
            while upstream not in {ask_any(client, upstream, other) for _ in range(2)}:
                edge.advance(1)
                seconds += 1
            rests.append(seconds)
        assert rests == [1, 2, 4, 8, 16, 30, 30]

    def test_other_requests_pass_it_over_while_the_trial_is_under_way(
        self, edge: Edge, upstream: Upstream, other: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, other.target, max_fails=1)
        client = edge.connects()
        while ask_any(client, upstream, other) is not upstream:
            pass
        edge.advance(1)
        clients = [edge.connects() for _ in range(6)]
        for each in clients:
            each.sends(request("GET /trial"))
            edge.settle()
        trial = upstream.accepts()
        upstream.accepts_nothing()
        trial.receives_request()
        trial.sends(ok("well"))
        edge.settle()
        assert state(edge, upstream).state == "unchecked"

    def test_a_trial_without_an_outcome_is_followed_by_another(
        self, edge: Edge, upstream: Upstream, other: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, other.target, max_fails=1)
        client = edge.connects()
        while ask_any(client, upstream, other) is not upstream:
            pass
        edge.advance(1)
        clients = [edge.connects() for _ in range(2)]
        for each in clients:
            each.sends(request("GET /trial"))
            edge.settle()
        for server in (upstream, other):
            server.accepts().receives_request()
        for each in clients:
            each.resets()
        edge.settle()
        assert state(edge, upstream).state == "ejected"
        edge.advance(1)
        assert upstream in {ask(client, "/", None, upstream, other) for _ in range(2)}

    def test_an_answer_in_between_begins_the_count_anew(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, max_fails=2)
        client = edge.connects()
        for status in (502, 500, 502, 404, 504):
            ask(client, "/", broken(status), upstream)
            assert state(edge, upstream).state == "unchecked"
        ask(client, "/", broken(502), upstream)
        assert state(edge, upstream).state == "ejected"

    def test_a_failure_out_of_need_does_not_lengthen_the_rest(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, max_fails=1)
        client = edge.connects()
        for _ in range(3):
            ask(client, "/", broken(502), upstream)
        assert [verdict.ejection_time for verdict in verdicts(edge)] == [1]

    def test_an_answer_that_streams_counts_once(self, edge: Edge, upstream: Upstream) -> None:
        edge.routes("app.test", upstream.target, health_path="/", max_fails=2)
        check(edge, upstream, 500, after=0)
        bad = response("502 X", "Transfer-Encoding: chunked", body=chunks("bad"))
        exchange(edge.connects(), upstream, answered=bad)
        assert [verdict.kind for verdict in verdicts(edge)] == ["checks"]

    def test_without_a_limit_bad_answers_are_only_remembered(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target)
        client = edge.connects()
        for _ in range(5):
            client.sends(request("GET /"))
            connection = upstream.accepts()
            connection.receives_request()
            connection.closes()
            assert client.receives_response().status == 502
        found = state(edge, upstream)
        assert (found.state, found.reason) == ("unchecked", "the upstream closed the connection")

    def test_connections_that_fail_count(self, edge: Edge, upstream: Upstream) -> None:
        edge.routes("app.test", upstream.target, max_fails=3)
        upstream.refuses()
        client = edge.connects()
        for _ in range(3):
            assert "the upstream could not be connected to (3 in a row)" not in reason_of(
                edge, upstream
            )
            client.sends(request("GET /"))
            assert client.receives_response().status == 502
        assert state(edge, upstream).reason == "the upstream could not be connected to (3 in a row)"

    def test_answers_that_break_off_or_do_not_come_count(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, max_fails=4)
        client = edge.connects()
        client.sends(request("GET /"))
        connection = upstream.accepts()
        connection.receives_request()
        connection.sends(b"nonsense\r\n\r\n")
        assert client.receives_response().status == 502
        client.sends(request("GET /"))
        upstream.accepts().receives_request()
        edge.advance(61)
        assert client.receives_response().status == 504
        client.sends(request("GET /"))
        connection = upstream.accepts()
        connection.receives_request()
        connection.sends(response("200 OK", "Content-Length: 9", body="fi"))
        client.receives_head()
        connection.closes()
        client.sees_broken_body()
        assert state(edge, upstream).state == "unchecked"
        ask(edge.connects(), "/", broken(502), upstream)
        assert state(edge, upstream).state == "ejected"

    def test_a_request_of_a_route_without_a_limit_can_be_the_trial(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, max_fails=1)
        client = edge.connects()
        ask(client, "/", broken(502), upstream)
        edge.routes("app.test", upstream.target)
        edge.advance(1)
        ask(client, "/", None, upstream)
        assert state(edge, upstream).state == "unchecked"

    @pytest.mark.parametrize(
        ("asked", "answer"),
        [
            (
                request("GET /"),
                response("200 OK", "Transfer-Encoding: chunked", body=chunk("event")),
            ),
            (
                request("GET /", "Connection: upgrade", "Upgrade: websocket"),
                response("101 X", "Connection: upgrade", "Upgrade: websocket"),
            ),
        ],
    )
    def test_a_trial_succeeds_with_its_head(
        self, edge: Edge, upstream: Upstream, asked: bytes, answer: bytes
    ) -> None:
        edge.routes("app.test", upstream.target, max_fails=1)
        client = edge.connects()
        ask(client, "/", broken(502), upstream)
        edge.advance(1)
        client.sends(asked)
        connection = upstream.accepts()
        connection.receives_head()
        connection.sends(answer)
        client.receives_head()
        assert state(edge, upstream).state == "unchecked"
        client.resets()
        edge.settle()

    def test_a_trial_that_streams_a_bad_answer_fails_once(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, max_fails=1)
        client = edge.connects()
        ask(client, "/", broken(502), upstream)
        edge.advance(1)
        bad = response("504 X", "Transfer-Encoding: chunked", body=chunks("bad"))
        exchange(client, upstream, answered=bad)
        assert [verdict.ejection_time for verdict in verdicts(edge)] == [2]

    def test_what_was_begun_before_says_nothing_new(self, edge: Edge, upstream: Upstream) -> None:
        edge.routes("app.test", upstream.target, max_fails=1)
        slow = edge.connects()
        slow.sends(request("GET /slow"))
        connection = upstream.accepts()
        connection.receives_request()
        edge.advance(1)
        ask(edge.connects(), "/", broken(502), upstream)
        connection.sends(ok("late"))
        assert slow.receives_response().text == "late"
        assert state(edge, upstream).state == "ejected"

    def test_a_request_on_a_target_that_is_gone_says_nothing(
        self, edge: Edge, upstream: Upstream, other: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, max_fails=1)
        first, second = edge.connects(), edge.connects()
        connections = []
        for client in (first, second):
            client.sends(request("GET /"))
            connections.append(upstream.accepts())
            connections[-1].receives_request()
        edge.routes("app.test", other.target, max_fails=1)
        edge.routes("app.test", upstream.target, max_fails=1)
        exchange(edge.connects(), upstream)
        connections[0].sends(broken(502))
        connections[1].sends(ok())
        first.receives_response()
        second.receives_response()
        assert state(edge, upstream).state == "unchecked"

    def test_a_check_that_brings_it_back_ends_the_rest(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        options = {"health_path": "/up", "health_rise": 1, "health_fall": 1, "max_fails": 1}
        edge.routes("app.test", upstream.target, **options)
        check(edge, upstream, after=0)
        check(edge, upstream, 500)
        ask(edge.connects(), "/", broken(502), upstream)
        check(edge, upstream)
        assert state(edge, upstream).state == "healthy"

    def test_a_check_that_passes_all_the_time_does_not(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, health_path="/up", max_fails=1)
        check(edge, upstream, after=0)
        ask(edge.connects(), "/", broken(502), upstream)
        check(edge, upstream)
        assert state(edge, upstream).state == "ejected"
        metrics = edge.metrics()
        assert metrics[f'fairlead_upstream_up{{target="{upstream.target}"}}'] == 0


class TestAllOut:
    """Where nobody is well, trying is better than giving up."""

    def test_the_only_target_is_tried_and_that_is_counted(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, health_path="/")
        check(edge, upstream, after=0)
        client = edge.connects()
        ask(client, "/", None, upstream)
        name = 'fairlead_upstream_panic_picks_total{route="app.test"}'
        assert edge.metrics()[name] == 0
        fail(edge, upstream, 3)
        ask(client, "/", None, upstream)
        ask(client, "/", None, upstream)
        assert edge.metrics()[name] == 2
        assert state(edge, upstream).state == "unhealthy"

    def test_of_several_each_gets_its_share(
        self, edge: Edge, upstream: Upstream, other: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, other.target, health_path="/")
        for each in (upstream, other):
            check(edge, each, 500, after=1)
        client = edge.connects()
        taken = [ask(client, "/", None, upstream, other) for _ in range(4)]
        assert taken.count(upstream) == taken.count(other) == 2
        assert edge.metrics()['fairlead_upstream_panic_picks_total{route="app.test"}'] == 4

    def test_a_request_that_has_failed_on_a_good_target_is_not_counted(
        self, edge: Edge, upstream: Upstream, other: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, other.target)
        edge.routes("checks.test", other.target, health_path="/")
        check(edge, other, 500, after=0)
        upstream.refuses()
        client = edge.connects()
        assert ask(client, "/", None, other) is other
        assert edge.metrics()['fairlead_upstream_panic_picks_total{route="app.test"}'] == 0

    def test_a_success_out_of_need_brings_a_resting_target_back(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, max_fails=1)
        client = edge.connects()
        ask(client, "/", broken(502), upstream)
        ask(client, "/", None, upstream)
        assert state(edge, upstream).state == "unchecked"


class Pair:
    """Two workers with one database, and verdicts that pass between them as a supervisor would."""

    def __init__(self, make_edge: Callable[..., Edge]) -> None:
        self.leader = make_edge()
        self.follower = make_edge()
        self.told: list[Verdict] = []
        self.leader.worker.state.health.on_verdict = self._tell
        self.follower.worker.state.health.on_verdict = self._tell
        self.follower.worker.state.health.probing = False

    def _tell(self, verdict: Verdict) -> None:
        self.told.append(verdict)

    def passes_on(self) -> None:
        """Every worker hears of every verdict, its own included."""
        told, self.told = self.told, []
        for verdict in told:
            heard = Verdict.from_json(json.loads(json.dumps(verdict.as_json())))
            for edge in (self.leader, self.follower):
                hears(edge, heard)

    def routes(self, domain: str, *targets: str, **options: object) -> None:
        """A route that both serve."""
        self.follower.reloads(self.leader.routes(domain, *targets, **options))


def hears(edge: Edge, verdict: Verdict) -> None:
    """A worker is told of a verdict."""

    async def apply() -> None:
        edge.worker.state.health.apply(verdict)

    edge.calls(apply())


@pytest.fixture
def pair(make_edge: Callable[..., Edge]) -> Pair:
    """Two workers."""
    return Pair(make_edge)


class TestWorkers:
    """A target is available or not for all workers."""

    def test_one_worker_checks_and_all_follow(
        self, pair: Pair, upstream: Upstream, other: Upstream
    ) -> None:
        pair.routes("app.test", upstream.target, other.target)
        pair.routes("checks.test", upstream.target, health_path="/up", health_rise=1)
        pair.follower.advance(100)
        upstream.accepts_nothing()
        check(pair.leader, upstream, 500, after=0)
        assert pair.told == [Verdict(upstream.target, False, "GET /up: 500", "checks")]
        assert state(pair.follower, upstream).state == "unchecked"
        pair.passes_on()
        for each in (pair.leader, pair.follower):
            assert state(each, upstream).state == "unhealthy"
        client = pair.follower.connects()
        for _ in range(3):
            assert ask(client, "/", None, upstream, other) is other
        name = f'fairlead_upstream_up{{target="{upstream.target}"}}'
        assert pair.follower.metrics()[name] == 0
        check(pair.leader, upstream)
        pair.passes_on()
        assert state(pair.follower, upstream).state == "healthy"
        assert upstream in {ask(client, "/", None, upstream, other) for _ in range(2)}

    def test_requests_on_any_worker_take_a_target_out_for_all(
        self, pair: Pair, upstream: Upstream
    ) -> None:
        pair.routes("app.test", upstream.target, max_fails=1)
        ask(pair.follower.connects(), "/", broken(502), upstream)
        assert pair.told == [
            Verdict(upstream.target, False, "answered 502", "requests", INITIAL_BACKOFF)
        ]
        pair.passes_on()
        for each in (pair.leader, pair.follower):
            assert state(each, upstream).state == "ejected"
        ask(pair.follower.connects(), "/", None, upstream)
        pair.passes_on()
        assert state(pair.leader, upstream).state == "unchecked"

    def test_the_trial_is_first_of_all_the_one_of_the_worker_that_saw_the_failures(
        self, pair: Pair, upstream: Upstream, other: Upstream
    ) -> None:
        pair.routes("app.test", upstream.target, other.target, max_fails=1)
        client = pair.leader.connects()
        while ask_any(client, upstream, other) is not upstream:
            pass
        pair.passes_on()
        follows = pair.follower.connects()
        for each in (pair.leader, pair.follower):
            each.advance(1)
        for _ in range(3):
            assert ask(follows, "/", None, upstream, other) is other
        assert upstream in {ask_any(client, upstream, other) for _ in range(2)}
        assert pair.told[-1].ejection_time == 2
        pair.follower.advance(1)
        assert upstream in {ask(follows, "/", None, upstream, other) for _ in range(2)}

    def test_a_rest_that_is_renewed_in_the_same_words_is_renewed(
        self, pair: Pair, upstream: Upstream
    ) -> None:
        pair.routes("app.test", upstream.target)
        verdict = Verdict(upstream.target, False, "answered 502", "requests", 30)
        hears(pair.leader, verdict)
        pair.leader.advance(20)
        hears(pair.leader, verdict)
        (held,) = verdicts(pair.leader)
        assert held.ejection_time == 11
        pair.leader.advance(11)
        hears(pair.leader, verdict)
        assert verdicts(pair.leader) == [verdict._replace(ejection_time=31)]

    def test_only_the_checks_of_the_one_that_probes_count(
        self, pair: Pair, upstream: Upstream
    ) -> None:
        pair.routes("app.test", upstream.target, health_path="/")
        connection, _ = looks(pair.leader, upstream)
        pair.leader.worker.state.health.probing = False
        connection.sends(broken(500))
        connection.sees_end()
        assert pair.told == []

    def test_what_is_back_is_tried_by_those_that_could_not_connect(
        self, pair: Pair, upstream: Upstream, other: Upstream
    ) -> None:
        pair.routes("app.test", upstream.target, other.target)
        upstream.refuses()
        client = pair.follower.connects()
        for _ in range(2):
            assert ask(client, "/", None, other) is other
        assert state(pair.follower, upstream).state == "ejected"
        upstream.listens()
        hears(pair.follower, Verdict(upstream.target, True, "GET /: 200", "checks"))
        assert {ask(client, "/", None, upstream, other) for _ in range(2)} == {upstream, other}

    def test_a_verdict_does_not_shorten_the_rest_of_those_that_could_not_connect(
        self, pair: Pair, upstream: Upstream, other: Upstream
    ) -> None:
        pair.routes("app.test", upstream.target, other.target)
        upstream.refuses()
        client = pair.follower.connects()
        for _ in range(4):
            assert {ask(client, "/", None, other) for _ in range(2)} == {other}
            pair.follower.advance(1)
        hears(pair.follower, Verdict(upstream.target, False, "answered 502", "requests"))
        upstream.listens()
        pair.follower.advance(1.5)
        assert {ask(client, "/", None, upstream, other) for _ in range(2)} == {other}

    def test_a_late_joiner_learns_how_things_are(
        self, pair: Pair, make_edge: Callable[..., Edge], upstream: Upstream, other: Upstream
    ) -> None:
        pair.routes("app.test", upstream.target, health_path="/")
        pair.routes("other.test", other.target, max_fails=1)
        check(pair.leader, upstream, 500, after=0)
        client = pair.leader.connects()
        client.sends(request("GET /", host="other.test"))
        connection = other.accepts()
        connection.receives_request()
        connection.sends(broken(504))
        client.receives_response()
        joiner = make_edge()
        joiner.worker.state.health.probing = False
        for verdict in verdicts(pair.leader):
            hears(joiner, verdict)
        assert state(joiner, upstream).state == "unhealthy"
        assert state(joiner, other).state == "ejected"

    def test_a_verdict_may_come_before_the_table(
        self, pair: Pair, upstream: Upstream, other: Upstream
    ) -> None:
        pair.leader.routes("app.test", upstream.target, health_path="/")
        check(pair.leader, upstream, 500, after=0)
        pair.passes_on()
        pair.follower.reloads()
        assert state(pair.follower, upstream).state == "unhealthy"
        pair.routes("app.test", other.target)
        pair.routes("app.test", upstream.target, health_path="/")
        assert verdicts(pair.follower) == []

    def test_a_verdict_on_what_never_comes_is_forgotten(
        self, pair: Pair, upstream: Upstream
    ) -> None:
        pair.routes("app.test", upstream.target)
        hears(pair.follower, Verdict("gone.test:1", False, "answered 502", "requests", 1))
        pair.follower.reloads()
        assert len(verdicts(pair.follower)) == 1
        pair.follower.advance(61)
        pair.follower.reloads()
        assert verdicts(pair.follower) == []

    def test_a_verdict_of_checks_that_are_no_more_does_no_harm(
        self, pair: Pair, upstream: Upstream
    ) -> None:
        pair.routes("app.test", upstream.target)
        exchange(pair.follower.connects(), upstream)
        hears(pair.follower, Verdict(upstream.target, False, "GET /: 500", "checks"))
        assert state(pair.follower, upstream).state == "unchecked"

    def test_another_worker_takes_the_checks_over_with_what_is_known(
        self, pair: Pair, upstream: Upstream
    ) -> None:
        pair.routes("app.test", upstream.target, health_path="/")
        check(pair.leader, upstream, after=0)
        pair.passes_on()
        connection, _ = looks_after(pair.leader, upstream, 5)
        pair.leader.worker.state.health.probing = False
        pair.follower.worker.state.health.probing = True
        connection.sends(broken(500))
        pair.follower.advance(5)
        for _ in range(2):
            check(pair.follower, upstream, 500)
        assert state(pair.follower, upstream).state == "healthy"
        check(pair.follower, upstream, 500)
        assert state(pair.follower, upstream).state == "unhealthy"
        assert [verdict.healthy for verdict in pair.told] == [False]

"""A route whose target gets nothing for now: 503 and Retry-After, until it is confirmed.

A managed route is one that `RouteWriter.retarget` wrote; `EARLIER` is a boot of the machine that is
over.
"""

import json
import logging
from collections.abc import Callable

import pytest

from edge.boot import boot_id
from edge.routing.store_writer import RouteWriter
from tests.harness import Client, Edge, Upstream, exchange
from tests.messages import Message, ok, request

EARLIER = "6f3a2c9e-0000-4000-8000-000000000000"


def confirms(edge: Edge, upstream: Upstream, boot: str | None = None) -> None:
    """The orchestrator points app.test at `upstream`, in this boot if no other is said."""
    boot = boot_id() if boot is None else boot
    edge.reloads(RouteWriter(edge.settings.db).retarget({"app.test": upstream.target}, boot))


def suspends(edge: Edge, reason: str = "container is exited") -> None:
    edge.reloads(RouteWriter(edge.settings.db).suspend({"app.test": reason}))


def asked(client: Client, *fields: str, line: str = "GET /", host: str = "app.test") -> Message:
    """The answer to a request that no upstream is to see."""
    client.sends(request(line, *fields, host=host))
    return client.receives_response(to=line.split(" ")[0])


class TestTargetThatIsGone:
    """RFC 9110 section 15.6.4."""

    def test_the_edge_answers_and_connects_to_nothing(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        confirms(edge, upstream)
        suspends(edge)
        for _ in range(2):
            answer = asked(client)
            assert (answer.status, answer["Retry-After"]) == (503, "5")
            assert "container" not in answer.text
        answer = asked(client, "Accept: application/json")
        assert json.loads(answer.body)["status"] == 503
        upstream.accepts_nothing()

    def test_a_container_of_which_nobody_knows_yet_that_it_is_gone(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        """As from the kill of an engine until the orchestrator has reached the next one: 502."""
        confirms(edge, upstream)
        upstream.refuses()
        for _ in range(2):
            answer = asked(client)
            assert (answer.status, answer["Retry-After"]) == (503, "5")
        edge.routes("app.test", upstream.target)
        answer = asked(client)
        assert answer.status == 502

    def test_it_is_served_again_when_it_is_confirmed(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        suspends(edge)
        assert asked(client).status == 503
        confirms(edge, upstream)
        assert exchange(client, upstream).response.text == "hello"

    def test_what_an_operator_sets_is_served(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        suspends(edge)
        edge.routes("app.test", upstream.target)
        assert exchange(client, upstream).response.text == "hello"

    def test_what_an_operator_changes_stays_unavailable(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        suspends(edge)
        edge.reloads(RouteWriter(edge.settings.db).change("app.test", {"max_body": 1}))
        assert asked(client).status == 503
        upstream.accepts_nothing()

    def test_what_is_in_flight_goes_on(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("GET /"))
        connection = upstream.accepts()
        connection.receives_request()
        suspends(edge)
        assert asked(edge.connects()).status == 503
        connection.sends(ok("begun before"))
        assert client.receives_response().text == "begun before"
        assert asked(client).status == 503
        confirms(edge, upstream)
        assert exchange(client, connection).response.text == "hello"

    def test_an_open_tunnel_goes_on(self, edge: Edge, client: Client, upstream: Upstream) -> None:
        client.sends(request("GET /", "Connection: Upgrade", "Upgrade: echo"))
        tunnel = upstream.accepts()
        tunnel.receives_request()
        tunnel.sends(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
        )
        assert client.receives_head().status == 101
        suspends(edge)
        client.sends(b"still there?")
        tunnel.receives(b"still there?")
        tunnel.sends(b"yes")
        client.receives(b"yes")

    def test_an_upload_is_refused_and_the_connection_closed(
        self, edge: Edge, client: Client
    ) -> None:
        suspends(edge)
        client.sends(request("POST /", "Content-Length: 100", body="some"))
        assert client.is_refused(503)["Retry-After"] == "5"

    def test_a_paused_route_holds_its_requests_meanwhile(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        edge.routes("app.test", upstream.target, pause=30)
        suspends(edge)
        client.sends(request("GET /"))
        edge.settle()
        client.receives_nothing()
        confirms(edge, upstream)
        edge.reloads(RouteWriter(edge.settings.db).change("app.test", {"pause": None}))
        connection = upstream.accepts()
        connection.receives_request()
        connection.sends(ok("at last"))
        assert client.receives_response().text == "at last"

    def test_others_are_told_no_of_first(self, edge: Edge, upstream: Upstream) -> None:
        edge.routes("app.test", upstream.target, deny=["127.0.0.1/32"])
        suspends(edge)
        assert asked(edge.connects()).status == 403
        edge.routes("app.test", upstream.target, redirect="https://")
        suspends(edge)
        assert asked(edge.connects()).status == 301

    def test_no_wider_route_takes_its_requests(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        """security.md, High 2: a withdrawn host fell to a wildcard, `*` or a shorter prefix."""
        for wider in ("*", "*.test", "app.test/api"):
            edge.routes(wider, upstream.target)
        edge.reloads(RouteWriter(edge.settings.db).suspend({"app.test/api": "gone"}))
        assert asked(client, line="GET /api/x").status == 503
        suspends(edge)
        assert asked(client).status == 503
        upstream.accepts_nothing()
        done = exchange(client, upstream, request("GET /api", host="other.test"))
        assert done.response.text == "hello"

    def test_its_health_is_not_checked(self, edge: Edge, upstream: Upstream) -> None:
        edge.routes("app.test", upstream.target, health_path="/up", health_interval=5)
        upstream.accepts().receives_request()
        suspends(edge)
        edge.advance(10)
        upstream.accepts_nothing()
        confirms(edge, upstream)
        edge.advance(5)
        assert upstream.accepts().receives_request().target == "/up"

    def test_another_route_to_the_same_target_is_served_and_checked(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        edge.routes("other.test", upstream.target)
        suspends(edge)
        assert asked(client).status == 503
        done = exchange(client, upstream, request("GET /", host="other.test"))
        assert done.response.text == "hello"


class TestEarlierBoot:
    """After a restart of the machine the address of a managed route may be another app's."""

    def test_a_managed_route_waits_until_it_is_confirmed(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        confirms(edge, upstream, EARLIER)
        answer = asked(client)
        assert (answer.status, answer["Retry-After"]) == (503, "5")
        upstream.accepts_nothing()
        confirms(edge, upstream)
        assert exchange(client, upstream).response.text == "hello"

    def test_a_route_without_a_boot_is_served(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        confirms(edge, upstream, "")
        assert exchange(client, upstream).response.text == "hello"

    def test_an_edge_that_is_told_of_another_boot_waits(
        self, make_edge: Callable[..., Edge], upstream: Upstream
    ) -> None:
        edge = make_edge()
        edge.worker.state.boot = "the next one"
        confirms(edge, upstream)
        edge.routes("operator.test", upstream.target)
        client = edge.connects()
        assert asked(client).status == 503
        upstream.accepts_nothing()
        done = exchange(client, upstream, request("GET /", host="operator.test"))
        assert done.response.text == "hello"


class TestSigns:
    def test_it_has_its_own_word_in_the_access_log(
        self, edge: Edge, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lines: list[bytes] = []

        class Log:
            def append(self, line: bytes) -> None:
                lines.append(line)

        monkeypatch.setattr(edge.worker.state, "access_log", Log())
        suspends(edge)
        asked(client)
        monkeypatch.setattr(edge.worker.state, "access_log", None)
        (line,) = map(json.loads, lines)
        assert (line["status"], line["error"], line["route"]) == (503, "unavailable", "app.test")
        assert line["upstream"] is None

    def test_it_is_counted_and_logged(
        self, edge: Edge, upstream: Upstream, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "edge.worker.route_watch")
        edge.routes("other.test", upstream.target)
        assert edge.metrics()["fairlead_routes_unavailable"] == 0
        suspends(edge)
        assert edge.metrics()["fairlead_routes_unavailable"] == 1
        asked(edge.connects())
        assert edge.metrics()['fairlead_http_requests_total{code="5xx",route="app.test"}'] == 1
        confirms(edge, upstream, EARLIER)
        assert edge.metrics()["fairlead_routes_unavailable"] == 1
        confirms(edge, upstream)
        assert edge.metrics()["fairlead_routes_unavailable"] == 0
        told = [line for line in caplog.messages if "unavailable" in line]
        assert told == [
            f"{count} routes are unavailable and answered 503; `fairlead route ls` says why"
            for count in (1, 0)
        ]

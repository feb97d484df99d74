"""A route in maintenance: 503 and a page, and nothing reaches its targets."""

import json

import pytest

from edge.routing.store_writer import RouteWriter
from tests.harness import Client, Edge, Upstream, exchange
from tests.messages import Message, ok, request

PAGE = "<!doctype html><title>Soon</title><p>Gleich zurück."


def begins(edge: Edge, page: str | None = None) -> None:
    options = {"maintenance": True, "maintenance_page": page}
    edge.reloads(RouteWriter(edge.settings.db).change("app.test", options))


def ends(edge: Edge) -> None:
    options = {"maintenance": None, "maintenance_page": None}
    edge.reloads(RouteWriter(edge.settings.db).change("app.test", options))


def asked(client: Client, *fields: str, line: str = "GET /") -> Message:
    client.sends(request(line, *fields))
    return client.receives_response(to=line.split(" ")[0])


class TestMaintenance:
    """RFC 9110 section 15.6.4."""

    def test_without_a_page_there_is_a_sentence(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        begins(edge)
        answer = asked(client)
        assert (answer.status, answer["Retry-After"]) == (503, "60")
        assert answer["Cache-Control"] == "no-store"
        assert "try again later" in answer.text
        upstream.accepts_nothing()

    def test_the_page_is_what_browsers_get(self, edge: Edge, client: Client) -> None:
        begins(edge, PAGE)
        for _ in range(2):
            answer = asked(client, "Accept: text/html,*/*;q=0.8")
            assert (answer.status, answer["Retry-After"]) == (503, "60")
            assert answer["Content-Type"] == "text/html; charset=utf-8"
            assert answer.text == PAGE
        head = asked(client, line="HEAD /")
        assert (head.status, head["Content-Length"]) == (503, str(len(PAGE.encode())))

    def test_json_clients_get_json_and_not_the_page(self, edge: Edge, client: Client) -> None:
        begins(edge, PAGE)
        answer = asked(client, "Accept: application/json")
        assert json.loads(answer.body)["status"] == 503
        assert answer["Retry-After"] == "60"

    def test_what_is_in_flight_goes_on_and_the_end_is_the_end(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        client.sends(request("GET /"))
        connection = upstream.accepts()
        connection.receives_request()
        begins(edge, PAGE)
        connection.sends(ok("begun before"))
        assert client.receives_response().text == "begun before"
        assert asked(client).status == 503
        ends(edge)
        assert exchange(client, connection).response.text == "hello"

    def test_an_upload_is_refused_and_the_connection_closed(
        self, edge: Edge, client: Client
    ) -> None:
        begins(edge, PAGE)
        client.sends(request("POST /", "Content-Length: 100", body="some"))
        assert client.is_refused(503).text == PAGE

    @pytest.mark.parametrize("page", [None, PAGE])
    def test_it_has_its_own_word_in_the_access_log(
        self, edge: Edge, client: Client, page: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lines: list[bytes] = []

        class Log:
            def append(self, line: bytes) -> None:
                lines.append(line)

        monkeypatch.setattr(edge.worker.state, "access_log", Log())
        begins(edge, page)
        asked(client)
        monkeypatch.setattr(edge.worker.state, "access_log", None)
        (line,) = map(json.loads, lines)
        assert (line["status"], line["error"], line["route"]) == (503, "maintenance", "app.test")

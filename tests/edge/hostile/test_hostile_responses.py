"""Responses of an upstream that is broken or bought: `responses/`, see README.md."""

import pytest

from tests.edge.hostile.case import Case, cases, unescape
from tests.harness import Client, Edge, Upstream, UpstreamConnection, exchange
from tests.messages import DATE, Message, ok, request

CASES = cases("responses", more_ways=("dated",))

SECRET = "for-somebody-else"

MOST_PIECES = 300
"""A short input is sent byte by byte; a long one in so many pieces, to end within a second."""


@pytest.mark.parametrize(("case", "way"), CASES, ids=[f"{case.name}-{way}" for case, way in CASES])
def test_a_broken_response_is_never_a_whole_one(
    case: Case, way: str, edge: Edge, client: Client, upstream: Upstream
) -> None:
    line = case.note("request", "GET /")
    method = line.split(" ")[0]
    client.sends(request(line))
    connection = upstream.accepts()
    connection.receives_request()
    says(connection, case, way)

    for outcome in case.expected:
        if outcome == "broken":
            is_broken(client, method)
            break
        answer = client.receives_response(to=method)
        assert answer.status == int(outcome)
        assert SECRET.encode() not in answer.raw + answer.body
        if answer.status == 502:
            assert "X-Request-Id" in answer
        else:
            holds(case, answer)
    else:
        if "HTTP/1.0" in line:
            client.sees_eof()
        else:
            client.receives_nothing()

    if case.note("upstream") == "kept" and way != "trailing":
        assert exchange(edge.connects(), connection).response.text == "hello"
    else:
        if case.note("end", "open") == "open":
            connection.sees_end()
        assert exchange(edge.connects(), upstream).response.text == "hello"


def says(connection: UpstreamConnection, case: Case, way: str) -> None:
    """Sends the response in this way, and ends as the case says."""
    data = case.data + (ok(SECRET) if way == "trailing" else b"")
    if way == "dated" and data.startswith(b"HTTP/"):
        data = data.replace(b"\r\n", f"\r\n{DATE}\r\n".encode(), 1)
    for piece in pieces(data, way):
        connection.keeps_sending(piece)
        if way == "pieces":
            connection.conversation.settle()
    end = case.note("end", "open")
    if end != "open":
        getattr(connection, end)()


def pieces(data: bytes, way: str) -> list[bytes]:
    """The pieces in which it is sent."""
    size = max(1, len(data) // MOST_PIECES) if way == "pieces" else len(data)
    return [data[start : start + size] for start in range(0, len(data), size)]


def is_broken(client: Client, method: str) -> None:
    """The client gets a 502, or something that cannot be taken for a whole response."""
    head = client.receives_head(to=method)
    if head.status == 502:
        client.receives_whole_body()
    else:
        rest = client.sees_broken_body()
        assert SECRET.encode() not in rest


def holds(case: Case, answer: Message) -> None:
    """The client got what the notes say."""
    if "body" in case.notes and answer.status >= 200:
        assert answer.body == unescape(case.note("body"))
    for note in case.notes.get("with", []):
        name, _, value = note.partition(": ")
        assert answer.all(name) == [value]
    for name in case.notes.get("without", []):
        assert name not in answer

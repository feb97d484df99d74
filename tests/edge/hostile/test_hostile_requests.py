"""Requests that somebody sends to be taken for something else: `requests/`, see README.md."""

import pytest

from tests.edge.hostile.case import Case, cases, unescape
from tests.harness import Client, Upstream, exchange
from tests.messages import Message, ok, request

CASES = cases("requests", more_ways=("after",))

TRAILING = request("GET /trailing")

MOST_PIECES = 300
"""A short input is sent byte by byte; a long one in so many pieces, to end within a second."""


@pytest.mark.parametrize(("case", "way"), CASES, ids=[f"{case.name}-{way}" for case, way in CASES])
def test_a_request_is_one_request_or_none(
    case: Case, way: str, client: Client, upstream: Upstream
) -> None:
    connection = exchange(client, upstream).connection if way == "after" else None
    if way == "pieces":
        client.sends_in_pieces(case.data, max(1, len(case.data) // MOST_PIECES))
    else:
        client.sends(case.data + (TRAILING if way == "trailing" else b""))
    number = 0
    for outcome in case.expected:
        if outcome == "forwarded":
            connection = connection or upstream.accepts()
            seen = connection.receives_request()
            holds(case, number, seen)
            number += 1
            body = "" if seen.method == "HEAD" else f"answer {number}"
            connection.sends(ok(body))
            answer = client.receives_response(to=seen.method)
            assert (answer.status, answer.text) == (200, body)
        elif outcome == "closed":
            client.sees_eof()
        else:
            status, _, where = outcome.partition(" ")
            client.is_refused(int(status))
            if where:
                connection = connection or upstream.accepts_if_connected()
                if connection is not None and connection.has_received():
                    connection.sees_broken_request()
                    connection = None
    if way == "trailing" and case.expected[-1] == "forwarded":
        assert connection is not None
        assert connection.receives_request().line == "GET /trailing HTTP/1.1"
    if connection is not None:
        connection.receives_nothing()
    upstream.accepts_nothing()


def holds(case: Case, number: int, seen: Message) -> None:
    """The upstream saw what the notes say."""
    for key, got in (("sees", seen.line), ("body", seen.body.decode("latin-1"))):
        notes = case.notes.get(key, [])
        if number < len(notes):
            wanted = unescape(notes[number]).decode("latin-1")
            assert got == wanted if key == "body" else got.startswith(wanted)
    for note in case.notes.get("with", []):
        name, _, value = note.partition(": ")
        assert seen.all(name) == [value]
    for name in case.notes.get("without", []):
        assert name not in seen

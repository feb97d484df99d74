"""Proves what a change gets of the body, however that arrives."""

import asyncio
from collections.abc import Sequence

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Message

from edge.api.permission import Scope
from edge.errors import RouteError
from edge.supervisor.changes import (
    MAX_BODY,
    MAX_TIMEOUT,
    SECONDS,
    TARGET,
    Fields,
    change,
    seconds_of,
    target_of,
    version_of,
)


async def apply(fields: Fields) -> Response:
    return PlainTextResponse(repr(fields))


DRAIN = change(
    "/drain", Scope.WRITE, apply, "Drain.", {"target": TARGET, "timeout": SECONDS}, ["target"]
)


def answered(pieces: Sequence[bytes]) -> str:
    """The text of the answer to a body that arrives in pieces."""
    left = list(pieces)

    async def receive() -> Message:
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    request = Request({"type": "http", "method": "POST", "headers": []}, receive)

    async def answer() -> Response:
        return await DRAIN.handler(request)

    return bytes(asyncio.run(answer()).body).decode()


class TestBody:
    def test_its_fields_are_what_the_change_gets(self) -> None:
        body = b'{"target":"a:1","timeout":2}'
        for pieces in ([body], [bytes([each]) for each in body]):
            assert answered(pieces) == "{'target': 'a:1', 'timeout': 2}"

    def test_none_is_an_empty_object(self) -> None:
        assert answered([b""]) == "{}"

    def test_one_that_is_too_large_is_not_read_to_its_end(self) -> None:
        with pytest.raises(HTTPException) as refused:
            answered([b" " * MAX_BODY, b" ", b"never read"])
        assert refused.value.status_code == 413

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            (b"{", "not JSON"),
            (b"[]", "not a JSON object"),
            (b'{"x": 1}', "'x' is unknown; fields are target, timeout"),
        ],
    )
    def test_what_cannot_be_used_is_refused(self, body: bytes, reason: str) -> None:
        with pytest.raises(HTTPException, match=reason) as refused:
            answered([body])
        assert refused.value.status_code == 400


class TestFields:
    def test_a_version_is_a_whole_number(self) -> None:
        assert (version_of({}), version_of({"version": 7})) == (0, 7)
        for wrong in (-1, 1.0, True, "1", None):
            with pytest.raises(HTTPException, match="version is not"):
                version_of({"version": wrong})

    def test_seconds_are_a_number_up_to_an_hour(self) -> None:
        assert seconds_of({}, "timeout", 1.5) == 1.5
        for number in (0, 0.5, MAX_TIMEOUT):
            assert seconds_of({"timeout": number}, "timeout", 1.5) == number
        for wrong in (-1, MAX_TIMEOUT + 1, True, "1", None):
            with pytest.raises(HTTPException, match="timeout is not a number of seconds"):
                seconds_of({"timeout": wrong}, "timeout", 1.5)

    def test_a_target_must_be_there_and_have_a_port(self) -> None:
        assert target_of({"target": "127.0.0.1:9101"}) == "127.0.0.1:9101"
        for missing in ({}, {"target": 1}):
            with pytest.raises(HTTPException, match="the field target is missing"):
                target_of(missing)
        with pytest.raises(RouteError, match="no port"):
            target_of({"target": "app"})

"""Proves `edge.wire.request_body`."""

from collections.abc import Iterable

import pytest

from edge.errors import HttpError
from edge.wire.framing import CHUNKED
from edge.wire.request_body import RequestBody

CHUNKS = b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: t\r\n\r\n"


def fed(body: RequestBody, pieces: Iterable[bytes]) -> tuple[bytes, bytes]:
    """What goes to the upstream for `pieces`, in one, and what was left over."""
    sent, left = b"", b""
    for piece in pieces:
        if not body.open:
            left += piece
            continue
        forwarded, leftover = body.feed(piece)
        sent += b"".join(forwarded)
        left += leftover
    return sent, left


def by_the_byte(data: bytes) -> Iterable[bytes]:
    return (data[index : index + 1] for index in range(len(data)))


class TestABodyOfKnownLength:
    def test_in_one_piece(self) -> None:
        body = RequestBody(5, 0)
        assert body.open
        assert fed(body, [b"abcde"]) == (b"abcde", b"")
        assert (body.open, body.received) == (False, 5)

    def test_stays_open_until_its_last_byte(self) -> None:
        body = RequestBody(5, 0)
        fed(body, by_the_byte(b"abcd"))
        assert (body.open, body.received) == (True, 4)
        assert fed(body, [b"e"]) == (b"e", b"")
        assert (body.open, body.received) == (False, 5)

    def test_what_is_behind_its_end_is_not_of_it(self) -> None:
        body = RequestBody(5, 0)
        assert fed(body, [b"abc", b"deGET /"]) == (b"abcde", b"GET /")
        assert body.received == 5

    def test_of_just_the_limit_may_come(self) -> None:
        assert fed(RequestBody(5, 5), [b"abcde"]) == (b"abcde", b"")

    def test_beyond_the_limit_is_refused_before_it_comes(self) -> None:
        with pytest.raises(HttpError) as raised:
            RequestBody(6, 5)
        assert raised.value.status == 413


class TestAChunkedBody:
    def test_goes_on_as_few_chunks_without_extensions_and_trailers(self) -> None:
        body = RequestBody(CHUNKED, 0)
        assert fed(body, [CHUNKS]) == (b"5\r\nabcde\r\n0\r\n\r\n", b"")
        assert (body.open, body.received) == (False, 5)

    def test_by_the_byte_holds_the_same(self) -> None:
        body = RequestBody(CHUNKED, 0)
        sent, left = fed(body, by_the_byte(CHUNKS + b"GET /"))
        again = RequestBody(CHUNKED, 0)
        assert fed(again, [sent]) == (b"5\r\nabcde\r\n0\r\n\r\n", b"")
        assert left == b"GET /"
        assert (body.open, body.received) == (False, 5)

    def test_what_is_behind_its_end_is_not_of_it(self) -> None:
        assert fed(RequestBody(CHUNKED, 0), [CHUNKS + b"GET /"])[1] == b"GET /"

    def test_stays_open_until_its_last_line(self) -> None:
        body = RequestBody(CHUNKED, 0)
        fed(body, [CHUNKS[:-2]])
        assert body.open
        fed(body, [CHUNKS[-2:]])
        assert not body.open

    def test_of_just_the_limit_may_come(self) -> None:
        assert fed(RequestBody(CHUNKED, 5), [CHUNKS])[0]

    def test_beyond_the_limit_is_refused_and_counted(self) -> None:
        body = RequestBody(CHUNKED, 4)
        with pytest.raises(HttpError) as raised:
            body.feed(CHUNKS)
        assert raised.value.status == 413
        assert body.received == 5

    @pytest.mark.parametrize("data", [b"x\r\n", b"1\r\nab", b"0\r\nno field\r\n\r\n"])
    def test_malformed_is_refused(self, data: bytes) -> None:
        with pytest.raises(HttpError, match="malformed") as raised:
            RequestBody(CHUNKED, 0).feed(data)
        assert raised.value.status == 400

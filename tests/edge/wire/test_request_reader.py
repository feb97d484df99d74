"""Proves how whole request heads are read and rewritten, by either codec."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import HttpError
from edge.wire.framing import CHUNKED
from tests.edge.wire.twins import (
    ID_LINE,
    STRANGER,
    TRUSTED,
    needs_compiled,
    request_reader_class,
    request_reader_of,
)
from tests.messages import Head, request

SMALL = settings(max_examples=200, derandomize=True, deadline=None)
REMOVED = ("keep-alive", "proxy-connection", "te", "trailer", "x-forwarded-for", "forwarded")
SPELLINGS: list[Callable[[str], str]] = [str.upper, str.lower, lambda name: name.replace("-", "_")]

BROWSER = request(
    "GET /products?view=grid",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64)",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Encoding: gzip, deflate, br",
    "Cookie: session=4f9c2e7ab1d3508e97c02d44e61fa835; mode=on",
    "Connection: keep-alive",
    "Sec-Fetch-Dest: document",
)
ORDINARY = {
    "a browser's": BROWSER,
    "one with a body": request("POST /", "Content-Length: 5", body="hello"),
    "one with chunks": request("PUT /", "Transfer-Encoding: chunked", "Expect: 100-continue"),
    "an old client's": request("GET / HTTP/1.0", "Connection: Keep-Alive"),
    "one through a proxy": request("GET /", "X-Forwarded-For: 192.0.2.7", "Via: 1.1 other"),
    "the last of a connection": request("GET /", "Connection: TE, close", "TE: trailers"),
    "one that counts its hops": request("OPTIONS /", "Max-Forwards: 3"),
}


def test_a_head_is_read_and_rewritten(codec: str) -> None:
    """Every octet of what goes on."""
    data = (
        b"POST /a?b HTTP/1.1\r\nX-A:  b \r\nHOST: A.test.:80\r\nte: trailers\r\nCookie: c=d\r\n"
        b"Connection: keep-alive\r\nX_Forwarded_For: evil\r\ncontent-length: 5\r\n\r\nhello"
    )
    read = request_reader_of(codec).read(data)
    assert read is not None
    method, target, fields, head, request_id_line, size = read
    assert (method, target, request_id_line, size) == (b"POST", b"/a?b", ID_LINE, len(data) - 5)
    assert (fields.authority, fields.host, fields.length) == (b"A.test.:80", "a.test", 5)
    assert (fields.minor, fields.keep_alive, fields.default_handling) == (1, True, True)
    assert fields.value(b"cookie") == b"c=d"
    assert head == (
        b"POST /a?b HTTP/1.1\r\nHost: A.test.:80\r\nX-A:  b \r\nCookie: c=d\r\ncontent-length: 5"
        b"\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Real-IP: 192.0.2.1"
        b"\r\nX-Forwarded-Host: A.test.:80\r\nVia: 1.1 fairlead\r\n" + ID_LINE
    )


def test_a_chunked_body_is_framed_anew(codec: str) -> None:
    read = request_reader_of(codec).read(request("POST /", "Transfer-Encoding: Chunked"))
    assert read is not None
    assert read[2].length == CHUNKED
    assert read[3].endswith(b"\r\nVia: 1.1 fairlead\r\nTransfer-Encoding: chunked\r\n" + ID_LINE)
    assert read[3].count(b"ransfer-") == 1


def test_what_a_trusted_proxy_says_is_continued(codec: str) -> None:
    data = request(
        "GET / HTTP/1.0", "X-Forwarded-For: 192.0.2.7", "Via: 1.1 a", "X-Request-Id: theirs"
    )
    read = request_reader_of(codec, TRUSTED).read(data)
    assert read is not None
    assert b"\r\nX-Forwarded-For: 192.0.2.7, 10.0.0.1\r\n" in read[3]
    assert b"\r\nVia: 1.1 a, 1.0 fairlead\r\n" in read[3]
    assert read[4] == b"X-Request-Id: theirs\r\n\r\n"
    assert TRUSTED.client_address(read[2]) == "192.0.2.7"
    unbelieved = request_reader_of(codec).read(data)
    assert unbelieved is not None
    assert b"192.0.2.7" not in unbelieved[3]
    assert unbelieved[4] == ID_LINE


@SMALL
@given(
    st.lists(st.binary(max_size=12).map(lambda b: bytes(c for c in b if c > 32 and c != 127))),
    st.sampled_from(REMOVED),
    st.sampled_from(SPELLINGS),
)
def test_fields_keep_order_and_bytes_and_no_field_of_the_hop_survives(
    codec: str, values: list[bytes], name: str, spelling: Callable[[str], str]
) -> None:
    lines = [b"X-%d: %b\r\n" % pair for pair in enumerate(values)]
    removed = f"{spelling(name)}: evil-mark\r\n".encode()
    head = b"GET / HTTP/1.1\r\nHost: a.test\r\n" + removed + b"".join(lines) + b"\r\n"
    reader = request_reader_of(codec, STRANGER, 8192, 32768, 1000)
    read = reader.read(head)
    assert read is not None
    sent = read[3]
    assert b"".join(lines) in sent
    assert b"evil-mark" not in sent
    assert Head.parse(sent).all("Host") == ["a.test"]


@pytest.mark.parametrize("octet", [*range(9), *range(10, 32), 127])
def test_a_control_octet_is_refused(codec: str, octet: int) -> None:
    for line in (b"X: a%cb", b"X%cY: a", b"X: a%c", b"%cX: a"):
        with pytest.raises(HttpError):
            request_reader_of(codec).read(
                b"GET / HTTP/1.1\r\nHost: a.test\r\n" + line % octet + b"\r\n\r\n"
            )


@pytest.mark.parametrize("size", [63, 64, 65, 66])
def test_the_target_has_a_limit(codec: str, size: int) -> None:
    data = request("GET /" + "a" * (size - 1))
    if size <= 64:
        read = request_reader_of(codec).read(data)
        assert read is not None
        assert len(read[1]) == size
    else:
        with pytest.raises(HttpError) as raised:
            request_reader_of(codec).read(data)
        assert raised.value.status == 414


def test_the_head_and_its_fields_have_limits(codec: str) -> None:
    data = request("GET /", "A: b", "A: b", "A: b")
    for reader in (
        request_reader_of(codec, max_head=len(data) - 1),
        request_reader_of(codec, max_fields=3),
    ):
        with pytest.raises(HttpError) as raised:
            reader.read(data)
        assert raised.value.status == 431
    assert request_reader_of(codec, max_head=len(data), max_fields=4).read(data) is not None


def test_a_head_that_is_not_whole_is_none(codec: str) -> None:
    for end in range(len(BROWSER)):
        assert request_reader_of(codec).read(BROWSER[:end]) is None


def test_each_request_without_an_id_gets_the_next_one(codec: str) -> None:
    lines = iter([b"X-Request-Id: 1\r\n\r\n", b"X-Request-Id: 2\r\n\r\n"])
    reader = request_reader_class(codec)(STRANGER, 64, 1024, 9, lines)
    assert reader.read(BROWSER[:-1]) is None
    with pytest.raises(HttpError):
        reader.read(request("GET /", host=None))
    for number in (b"1", b"2"):
        read = reader.read(BROWSER)
        assert read is not None
        assert read[3].endswith(b"X-Request-Id: %b\r\n\r\n" % number)


@needs_compiled
@pytest.mark.parametrize("kind", ORDINARY)
def test_an_ordinary_request_does_not_go_back_to_python(kind: str) -> None:
    from edge.wire import _codec

    reader = request_reader_of("compiled")
    assert isinstance(reader, _codec.RequestReader)
    assert reader.take(ORDINARY[kind]) is not None

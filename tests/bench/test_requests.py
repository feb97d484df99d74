"""What wrk is made to send."""

from bench.requests import (
    ALIKE,
    SMALL,
    UPLOAD_BYTES,
    always,
    browser_head,
    in_turn,
    lua_string,
    one_by_one,
)


def test_the_head_that_is_always_the_same_has_twelve_fields() -> None:
    head = browser_head()
    lines = head.split("\r\n")
    assert len(head) == 612
    assert len(lines) - 3 == 12  # the request line, and the blank line that ends the head
    assert lines[-2:] == ["", ""]


def test_a_lua_literal_keeps_quotes_backslashes_and_line_ends() -> None:
    assert lua_string('a "b" \\ c\r\n') == '"a \\"b\\" \\\\ c\\r\\n"'


def test_a_lua_literal_is_of_bytes() -> None:
    assert lua_string("Zo\xeb9") == '"Zo\\2359"'


def test_requests_that_are_sent_one_by_one_are_all_in_the_script() -> None:
    script = one_by_one([b"GET /a HTTP/1.1\r\n\r\n", b"GET /b HTTP/1.1\r\n\r\n"])
    assert '{"GET /a HTTP/1.1\\r\\n\\r\\n",\n"GET /b HTTP/1.1\\r\\n\\r\\n"}' in script
    assert "n = n % 2 + 1" in script


def test_a_request_that_never_changes_is_made_once() -> None:
    script = always("GET / HTTP/1.1\r\n\r\n", 3)
    assert "wrk.format = function() return sent end" in script
    assert "string.rep('x', 3)" in script
    assert "request = function()" not in script


def test_a_request_that_changes_is_made_each_time() -> None:
    script = in_turn("GET /%d HTTP/1.1\r\n\r\n", "n")
    assert 'pattern, n = "GET /%d HTTP/1.1\\r\\n\\r\\n"' in script
    assert "return string.format(pattern, n)" in script


def test_every_script_prints_its_summary() -> None:
    assert all("done = function" in request.script for request in (SMALL, ALIKE))


def test_an_upload_is_ten_mebibytes() -> None:
    assert UPLOAD_BYTES == 10 * 2**20

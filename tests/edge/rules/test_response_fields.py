"""Proves `edge.rules.response_fields`."""

import pytest

from edge.rules.response_fields import ResponseFields, name_error, value_error
from edge.wire.response_head import parse_response_head

HEAD = b"HTTP/1.1 200 OK\r\nDate: x\r\nX-A: 1\r\nx-a: 2\r\nX-A-B: 3\r\nX-B:\r\nLast: 4\r\n\r\n"


def changed(fields: ResponseFields, raw: bytes = HEAD) -> bytes:
    return fields.apply(parse_response_head(raw, 100, hide_server=True))


class TestNames:
    @pytest.mark.parametrize("name", ["X-Frame-Options", "server", "Set-Cookie", "a!#$%&'*+.^_`|~"])
    def test_a_name_of_an_end_to_end_field_is_taken(self, name: str) -> None:
        assert name_error(name) == ""

    @pytest.mark.parametrize(
        "name",
        [
            *("Connection", "content-length", "Content_Length", "DATE", "Keep-Alive", "TE"),
            *("Trailer", "Transfer-Encoding", "transfer_encoding", "Upgrade", "X-Request-Id"),
            *("Proxy-Authenticate", "Proxy-Connection", "proxy-anything"),
        ],
    )
    def test_what_frames_the_message_or_belongs_to_the_hop_is_refused(self, name: str) -> None:
        assert "cannot be changed by a route" in name_error(name)

    @pytest.mark.parametrize("name", ["", " ", "X A", "X:", "X-Ä", "X\r", "X\n", "X\0", "(X)"])
    def test_what_is_no_token_is_refused(self, name: str) -> None:
        assert "is not a field name" in name_error(name)

    def test_an_endless_name_is_refused(self) -> None:
        assert name_error("x" * 100) == ""
        assert "longer than 100" in name_error("x" * 101)


class TestValues:
    @pytest.mark.parametrize("value", ["", "DENY", "max-age=1; x", "a\tb", "~ !", "x" * 8192])
    def test_printable_ascii_and_blanks_are_taken(self, value: str) -> None:
        assert value_error(value) == ""

    @pytest.mark.parametrize("value", ["a\r\nX: y", "\r", "\n", "a\n", "\0", "\x1f", "\x7f", "é"])
    def test_what_could_end_the_line_or_has_no_agreed_meaning_is_refused(self, value: str) -> None:
        assert "line break, a control character or a non-ASCII" in value_error(value)

    def test_an_endless_value_is_refused(self) -> None:
        assert "longer than 8192" in value_error("x" * 8193)


class TestChanges:
    def test_a_removed_field_is_gone_in_every_line_and_spelling_and_no_other_one(self) -> None:
        assert changed(ResponseFields({}, ["x-A"])) == (
            b"HTTP/1.1 200 OK\r\nDate: x\r\nX-A-B: 3\r\nX-B:\r\nLast: 4\r\n"
        )

    def test_the_first_and_the_last_field_can_be_removed(self) -> None:
        raw = b"HTTP/1.1 200 OK\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n"
        assert changed(ResponseFields({}, ["A", "C"]), raw) == b"HTTP/1.1 200 OK\r\nB: 2\r\n"
        assert changed(ResponseFields({}, ["A", "B", "C"]), raw) == b"HTTP/1.1 200 OK\r\n"

    def test_a_set_field_takes_the_place_of_all_lines_of_its_name(self) -> None:
        assert changed(ResponseFields({"X-A": "new", "X-B": ""}, ["Last"])) == (
            b"HTTP/1.1 200 OK\r\nDate: x\r\nX-A-B: 3\r\nX-A: new\r\nX-B: \r\n"
        )

    def test_a_name_is_not_a_pattern(self) -> None:
        raw = b"HTTP/1.1 200 OK\r\nXa: 1\r\nX.: 2\r\n\r\n"
        assert changed(ResponseFields({}, ["X."]), raw) == b"HTTP/1.1 200 OK\r\nXa: 1\r\n"

    def test_one_head_is_changed_once_for_each_route_that_gets_it(self) -> None:
        head = parse_response_head(HEAD, 100, hide_server=True)
        one, other = ResponseFields({}, ["X-A"]), ResponseFields({}, ["Last"])
        first = one.apply(head)
        assert one.apply(head) is first
        assert b"Last" not in other.apply(head)
        assert one.apply(head) == first

    def test_errors_of_the_edge_get_what_is_not_said_of_the_content(self) -> None:
        fields = ResponseFields(
            {
                "Content-Type": "text/html",
                "Content-Security-Policy": "default-src 'self'",
                "Cache-Control": "max-age=9",
                "ETag": '"a"',
                "X-Frame-Options": "DENY",
            },
            ["X-A"],
        )
        assert fields.local_reply_lines == (
            b"Content-Security-Policy: default-src 'self'",
            b"X-Frame-Options: DENY",
        )

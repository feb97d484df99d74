"""Which texts are hosts, of an operator and of a client, and in which spelling."""

from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import HttpError, RouteError
from edge.hosts import MAX_HOST, normalize_host, parse_authority, unmapped

LONGEST_LABEL = "a" * 63
LONGEST_NAME = ".".join([LONGEST_LABEL] * 3 + ["a" * 61])


class TestHosts:
    @pytest.mark.parametrize(
        ("text", "normal"),
        [
            ("app.test", "app.test"),
            ("APP.Test", "app.test"),
            ("app.test.", "app.test"),
            ("localhost", "localhost"),
            ("a_b._tcp.test", "a_b._tcp.test"),
            ("9.test", "9.test"),
            ("1e3", "1e3"),
            ("xn--bcher-kva.test", "xn--bcher-kva.test"),
            ("a--b.test", "a--b.test"),
            ("127.0.0.1", "127.0.0.1"),
            ("[::1]", "[::1]"),
            ("[0:0:0:0:0:0:0:1]", "[::1]"),
            ("[2001:DB8::A]", "[2001:db8::a]"),
            ("[::ffff:192.0.2.1]", "[::ffff:c000:201]"),
            (LONGEST_NAME, LONGEST_NAME),
            (LONGEST_NAME + ".", LONGEST_NAME),
        ],
    )
    def test_a_host_has_one_spelling(self, text: str, normal: str) -> None:
        assert normalize_host(text) == normal
        assert normalize_host(normal) == normal

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "the host is empty"),
            (".", "empty label"),
            ("app..test", "empty label"),
            (".app.test", "empty label"),
            ("app.test..", "empty label"),
            ("app test", "a blank or a control character"),
            (" app.test", "a blank or a control character"),
            ("app.test\n", "a blank or a control character"),
            ("app\0.test", "a blank or a control character"),
            ("app\x7f.test", "a blank or a control character"),
            ("app.test:80", "leave the port out"),
            ("::1", "put an IPv6 address in brackets"),
            ("user@app.test", "user information"),
            ("user:secret@app.test", "user information"),
            ("app/test", "is not a valid name"),
            ("app?.test", "is not a valid name"),
            ("app%2e.test", "is not a valid name"),
            ("app,test", "is not a valid name"),
            ("-app.test", "is not a valid name"),
            ("app-.test", "is not a valid name"),
            ("a.*.test", "write * alone or *.name"),
            ("*app.test", "write * alone or *.name"),
            ("app.*", "write * alone or *.name"),
            ("1.2.3", "is not an IPv4 address"),
            ("1.2.3.256", "is not an IPv4 address"),
            ("1.2.3.04", "is not an IPv4 address"),
            ("app.test.1", "is not an IPv4 address"),
            ("123", "is not an IPv4 address"),
            ("0x7f000001", "is not an IPv4 address"),
            ("[::1", "is not an IPv6 address"),
            ("[]", "is not an IPv6 address"),
            ("[1.2.3.4]", "is not an IPv6 address"),
            ("[fe80::1%eth0]", "is not an IPv6 address"),
            ("[::1]x", "is not an IPv6 address"),
            (LONGEST_NAME + "a", "longer than 253"),
            (LONGEST_LABEL + "a.test", "longer than 63"),
        ],
    )
    def test_what_is_no_host_is_refused_with_the_reason(self, text: str, reason: str) -> None:
        with pytest.raises(RouteError) as refusal:
            normalize_host(text)
        assert reason in str(refusal.value)

    @pytest.mark.parametrize(
        ("text", "encoded"),
        [
            ("bücher.test", "xn--bcher-kva.test"),
            ("BÜCHER.Test", "xn--bcher-kva.test"),
            ("straße.de", "xn--strae-oqa.de"),
            ("例え.テスト", "xn--r8jz45g.xn--zckzah"),
            ("\u212aelvin.test", "kelvin.test"),  # the Kelvin sign
        ],
    )
    def test_a_name_beyond_ascii_is_refused_with_its_encoded_form(
        self, text: str, encoded: str
    ) -> None:
        with pytest.raises(RouteError, match="is not ASCII") as refusal:
            normalize_host(text)
        assert str(refusal.value).endswith(f": write {encoded}")

    @pytest.mark.parametrize("text", ["a\u00a0b.test", "a\u200bb.test", "ü" * 70, "☃.test", "ü..a"])
    def test_where_there_is_no_encoded_form_none_is_offered(self, text: str) -> None:
        with pytest.raises(RouteError) as refusal:
            normalize_host(text)
        assert str(refusal.value).endswith("is not ASCII")

    def test_an_error_shows_no_control_character_and_no_endless_text(self) -> None:
        with pytest.raises(RouteError) as refusal:
            normalize_host("\x1b[31m" + "a" * 10_000)
        assert "\x1b" not in str(refusal.value)
        assert len(str(refusal.value)) < 300


class TestAuthority:
    """What a client may say in Host (RFC 9110 section 7.2)."""

    @pytest.mark.parametrize(
        ("text", "host"),
        [
            (b"App.Test:8080", "app.test"),
            (b"app.test.", "app.test"),
            (b"[0:0::1]:80", "[::1]"),
            (b"-a-.b-.test", "-a-.b-.test"),
            (b"a~b", "a~b"),
            (b"1.2.3", "1.2.3"),
            (LONGEST_NAME.encode(), LONGEST_NAME),
            (LONGEST_NAME.encode() + b".:80", LONGEST_NAME),
        ],
    )
    def test_a_host_is_read_without_its_port(self, text: bytes, host: str) -> None:
        assert parse_authority(text) == host

    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b":80",
            b"a..b",
            b".a",
            b"a:99999",
            b"a:",
            b"[::g]",
            b"[::1",
            b"a%41",
            b"u@a",
            LONGEST_NAME.encode() + b"a",
            LONGEST_NAME.encode() + b"a.",
        ],
    )
    def test_anything_else_is_a_bad_request(self, text: bytes) -> None:
        with pytest.raises(HttpError) as refusal:
            parse_authority(text)
        assert refusal.value.status == 400

    @given(st.text("019.-_aAzx[:]", max_size=20))
    @settings(deadline=None)
    def test_what_an_operator_may_write_a_client_may_ask_for(self, text: str) -> None:
        try:
            host = normalize_host(text)
        except RouteError:
            return
        assert parse_authority(text.encode()) == host
        assert parse_authority(f"{host}:80".encode()) == host

    def test_both_have_one_limit(self) -> None:
        assert len(LONGEST_NAME) == MAX_HOST
        assert normalize_host(LONGEST_NAME) == LONGEST_NAME
        with pytest.raises(RouteError, match="longer than 253"):
            normalize_host(LONGEST_NAME + "a")


class TestAddresses:
    @pytest.mark.parametrize(
        ("text", "same"),
        [
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("192.0.2.7", "192.0.2.7"),
            ("::c000:207", "::c000:207"),
        ],
    )
    def test_ipv4_in_ipv6_is_ipv4(self, text: str, same: str) -> None:
        assert unmapped(ip_address(text)) == ip_address(same)

"""Where a redirect leads."""

import pytest

from edge.errors import RouteError
from edge.rules.redirect import Redirect, parse_redirect


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("https://", "https://"),
        ("http://", "http://"),
        ("HTTPS://Other.Test./", "https://other.test"),
        ("https://other.test:443", "https://other.test"),
        ("http://other.test:443", "http://other.test:443"),
        ("https://[0::1]:8443", "https://[::1]:8443"),
        ("http://[::1]", "http://[::1]"),
        ("http://127.0.0.1", "http://127.0.0.1"),
    ],
)
def test_a_redirect_has_one_spelling(text: str, normal: str) -> None:
    assert str(parse_redirect(text)) == normal
    assert parse_redirect(normal) == parse_redirect(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "does not begin with https://"),
        ("other.test", "does not begin with https://"),
        ("ftp://other.test", "does not begin with https://"),
        ("https://other.test/x", "has a path"),
        ("https:///x", "has a path"),
        ("https://other.test?x", "has a path"),
        ("https://other.test/\r\nSet-Cookie: a=b", "has a path"),
        ("https://other.test\r\nSet-Cookie: a=b", "no valid host"),
        ("https://user@other.test", "no valid host"),
        ("https://other.test:", "no valid host"),
        ("https://:8443", "no valid host"),
        ("https://a..b", "no valid host"),
        ("https://b\xfccher.test", "no valid host"),
        ("https://[fe80::1%eth0]", "no valid host"),
        ("https://::1", "no valid host"),
        ("https://other.test:99999", "no valid host"),
    ],
)
def test_what_is_no_redirect_has_its_reason(text: str, reason: str) -> None:
    with pytest.raises(RouteError, match=reason):
        parse_redirect(text)


@pytest.mark.parametrize(
    ("text", "target", "location"),
    [
        ("https://", b"/", b"https://app.test/"),
        ("https://", b"/a%20b/?q=%22&r", b"https://app.test/a%20b/?q=%22&r"),
        ("http://other.test:8080", b"/x?y", b"http://other.test:8080/x?y"),
        ("https://other.test", b"//evil.test/", b"https://other.test//evil.test/"),
        ("https://other.test", b"*", b"https://other.test"),
        ("https://", b'/"<>\\^`{|}', b"https://app.test/%22%3C%3E%5C%5E%60%7B%7C%7D"),
    ],
)
def test_the_location_keeps_path_and_query_and_is_a_uri(
    text: str, target: bytes, location: bytes
) -> None:
    assert parse_redirect(text).location("app.test", target) == location


@pytest.mark.parametrize(
    ("text", "scheme", "authority", "back"),
    [
        ("https://", b"http", b"app.test", False),
        ("https://", b"HTTPS", b"app.test:8443", True),
        ("http://app.test", b"http", b"app.test", True),
        ("http://app.test", b"http", b"App.test:80", True),
        ("http://app.test", b"http", b"app.test:8080", False),
        ("http://app.test:8080", b"http", b"app.test:8080", True),
        ("http://other.test", b"http", b"app.test", False),
        ("http://app.test", b"https", b"app.test", False),
    ],
)
def test_a_redirect_to_where_the_request_is_leads_back(
    text: str, scheme: bytes, authority: bytes, back: bool
) -> None:
    assert parse_redirect(text).leads_back(scheme, "app.test", authority) is back


def test_a_host_that_is_a_number_is_not_a_port() -> None:
    assert Redirect("http", "8080", 80).leads_back(b"http", "8080", b"8080")

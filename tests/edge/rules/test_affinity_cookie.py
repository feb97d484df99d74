"""Proves `edge.rules.affinity_cookie`."""

import pytest

from edge.rules.affinity_cookie import cookie_line, cookie_value, cookie_values

A = cookie_value("app.test", "10.0.0.1:80", "")


class TestValues:
    def test_a_value_is_the_same_at_all_times_and_in_every_process(self) -> None:
        assert cookie_value("app.test", "10.0.0.1:80", "") == b"7ae8aeb1438ae7bd"
        assert cookie_value("app.test", "10.0.0.1:80", "secret") == b"f137a1a56dc46b0c"

    @pytest.mark.parametrize(
        ("domain", "address", "secret"),
        [
            ("app.test", "10.0.0.2:80", ""),
            ("app.test/x", "10.0.0.1:80", ""),
            ("app.test", "10.0.0.1:80", "a"),
            ("app.test", "10.0.0.1:80", "b" * 1000),
        ],
    )
    def test_targets_routes_and_secrets_have_values_of_their_own(
        self, domain: str, address: str, secret: str
    ) -> None:
        assert cookie_value(domain, address, secret) != A


class TestLines:
    @pytest.mark.parametrize(
        ("prefix", "path"),
        [
            (b"", b"/"),
            (b"/api", b"/api"),
            (b"/api/v1", b"/api/v1"),
            (b"/api/v;1", b"/api"),
            (b"/a;b/c", b"/"),
        ],
    )
    def test_the_path_is_the_prefix_as_far_as_a_cookie_can_say_it(
        self, prefix: bytes, path: bytes
    ) -> None:
        assert cookie_line(A, prefix) == (
            b"Set-Cookie: fairlead=%b; Path=%b; HttpOnly; SameSite=Lax\r\n" % (A, path)
        )


class TestReading:
    @pytest.mark.parametrize(
        "cookies",
        [
            b"fairlead=%b" % A,
            b"a=b; fairlead=%b; c=d" % A,
            b"a=b;fairlead=%b ;c=d" % A,
            b"a=b, fairlead=%b, c=d" % A,
        ],
    )
    def test_the_value_is_found_wherever_it_stands(self, cookies: bytes) -> None:
        assert cookie_values(cookies) == [A]

    def test_of_several_all_are_found_in_order(self) -> None:
        other = cookie_value("app.test/x", "10.0.0.1:80", "")
        assert cookie_values(b"fairlead=%b; fairlead=%b" % (other, A)) == [other, A]

    @pytest.mark.parametrize(
        "cookies",
        [
            b"",
            b"xfairlead=%b" % A,
            b"x=fairlead=%b" % A,
            b"fairlead=%b0" % A,
            b"fairlead=%b" % A[1:],
            b"fairlead=%b" % A.upper(),
            b'fairlead="%b"' % A,
        ],
    )
    def test_what_only_looks_like_it_is_not_taken_for_it(self, cookies: bytes) -> None:
        assert cookie_values(cookies) == []

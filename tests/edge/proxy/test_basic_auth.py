"""Credentials, and what checking them may cost."""

from types import SimpleNamespace

import pytest

from edge.proxy import basic_auth
from edge.proxy.basic_auth import parse_basic, retry_after
from edge.rules.password import MIN_COST, hash_password


@pytest.mark.parametrize(
    ("value", "credentials"),
    [
        (b"Basic YTpi", ("a", b"b")),
        (b"bASIC YTpi", ("a", b"b")),
        (b"Basic  YTpi ", ("a", b"b")),
        (b"Basic YTpiOmM=", ("a", b"b:c")),
        (b"Basic Og==", ("", b"")),
        (b"Basic ZcyBOmXMgQ==", ("\u00e9", b"\xc3\xa9")),
        (b"Basic /zr/", ("\ufffd", b"\xff")),
        (b"", None),
        (b"Basic", None),
        (b"Basic YQ==", None),
        (b"Basic YTpi, Basic YTpi", None),
        (b"Basic Y*Tpi", None),
        (b"Basic YTp", None),
        (b"Bearer YTpi", None),
        (b"BasicYTpi", None),
    ],
)
def test_basic_credentials_are_a_user_and_a_password(
    value: bytes, credentials: tuple[str, bytes] | None
) -> None:
    """RFC 7617 section 2."""
    assert parse_basic(value) == credentials


@pytest.mark.parametrize(("seconds", "said"), [(0.001, 1), (1.0, 1), (1.001, 2), (59.5, 60)])
def test_a_wait_is_told_in_whole_seconds_and_never_too_short(seconds: float, said: int) -> None:
    assert retry_after(seconds) == b"Retry-After: %d" % said


@pytest.mark.parametrize(
    ("secret", "is_user", "used", "rest"),
    [
        (b"right", True, 0.1, None),
        (b"wrong", True, 0.1, 0.4),
        (b"right", False, 0.1, 0.4),
        (b"wrong", True, 30.0, 0.5),
    ],
)
def test_after_a_wrong_password_the_thread_rests(
    monkeypatch: pytest.MonkeyPatch,
    secret: bytes,
    is_user: bool,
    used: float,
    rest: float | None,
) -> None:
    rests: list[float] = []
    times = iter((5.0, 5.0 + used))
    clock = SimpleNamespace(thread_time=lambda: next(times), sleep=rests.append)
    monkeypatch.setattr(basic_auth, "time", clock)
    stored = hash_password("right", cost=MIN_COST)
    assert basic_auth._check_work(stored, secret, is_user)() is (rest is None)
    assert rests == ([] if rest is None else [pytest.approx(rest)])

"""Proves `edge.rules.health_check`."""

import pytest

from edge.errors import RouteError
from edge.rules.health_check import HealthCheck, Streak, parse_statuses

CHECK = HealthCheck("/up", None, 5.0, 2.0, "200-399", 2, 3)


class TestStatuses:
    @pytest.mark.parametrize(
        ("text", "passing", "failing"),
        [
            ("200-399", (200, 302, 399), (199, 400, 500)),
            ("204", (204,), (200, 203, 205)),
            ("200,404-410,599", (200, 404, 407, 410, 599), (201, 403, 411, 598)),
        ],
    )
    def test_codes_and_ranges_are_read(
        self, text: str, passing: tuple[int, ...], failing: tuple[int, ...]
    ) -> None:
        check = CHECK._replace(status=text)
        assert all(map(check.passes, passing))
        assert not any(map(check.passes, failing))

    @pytest.mark.parametrize(
        "text",
        ["", "200,", "2xx", "199", "600", "100-200", "300-200", "200-", "200 - 299", "0200", "٢٠٠"],
    )
    def test_anything_else_is_refused(self, text: str) -> None:
        with pytest.raises(RouteError, match="such as 200-399"):
            parse_statuses(text)


class TestRequest:
    def test_it_asks_on_a_connection_of_its_own(self) -> None:
        assert CHECK.request("[::1]:9101") == (
            b"GET /up HTTP/1.1\r\nHost: [::1]:9101\r\nUser-Agent: fairlead-health\r\n"
            b"Accept: */*\r\nConnection: close\r\n\r\n"
        )

    def test_it_sends_the_host_that_it_is_given(self) -> None:
        assert b"\r\nHost: app.test\r\n" in CHECK._replace(host="app.test").request("a:1")


class TestStreak:
    @pytest.mark.parametrize("passed", [True, False])
    def test_the_first_answer_is_believed(self, passed: bool) -> None:
        streak = Streak()
        assert streak.add(passed, CHECK) == 1
        assert streak.healthy is passed

    def test_the_tale_of_answers(self) -> None:
        streak = Streak()
        told = [
            (streak.add(letter == "+", CHECK), streak.healthy) for letter in "+--+--+---+-++-+---"
        ]
        changes = [(number, *each) for number, each in enumerate(told) if each[0]]
        assert changes == [(0, 1, True), (9, 3, False), (13, 2, True), (18, 3, False)]

    @pytest.mark.parametrize(("now", "due"), [(10, 15), (10.4, 15), (14.9, 15), (15, 20), (33, 35)])
    def test_beats_do_not_shift(self, now: float, due: float) -> None:
        streak = Streak(due=10)
        streak.next_due(now, 5)
        assert streak.due == due

    def test_it_shows_what_it_amounts_to(self) -> None:
        assert repr(Streak()) == "<Streak healthy=None consecutive_contrary=0>"

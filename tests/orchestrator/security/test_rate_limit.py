"""Proves `orchestrator.security.rate_limit`."""

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.security.rate_limit import RateLimiter, client_key


class TestRate:
    def test_a_burst_is_let_in_at_once_and_then_one_by_one(self) -> None:
        limiter = RateLimiter(5, 30)
        assert [limiter.retry_after("192.0.2.1", 100.0) for _ in range(30)] == [0.0] * 30
        assert abs(limiter.retry_after("192.0.2.1", 100.0) - 0.2) < 1e-6
        assert abs(limiter.retry_after("192.0.2.1", 100.1) - 0.1) < 1e-6
        assert limiter.retry_after("192.0.2.1", 100.2) == 0.0
        assert limiter.retry_after("192.0.2.1", 100.2) > 0.0

    def test_to_be_refused_costs_nothing(self) -> None:
        limiter = RateLimiter(1, 1)
        assert limiter.retry_after("192.0.2.1", 0.0) == 0.0
        for _ in range(1000):
            assert limiter.retry_after("192.0.2.1", 0.5) > 0.0
        assert limiter.retry_after("192.0.2.1", 1.0) == 0.0

    def test_clients_do_not_pay_for_each_other(self) -> None:
        limiter = RateLimiter(1, 1)
        assert limiter.retry_after("192.0.2.1", 0.0) == 0.0
        assert limiter.retry_after("192.0.2.2", 0.0) == 0.0
        assert limiter.retry_after("192.0.2.1", 0.0) > 0.0

    @given(
        rate=st.floats(0.1, 1000),
        burst=st.integers(1, 50),
        pauses=st.lists(st.floats(0, 10), min_size=1, max_size=200),
    )
    def test_never_more_than_burst_and_rate_allow_in_any_time(
        self, rate: float, burst: int, pauses: list[float]
    ) -> None:
        limiter = RateLimiter(rate, burst)
        now, let_in = 1000.0, []
        for pause in pauses:
            now += pause
            if limiter.retry_after("192.0.2.1", now) == 0.0:
                let_in.append(now)
        for first, begin in enumerate(let_in):
            for last in range(first, len(let_in)):
                allowed = burst + rate * (let_in[last] - begin)
                assert last - first + 1 <= allowed + rate * 1e-5

    @given(
        rate=st.floats(0.1, 1000),
        burst=st.integers(1, 50),
        pauses=st.lists(st.floats(0, 10), min_size=1, max_size=100),
    )
    def test_who_waits_as_told_is_let_in(
        self, rate: float, burst: int, pauses: list[float]
    ) -> None:
        limiter = RateLimiter(rate, burst)
        now = 1000.0
        for pause in pauses:
            now += pause
            if wait := limiter.retry_after("192.0.2.1", now):
                now += wait
                assert limiter.retry_after("192.0.2.1", now) == 0.0


class TestSecurity6Table:
    """Rate limits by peer, IPv6 by /64, tables bounded."""

    def test_a_customer_s_64_is_one_client(self) -> None:
        limiter = RateLimiter(1, 1)
        assert limiter.retry_after("2001:db8:0:1::1", 0.0) == 0.0
        assert limiter.retry_after("2001:db8:0:1:ffff::2", 0.0) > 0.0
        assert limiter.retry_after("2001:db8:0:2::1", 0.0) == 0.0

    def test_ipv4_in_ipv6_is_ipv4(self) -> None:
        assert client_key("::ffff:192.0.2.1") == client_key("192.0.2.1")
        assert client_key("::ffff:192.0.2.1") != client_key("::ffff:192.0.2.2")

    def test_a_peer_without_an_address_is_one_client(self) -> None:
        limiter = RateLimiter(1, 1)
        assert limiter.retry_after("", 0.0) == 0.0
        assert limiter.retry_after("", 0.0) > 0.0
        assert limiter.retry_after("\ud800", 0.0) == 0.0

    def test_the_table_is_bounded_and_forgets_who_was_silent_the_longest(self) -> None:
        limiter = RateLimiter(1, 1, max_clients=3)
        for client in ("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.1", "192.0.2.4"):
            limiter.retry_after(client, 0.0)
        assert len(limiter) == 3
        assert limiter.retry_after("192.0.2.1", 0.0) > 0.0
        assert limiter.retry_after("192.0.2.2", 0.0) == 0.0

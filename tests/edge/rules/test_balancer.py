"""Proves `edge.rules.balancer`."""

import pytest

from edge.rules.affinity_cookie import cookie_line, cookie_value
from edge.rules.balancer import MAX_ORDERS, Balancer, make_balancer, spread

KINDS = ["round_robin", "least_in_flight", "client_hash", "cookie"]
CLIENTS = [f"192.0.2.{number}" for number in range(256)]


class Box:
    """A target."""

    def __init__(
        self, address: str = "a:1", *, in_flight: int = 0, unavailable_until: float = 0.0
    ) -> None:
        self.address = address
        self.in_flight = in_flight
        self.unavailable_until = unavailable_until

    def __repr__(self) -> str:
        return f"<Box {self.address}>"


class Request:
    """One that a target is picked for; `line` is the cookie that its response sets."""

    def __init__(self, client: str = "192.0.2.1", cookies: bytes = b"") -> None:
        self._client = client
        self._cookies = cookies
        self.line: bytes | None = None

    @property
    def client_address(self) -> str:
        return self._client

    def cookies(self) -> bytes:
        return self._cookies

    def set_cookie(self, line: bytes) -> None:
        self.line = line


def boxes(count: int) -> list[Box]:
    return [Box(f"10.0.0.{number}:80") for number in range(count)]


def test_weights_are_spread_and_not_bunched() -> None:
    a, b = boxes(2)
    assert spread([a, b], [30, 10]) == (a, a, b, a)


@pytest.mark.parametrize("name", KINDS)
class TestAnyBalancer:
    def test_a_target_at_rest_is_only_the_second_choice(self, name: str) -> None:
        resting = Box("a:1", unavailable_until=5.0)
        well = Box("b:2", in_flight=9)
        balancer = make_balancer(name, [resting, well], [1, 1])
        picked = [balancer.pick(1.0, (), Request(client)) for client in CLIENTS]
        assert picked == [well] * len(CLIENTS)
        assert balancer.pick(1.0, (well,), Request()) is resting
        assert balancer.pick(1.0, (well, resting), Request()) is None

    def test_each_target_gets_its_turn_with_every_order_and_time(self, name: str) -> None:
        targets = boxes(3)
        balancer = make_balancer(name, targets, [1, 2, 3])
        for client in CLIENTS[:20]:
            tried: tuple[Box, ...] = ()
            while (target := balancer.pick(0.0, tried, Request(client))) is not None:
                assert target not in tried
                tried += (target,)
            assert set(tried) == set(targets)


def test_the_least_busy_for_its_weight_is_chosen() -> None:
    light, heavy = Box(in_flight=2), Box(in_flight=3)
    balancer = make_balancer("least_in_flight", [light, heavy], [1, 2])
    assert balancer.pick(0.0, (), Request()) is heavy


class TestClientHash:
    """Thaler and Ravishankar 1998: only the clients of the target that goes are moved."""

    def picks(self, balancer: Balancer[Box]) -> dict[str, Box | None]:
        return {client: balancer.pick(1.0, (), Request(client)) for client in CLIENTS}

    def test_a_client_has_the_same_target_each_time_and_in_every_process(self) -> None:
        targets = boxes(4)
        first = self.picks(make_balancer("client_hash", targets, [1, 1, 1, 1]))
        assert self.picks(make_balancer("client_hash", targets[::-1], [1, 1, 1, 1])) == first
        assert list(first.values())[:6] == [targets[number] for number in (1, 2, 3, 3, 1, 3)]

    def test_clients_that_differ_in_one_bit_are_spread(self) -> None:
        targets = boxes(4)
        picked = list(self.picks(make_balancer("client_hash", targets, [1] * 4)).values())
        # 64 of 256 each are expected; seven standard deviations are 49.
        assert all(15 <= picked.count(target) <= 113 for target in targets)

    def test_weights_count(self) -> None:
        light, heavy = boxes(2)
        picked = list(self.picks(make_balancer("client_hash", [light, heavy], [1, 7])).values())
        # 224 of 256 are expected; six standard deviations are 32.
        assert 192 <= picked.count(heavy) < 256

    @pytest.mark.parametrize("weights", [[1, 1, 1, 1], [1, 2, 3, 4]])
    def test_a_target_that_leaves_moves_only_its_own_clients(self, weights: list[int]) -> None:
        targets = boxes(4)
        before = self.picks(make_balancer("client_hash", targets, weights))
        after = self.picks(make_balancer("client_hash", targets[1:], weights[1:]))
        gone = targets[0]
        assert gone in before.values()
        assert {c: after[c] for c, target in before.items() if target is not gone} == {
            c: target for c, target in before.items() if target is not gone
        }
        assert {after[c] for c, target in before.items() if target is gone} == set(targets[1:])

    def test_a_target_that_rests_moves_only_its_own_clients_and_gets_them_back(self) -> None:
        targets = boxes(3)
        balancer = make_balancer("client_hash", targets, [1, 1, 1])
        before = self.picks(balancer)
        targets[0].unavailable_until = 9.0
        during = self.picks(balancer)
        assert targets[0] not in during.values()
        moved = {client for client in CLIENTS if during[client] is not before[client]}
        assert moved == {client for client in CLIENTS if before[client] is targets[0]}
        targets[0].unavailable_until = 0.0
        assert self.picks(balancer) == before

    def test_clients_without_number_change_nothing_for_those_before(self) -> None:
        targets = boxes(3)
        balancer = make_balancer("client_hash", targets, [1, 1, 1])
        before = self.picks(balancer)
        for number in range(MAX_ORDERS + 1):
            balancer.pick(0.0, (), Request(f"10.1.{number >> 8}.{number & 255}"))
        assert self.picks(balancer) == before

    def test_where_all_rest_each_client_keeps_its_own(self) -> None:
        targets = boxes(3)
        balancer = make_balancer("client_hash", targets, [1, 1, 1])
        before = self.picks(balancer)
        for target in targets:
            target.unavailable_until = 9.0
        assert self.picks(balancer) == before


class TestCookieAffinity:
    def balancer(self, targets: list[Box]) -> Balancer[Box]:
        weights = [1] * len(targets)
        return make_balancer("cookie", targets, weights, "app.test/x", b"/x", "secret")

    def value(self, target: Box) -> bytes:
        return cookie_value("app.test/x", target.address, "secret")

    def asked_with(self, target: Box) -> Request:
        return Request(cookies=b"a=b; fairlead=" + self.value(target))

    def test_without_a_cookie_the_targets_take_turns_and_each_sets_its_own(self) -> None:
        targets = boxes(3)
        balancer = self.balancer(targets)
        requests = [Request() for _ in range(6)]
        assert [balancer.pick(0.0, (), request) for request in requests] == targets * 2
        for target, request in zip(targets * 2, requests, strict=True):
            assert request.line == cookie_line(self.value(target), b"/x")

    def test_with_a_cookie_its_target_is_picked_and_nothing_is_set(self) -> None:
        targets = boxes(3)
        balancer = self.balancer(targets)
        for target in (*targets[::-1], *targets):
            request = self.asked_with(target)
            assert balancer.pick(0.0, (), request) is target
            assert not request.line

    def test_of_several_cookies_the_one_of_this_route_counts(self) -> None:
        one, other = boxes(2)
        foreign = cookie_value("app.test", one.address, "secret")
        cookies = b"fairlead=%b; fairlead=%b" % (foreign, self.value(other))
        assert self.balancer([one, other]).pick(0.0, (), Request(cookies=cookies)) is other

    @pytest.mark.parametrize("why", ["rests", "was tried", "is none of this route"])
    def test_where_its_target_cannot_serve_another_one_does_and_is_remembered(
        self, why: str
    ) -> None:
        one, other, stranger = boxes(3)
        held = stranger if why == "is none of this route" else one
        one.unavailable_until = 9.0 if held is stranger or why == "rests" else 0.0
        request = self.asked_with(held)
        tried = (one,) if why == "was tried" else ()
        assert self.balancer([one, other]).pick(1.0, tried, request) is other
        assert request.line == cookie_line(self.value(other), b"/x")

    def test_a_cookie_that_was_to_be_set_is_not_where_its_target_serves_after_all(self) -> None:
        one, other = boxes(2)
        one.unavailable_until = 5.0
        balancer = self.balancer([one, other])
        request = self.asked_with(one)
        assert balancer.pick(4.0, (), request) is other
        assert balancer.pick(5.0, (other,), request) is one
        assert request.line == b""

    def test_where_none_is_left_nothing_is_set(self) -> None:
        request = Request()
        (only,) = boxes(1)
        assert self.balancer([only]).pick(0.0, (only,), request) is None
        assert request.line is None

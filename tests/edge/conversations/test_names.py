"""Names as targets: which addresses are used, and that only its own requests wait for a name.

The name server is a real one, and so are the addresses: all of 127.0.0.0/8 is this machine.
"""

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from edge.upstream import dialer, hosts_file, name_servers, resolver
from edge.upstream.health import TargetState
from edge.upstream.name_servers import LOOKUP_TIMEOUT
from edge.upstream.resolver import (
    IN_USE,
    KEEP,
    MAX_LOOKUPS,
    MAX_RETRIES,
    MAX_RETRY,
    MAX_TTL,
    MIN_RETRY,
    MIN_TTL,
    NONEXISTENT_HOLD,
)
from tests.harness import Client, Conversation, Edge, Upstream, UpstreamConnection
from tests.messages import ok, request, response
from tests.name_server import NameServer

NAME = "app.internal"
HOST = "named.test"


@pytest.fixture
def name_server(conversation: Conversation) -> NameServer:
    return NameServer(conversation)


@pytest.fixture(autouse=True)
def hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hosts file of the edge, which is not there yet."""
    path = tmp_path / "hosts"
    monkeypatch.setattr(hosts_file, "PATH", path)
    return path


@pytest.fixture
def edge(make_edge: Callable[..., Edge], upstream: Upstream, name_server: NameServer) -> Edge:
    """An edge that serves named.test from the upstream, by a name, and app.test by its address."""
    edge = make_edge(resolver=(name_server.address,))
    edge.routes("app.test", upstream.target)
    edge.routes(HOST, f"{NAME}:{upstream.port}")
    return edge


def asks(edge: Edge, host: str = HOST) -> Client:
    """A new client, which has sent a request."""
    client = edge.connects()
    client.sends(request("GET /", host=host))
    return client


def serves(client: Client, upstream: Upstream, *fields: str) -> UpstreamConnection:
    """The upstream gets the request of `client` on a new connection, and answers it."""
    connection = upstream.accepts()
    connection.receives_request()
    connection.sends(ok("served", *fields))
    assert client.receives_response().text == "served"
    return connection


def serves_once(edge: Edge, upstream: Upstream, host: str = HOST) -> None:
    """A new client is served on a connection that nobody has after it."""
    client = asks(edge, host)
    connection = serves(client, upstream, "Connection: close")
    connection.sees_end()
    client.closes()


def is_refused(edge: Edge, host: str = HOST) -> None:
    assert asks(edge, host).receives_response().status == 502


def is_looked_up(edge: Edge, name_server: NameServer, name: str = NAME) -> None:
    """The name server has answered once more, and the edge has read it."""
    for family in ("A", "AAAA"):
        name_server.is_asked(name, family)
    edge.settle()
    edge.settle()


def state(edge: Edge, upstream: Upstream, name: str = NAME) -> TargetState:
    """What `/routes` is made of."""

    async def states() -> list[TargetState]:
        return edge.worker.state.health.states()

    address = f"{name}:{upstream.port}"
    (found,) = [each for each in edge.calls(states()) if each.address == address]
    return found


def said(caplog: pytest.LogCaptureFixture, name: str = NAME) -> list[str]:
    """The lines of the log about a name, without what goes beyond the fact."""
    found = [record.getMessage() for record in caplog.records]
    return [re.split("[:;]", line)[0] for line in found if f"the name {name} " in line]


class TestAName:
    def test_is_looked_up_and_served(
        self, edge: Edge, upstream: Upstream, name_server: NameServer
    ) -> None:
        name_server.knows(NAME, "127.0.0.1")
        serves_once(edge, upstream)
        found = state(edge, upstream)
        assert (found.addresses, found.name_error) == (("127.0.0.1",), "")

    def test_is_asked_for_once_while_it_is_known(
        self, edge: Edge, upstream: Upstream, name_server: NameServer
    ) -> None:
        name_server.knows(NAME, "127.0.0.1", ttl=20)
        for _ in range(5):
            serves_once(edge, upstream)
        assert (name_server.asked(NAME), name_server.asked(NAME, "AAAA")) == (1, 1)

    def test_is_asked_for_again_when_its_ttl_is_over(
        self, edge: Edge, upstream: Upstream, name_server: NameServer
    ) -> None:
        name_server.knows(NAME, "127.0.0.1", ttl=20)
        serves_once(edge, upstream)
        edge.advance(19)
        assert name_server.asked(NAME) == 1
        name_server.is_asked(NAME)
        edge.advance(1)
        name_server.is_asked(NAME)

    @pytest.mark.parametrize(("ttl", "seconds"), [(0, MIN_TTL), (600, MAX_TTL)])
    def test_is_asked_for_within_bounds_whatever_its_ttl_is(
        self, edge: Edge, upstream: Upstream, name_server: NameServer, ttl: int, seconds: float
    ) -> None:
        name_server.knows(NAME, "127.0.0.1", ttl=ttl)
        serves_once(edge, upstream)
        serves_once(edge, upstream)
        edge.advance(seconds - 0.1)
        assert name_server.asked(NAME) == 1
        name_server.is_asked(NAME)
        edge.advance(0.1)
        name_server.is_asked(NAME)

    def test_is_asked_for_with_the_search_domains_of_the_system(
        self,
        edge: Edge,
        upstream: Upstream,
        name_server: NameServer,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        conf = tmp_path / "resolv.conf"
        conf.write_text("nameserver 192.0.2.1\nsearch one.test two.test\noptions ndots:2\n")
        monkeypatch.setattr(name_servers, "RESOLV_CONF", conf)
        name_server.knows("app.internal.two.test", "127.0.0.1")
        serves_once(edge, upstream)
        assert name_server.asked("app.internal.one.test") == 1
        assert name_server.asked(NAME) == 0

    def test_is_asked_for_with_the_search_domains_that_the_system_has_by_now(
        self,
        edge: Edge,
        upstream: Upstream,
        name_server: NameServer,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        conf = tmp_path / "resolv.conf"
        conf.write_text("nameserver 192.0.2.1\nsearch one.test\noptions ndots:2\n")
        monkeypatch.setattr(name_servers, "RESOLV_CONF", conf)
        is_refused(edge)
        assert name_server.asked("app.internal.one.test") == 1
        conf.write_text("nameserver 192.0.2.1\nsearch three.test\noptions ndots:2\n")
        name_server.knows("app.internal.three.test", "127.0.0.1")
        edge.advance(MIN_RETRY)
        is_looked_up(edge, name_server, "app.internal.three.test")
        serves_once(edge, upstream)

    def test_has_its_health_checked_by_the_same_addresses(
        self, edge: Edge, upstream: Upstream, name_server: NameServer
    ) -> None:
        name_server.knows(NAME, "127.0.0.1")
        edge.routes(HOST, f"{NAME}:{upstream.port}", health_path="/up")
        edge.advance(0)
        probe = upstream.accepts()
        assert probe.receives_request().target == "/up"
        probe.sends(response("204 No Content", "Connection: close"))
        edge.settle()
        assert state(edge, upstream).state == "healthy"
        serves_once(edge, upstream)
        assert name_server.asked(NAME) == 1

    def test_that_cannot_be_resolved_fails_its_health_checks(
        self, edge: Edge, upstream: Upstream, name_server: NameServer
    ) -> None:
        edge.routes(HOST, f"{NAME}:{upstream.port}", health_path="/up")
        edge.advance(0)
        name_server.is_asked(NAME)
        is_refused(edge)
        found = state(edge, upstream)
        assert (found.state, found.reason) == (
            "unhealthy",
            "the name of the upstream could not be resolved",
        )
        assert found.name_error == "it does not exist (NXDOMAIN)"

    def test_may_be_localhost_which_no_name_server_is_asked_for(
        self, edge: Edge, upstream: Upstream, name_server: NameServer
    ) -> None:
        edge.routes("local.test", f"localhost:{upstream.port}")
        serves_once(edge, upstream, "local.test")
        assert name_server.asked("localhost") == 0


class TestTheHostsFile:
    def test_counts_before_the_name_servers(
        self, edge: Edge, upstream: Upstream, name_server: NameServer, hosts: Path
    ) -> None:
        hosts.write_text(f"127.0.0.1 other {NAME}\n")
        name_server.knows(NAME, "127.0.0.9")
        serves_once(edge, upstream)
        assert name_server.asked(NAME) == 0

    def test_is_read_again_when_it_changes(
        self,
        edge: Edge,
        conversation: Conversation,
        upstream: Upstream,
        name_server: NameServer,
        hosts: Path,
    ) -> None:
        second = Upstream(conversation, "127.0.0.2", port=upstream.port)
        hosts.write_text(f"127.0.0.1 {NAME}\n")
        serves_once(edge, upstream)
        hosts.write_text(f"# moved\n127.0.0.2 {NAME}\n")
        edge.advance(0)
        serves_once(edge, second)
        hosts.write_text("")
        name_server.knows(NAME, "127.0.0.1")
        edge.advance(0)
        is_looked_up(edge, name_server)
        serves_once(edge, upstream)


class TestManyAddresses:
    def test_are_all_used_in_turn(
        self, edge: Edge, conversation: Conversation, upstream: Upstream, name_server: NameServer
    ) -> None:
        others = [
            Upstream(conversation, host, port=upstream.port) for host in ("127.0.0.2", "127.0.0.3")
        ]
        name_server.knows(NAME, "127.0.0.1", "127.0.0.2", "127.0.0.3")
        upstreams = [upstream, *others]
        for _ in range(4):
            for client in [asks(edge) for _ in upstreams]:
                client.closes()
            for each in upstreams:
                each.accepts().closes()

    def test_of_both_families_are_used(
        self, edge: Edge, conversation: Conversation, upstream: Upstream, name_server: NameServer
    ) -> None:
        six = Upstream(conversation, "::1", port=upstream.port)
        name_server.knows(NAME, "127.0.0.1", "::1")
        for client in [asks(edge), asks(edge)]:
            client.closes()
        upstream.accepts().closes()
        six.accepts().closes()

    def test_come_over_tcp_where_they_are_too_many_for_a_datagram(
        self, edge: Edge, upstream: Upstream, name_server: NameServer
    ) -> None:
        name_server.knows(NAME, *(f"127.0.1.{number}" for number in range(1, 101)), "127.0.0.1")
        serves_once(edge, upstream)
        assert len(state(edge, upstream).addresses) == 101

    def test_are_tried_one_after_the_other_where_they_refuse(
        self, edge: Edge, upstream: Upstream, name_server: NameServer
    ) -> None:
        name_server.knows(NAME, "127.0.0.1", *(f"127.0.0.{number}" for number in range(2, 9)))
        for _ in range(16):
            serves_once(edge, upstream)
        assert edge.metrics()["fairlead_upstream_retries_total"] == 0

    def test_are_tried_beside_one_that_is_silent_which_comes_last_from_then_on(
        self,
        edge: Edge,
        conversation: Conversation,
        upstream: Upstream,
        name_server: NameServer,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        silent = Upstream(conversation, "127.0.0.2", port=upstream.port)
        silent.swallows()
        name_server.knows(NAME, "127.0.0.1", "127.0.0.2")
        serves_once(edge, upstream)
        serves_once(edge, upstream)
        # One of them has met the silence. Had another one to wait for it, it would never be served.
        monkeypatch.setattr(dialer, "ATTEMPT_DELAY", None)
        for _ in range(6):
            serves_once(edge, upstream)

    def test_of_a_family_that_cannot_be_reached_cost_nothing(
        self, edge: Edge, upstream: Upstream, name_server: NameServer
    ) -> None:
        name_server.knows(NAME, "127.0.0.1", "2001:db8::1", "2001:db8::2")
        for _ in range(4):
            serves_once(edge, upstream)

    def test_do_not_wait_for_a_family_about_which_the_server_is_silent(
        self, edge: Edge, upstream: Upstream, name_server: NameServer
    ) -> None:
        name_server.knows(NAME, "127.0.0.1")
        name_server.is_silent_about(NAME, "AAAA")
        serves_once(edge, upstream)
        assert state(edge, upstream).addresses == ("127.0.0.1",)

    def test_that_all_refuse_are_502_and_are_asked_for_anew(
        self, edge: Edge, name_server: NameServer
    ) -> None:
        name_server.knows(NAME, "127.0.0.2", "127.0.0.3", ttl=600)
        is_refused(edge)
        name_server.is_asked(NAME)
        edge.advance(MIN_TTL)
        name_server.is_asked(NAME)


class TestANameThatMoves:
    def test_takes_its_idle_connections_along(
        self, edge: Edge, conversation: Conversation, upstream: Upstream, name_server: NameServer
    ) -> None:
        second = Upstream(conversation, "127.0.0.2", port=upstream.port)
        name_server.knows(NAME, "127.0.0.1", ttl=10)
        client = asks(edge)
        connection = serves(client, upstream)
        self._moves(edge, name_server, "127.0.0.2")
        connection.sees_end()
        client.sends(request("GET /", host=HOST))
        serves(client, second)

    def test_lets_what_is_in_flight_end_where_it_is(
        self, edge: Edge, conversation: Conversation, upstream: Upstream, name_server: NameServer
    ) -> None:
        second = Upstream(conversation, "127.0.0.2", port=upstream.port)
        name_server.knows(NAME, "127.0.0.1", ttl=10)
        client = asks(edge)
        connection = upstream.accepts()
        connection.receives_request()
        self._moves(edge, name_server, "127.0.0.2")
        connection.sends(ok("the last one"))
        assert client.receives_response().text == "the last one"
        connection.sees_end()
        client.sends(request("GET /", host=HOST))
        serves(client, second)

    def test_keeps_the_connections_to_addresses_that_stay(
        self, edge: Edge, upstream: Upstream, name_server: NameServer
    ) -> None:
        name_server.knows(NAME, "127.0.0.1", ttl=10)
        client = asks(edge)
        connection = serves(client, upstream)
        self._moves(edge, name_server, "127.0.0.1", "127.0.0.2")
        client.sends(request("GET /", host=HOST))
        connection.receives_request()
        connection.sends(ok("served"))
        assert client.receives_response().text == "served"

    def test_does_not_break_a_tunnel(
        self, edge: Edge, upstream: Upstream, name_server: NameServer
    ) -> None:
        name_server.knows(NAME, "127.0.0.1", ttl=10)
        client = edge.connects()
        client.sends(request("GET /", "Connection: upgrade", "Upgrade: echo", host=HOST))
        connection = upstream.accepts()
        connection.receives_request()
        connection.sends(
            response("101 Switching Protocols", "Connection: upgrade", "Upgrade: echo")
        )
        assert client.receives_response().status == 101
        self._moves(edge, name_server, "127.0.0.2")
        client.sends(b"hello")
        connection.receives(b"hello")

    @staticmethod
    def _moves(edge: Edge, name_server: NameServer, *addresses: str) -> None:
        """The name has these addresses, and the edge has learnt of it."""
        name_server.is_asked(NAME)
        name_server.is_asked(NAME, "AAAA")
        name_server.knows(NAME, *addresses, ttl=10)
        edge.advance(10)
        is_looked_up(edge, name_server)
        edge.advance(0)


class TestANameThatCannotBeResolved:
    def test_is_502_at_once_and_said_once(
        self,
        edge: Edge,
        upstream: Upstream,
        name_server: NameServer,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.INFO)
        for _ in range(5):
            is_refused(edge)
        assert name_server.asked(NAME) == 1
        assert said(caplog) == [f"the name {NAME} of a target cannot be resolved"]
        assert state(edge, upstream).name_error == "it does not exist (NXDOMAIN)"
        assert edge.metrics()['fairlead_upstream_errors_total{kind="resolve"}'] == 5

    def test_is_served_as_soon_as_it_can_be(
        self,
        edge: Edge,
        upstream: Upstream,
        name_server: NameServer,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.INFO)
        is_refused(edge)
        name_server.is_asked(NAME)
        name_server.is_asked(NAME, "AAAA")
        name_server.knows(NAME, "127.0.0.1")
        edge.advance(MIN_RETRY)
        is_looked_up(edge, name_server)
        serves_once(edge, upstream)
        assert said(caplog) == [
            f"the name {NAME} of a target cannot be resolved",
            f"the name {NAME} of a target is resolved again",
        ]
        assert state(edge, upstream).name_error == ""

    def test_is_asked_for_less_often_with_each_failure(
        self, edge: Edge, name_server: NameServer
    ) -> None:
        is_refused(edge)
        for pause in (1, 2, 4, MAX_RETRY, MAX_RETRY):
            is_looked_up(edge, name_server)
            asked = name_server.asked(NAME)
            edge.advance(pause - 0.5)
            assert name_server.asked(NAME) == asked
            edge.advance(0.5)
        is_looked_up(edge, name_server)

    @pytest.mark.parametrize("how", ["hangs", "fails"])
    def test_serves_its_last_addresses_without_a_limit(
        self,
        edge: Edge,
        upstream: Upstream,
        name_server: NameServer,
        caplog: pytest.LogCaptureFixture,
        how: str,
    ) -> None:
        caplog.set_level(logging.INFO)
        name_server.knows(NAME, "127.0.0.1", ttl=20)
        serves_once(edge, upstream)
        name_server.is_asked(NAME)
        if how == "hangs":
            name_server.is_silent_about(NAME)
        else:
            name_server.fails(NAME)
        edge.advance(20)
        name_server.is_asked(NAME)
        for _ in range(40):
            serves_once(edge, upstream)
            edge.advance(LOOKUP_TIMEOUT)
        assert said(caplog) == [f"the name {NAME} of a target cannot be resolved"]
        found = state(edge, upstream)
        assert found.addresses == ("127.0.0.1",)
        assert found.name_error

    def test_serves_its_last_addresses_for_a_while_when_it_does_not_exist_any_more(
        self,
        edge: Edge,
        upstream: Upstream,
        name_server: NameServer,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.INFO)
        name_server.knows(NAME, "127.0.0.1", ttl=1)
        serves_once(edge, upstream)
        name_server.is_asked(NAME)
        name_server.is_asked(NAME, "AAAA")
        name_server.forgets(NAME)
        edge.advance(1)
        is_looked_up(edge, name_server)
        serves_once(edge, upstream)
        edge.advance(NONEXISTENT_HOLD - 1)
        is_looked_up(edge, name_server)
        serves_once(edge, upstream)
        edge.advance(MAX_RETRY)
        is_looked_up(edge, name_server)
        is_refused(edge)
        assert said(caplog) == [
            f"the name {NAME} of a target cannot be resolved",
            f"the name {NAME} of a target does not exist any more",
        ]


class TestANameThatHangs:
    def test_is_asked_for_once_however_many_wait_and_all_are_served_then(
        self, edge: Edge, upstream: Upstream, name_server: NameServer
    ) -> None:
        name_server.is_silent_about(NAME)
        clients = [asks(edge) for _ in range(20)]
        name_server.is_asked(NAME)
        edge.settle()
        name_server.knows(NAME, "127.0.0.1")
        for connection in [upstream.accepts() for _ in clients]:
            connection.receives_request()
            connection.sends(ok("served"))
        for client in clients:
            assert client.receives_response().text == "served"
        assert state(edge, upstream).addresses == ("127.0.0.1",)

    def test_is_502_when_the_lookup_is_given_up_and_at_once_from_then_on(
        self,
        edge: Edge,
        upstream: Upstream,
        name_server: NameServer,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.INFO)
        name_server.is_silent_about(NAME)
        clients = [asks(edge) for _ in range(20)]
        name_server.is_asked(NAME)
        edge.advance(LOOKUP_TIMEOUT)
        for client in clients:
            assert client.receives_response().status == 502
        for _ in range(20):
            is_refused(edge)
        assert said(caplog) == [f"the name {NAME} of a target cannot be resolved"]
        assert state(edge, upstream).name_error == "the name servers did not answer within 4 s"

    def test_lets_only_so_many_wait(
        self, edge: Edge, name_server: NameServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(resolver, "MAX_WAITING", 3)
        name_server.is_silent_about(NAME)
        clients = [asks(edge) for _ in range(3)]
        edge.settle()
        is_refused(edge)
        for client in clients:
            client.receives_nothing()
            client.closes()

    def test_holds_up_nobody_else(
        self, edge: Edge, upstream: Upstream, name_server: NameServer
    ) -> None:
        good = "good.internal"
        name_server.knows(good, "127.0.0.1")
        edge.routes("good.test", f"{good}:{upstream.port}")
        name_server.is_silent_about(NAME)
        waiting = []
        for _ in range(20):
            waiting.append(asks(edge))
            serves_once(edge, upstream, "good.test")
            serves_once(edge, upstream, "app.test")
        name_server.is_asked(NAME)
        for client in waiting:
            client.receives_nothing()
            client.closes()

    def test_is_one_of_many_and_a_name_that_is_new_finds_room(
        self, edge: Edge, upstream: Upstream, name_server: NameServer
    ) -> None:
        hanging = [f"hanging{number}.internal" for number in range(MAX_LOOKUPS)]
        for name in hanging:
            name_server.is_silent_about(name)
            edge.writes(f"{name}.test", f"{name}:{upstream.port}")
        good = "good.internal"
        name_server.knows(good, "127.0.0.1")
        edge.routes("good.test", f"{good}:{upstream.port}")
        waiting = [asks(edge, f"{name}.test") for name in hanging]
        for name in hanging:
            name_server.is_asked(name)
        # All places are taken, this once: names that have failed get few of them.
        last = asks(edge, "good.test")
        edge.settle()
        assert name_server.asked(good) == 0
        edge.advance(LOOKUP_TIMEOUT)
        serves(last, upstream, "Connection: close")
        for client in waiting:
            assert client.receives_response().status == 502
        before = {name: name_server.asked(name) for name in hanging}
        edge.advance(MIN_RETRY)
        late = "late.internal"
        name_server.knows(late, "127.0.0.1")
        edge.routes("late.test", f"{late}:{upstream.port}")
        serves_once(edge, upstream, "late.test")
        retried = [name for name in hanging if name_server.asked(name) > before[name]]
        assert len(retried) == MAX_RETRIES

    def test_lets_one_go_that_waits_for_its_turn_when_its_target_goes(
        self, edge: Edge, upstream: Upstream, name_server: NameServer
    ) -> None:
        # There are few descriptors.
        edge.worker.state.budget.max_lookups = 1
        name_server.is_silent_about(NAME)
        first = asks(edge)
        name_server.is_asked(NAME)
        edge.routes("second.test", f"second.internal:{upstream.port}")
        second = asks(edge, "second.test")
        edge.settle()
        edge.unroutes("second.test")
        assert second.receives_response().status == 502
        assert name_server.asked("second.internal") == 0
        first.receives_nothing()
        first.closes()

    def test_is_502_and_no_hanging_request_if_the_lookup_itself_is_at_fault(
        self, edge: Edge, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def ask(self: name_servers.NameServers, host: str) -> NoReturn:
            raise ZeroDivisionError

        monkeypatch.setattr(name_servers.NameServers, "ask", ask)
        is_refused(edge)
        assert f"looking up the name {NAME} failed" in caplog.messages


class TestANameThatIsForgotten:
    def test_is_asked_for_no_more_when_nobody_has_wanted_it_for_a_while(
        self, edge: Edge, upstream: Upstream, name_server: NameServer
    ) -> None:
        name_server.knows(NAME, "127.0.0.1", ttl=10)
        serves_once(edge, upstream)
        edge.advance(IN_USE)
        edge.advance(10)
        assert name_server.asked(NAME) == 1

    def test_is_looked_up_first_when_it_is_wanted_again(
        self, edge: Edge, conversation: Conversation, upstream: Upstream, name_server: NameServer
    ) -> None:
        second = Upstream(conversation, "127.0.0.2", port=upstream.port)
        name_server.knows(NAME, "127.0.0.1")
        serves_once(edge, upstream)
        edge.advance(IN_USE)
        name_server.knows(NAME, "127.0.0.2")
        serves_once(edge, second)

    def test_serves_its_last_addresses_if_it_cannot_be_resolved_then(
        self, edge: Edge, upstream: Upstream, name_server: NameServer
    ) -> None:
        name_server.knows(NAME, "127.0.0.1")
        serves_once(edge, upstream)
        edge.advance(IN_USE)
        name_server.fails(NAME)
        client = asks(edge)
        edge.advance(LOOKUP_TIMEOUT)
        serves(client, upstream)

    def test_has_no_addresses_when_it_was_not_wanted_for_long(
        self, edge: Edge, upstream: Upstream, name_server: NameServer
    ) -> None:
        name_server.knows(NAME, "127.0.0.1")
        serves_once(edge, upstream)
        edge.advance(KEEP)
        assert state(edge, upstream).addresses == ()

    def test_is_in_use_while_a_connection_is(
        self, edge: Edge, upstream: Upstream, name_server: NameServer
    ) -> None:
        name_server.knows(NAME, "127.0.0.1", ttl=10)
        client = asks(edge)
        upstream.accepts().receives_request()
        for _ in range(4):
            is_looked_up(edge, name_server)
            edge.advance(IN_USE / 3)
        client.closes()

    def test_goes_with_its_last_target(
        self, edge: Edge, upstream: Upstream, name_server: NameServer
    ) -> None:
        name_server.knows(NAME, "127.0.0.1", ttl=10)
        edge.routes("second.test", f"{NAME}:{upstream.port + 1}")
        serves_once(edge, upstream)
        is_refused(edge, "second.test")  # nobody listens there
        edge.unroutes(HOST)
        name_server.is_asked(NAME)
        edge.advance(10)
        name_server.is_asked(NAME)
        edge.unroutes("second.test")
        asked = name_server.asked(NAME)
        edge.advance(10)
        assert name_server.asked(NAME) == asked

    def test_refuses_who_waits_for_it_when_its_target_goes(
        self, edge: Edge, name_server: NameServer
    ) -> None:
        name_server.is_silent_about(NAME)
        client = asks(edge)
        name_server.is_asked(NAME)
        edge.unroutes(HOST)
        assert client.receives_response().status == 502

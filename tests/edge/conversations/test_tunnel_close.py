"""Tunnels that have to end: closed as their protocol wants it, in a gap, not all at once."""

import socket

import pytest

from edge.proxy.drain import DrainResult, tunnel_close_schedule
from edge.proxy.tunnel import Tunnel
from tests.harness import WAIT, Client, Edge, Endpoint, Upstream, UpstreamConnection, flow
from tests.messages import request, response

KEY = b"\x01\x02\x03\x04"
TO_CLIENT = b"\x88\x02\x03\xf4"
"""A close frame with 1012, service restart."""


def frame(payload: bytes, masked: bool = False, first: int = 0x82) -> bytes:
    """A frame of less than 64 KiB: binary and final, if `first` does not say otherwise."""
    size = len(payload)
    mark = 0x80 if masked else 0
    length = bytes((mark | size,)) if size < 126 else bytes((mark | 126,)) + size.to_bytes(2)
    if not masked:
        return bytes((first,)) + length + payload
    hidden = bytes(byte ^ KEY[index % 4] for index, byte in enumerate(payload))
    return bytes((first,)) + length + KEY + hidden


def close(code: int, masked: bool = False) -> bytes:
    """A close frame."""
    return frame(code.to_bytes(2), masked, first=0x88)


def tunnel(client: Client, upstream: Upstream, protocol: str = "websocket") -> UpstreamConnection:
    """The upstream's side of an open tunnel."""
    asked(client, protocol)
    connection = upstream.accepts()
    connection.receives_head()
    switched(client, connection, protocol)
    return connection


def asked(client: Client, protocol: str = "websocket") -> None:
    client.sends(request("GET /", "Connection: upgrade", f"Upgrade: {protocol}"))


def switched(client: Client, connection: UpstreamConnection, protocol: str = "websocket") -> None:
    connection.sends(response("101 X", "Connection: upgrade", f"Upgrade: {protocol}"))
    assert client.receives_head().status == 101


def is_told(connection: UpstreamConnection) -> None:
    """The upstream gets a masked close frame with 1001, going away."""
    data = connection.takes(8)
    assert data[:2] == b"\x88\x82"
    key, hidden = data[2:6], data[6:]
    code = bytes(byte ^ key[index] for index, byte in enumerate(hidden))
    assert int.from_bytes(code) == 1001


def both_are_told(client: Client, connection: UpstreamConnection) -> None:
    client.receives(TO_CLIENT)
    is_told(connection)


def both_answer(client: Client, connection: UpstreamConnection) -> None:
    """And see the connection closed in order."""
    client.sends(close(1012, masked=True))
    client.sees_eof()
    connection.sends(close(1001))
    connection.sees_eof()


class TestWebSockets:
    """RFC 6455 sections 5.4, 5.5.1 and 7.1."""

    def test_both_sides_get_a_close_frame(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        connection = tunnel(client, upstream)
        drained = edge.drains_target(upstream.target, timeout=5, tunnel_timeout=20)
        edge.advance(19)
        client.sends(frame(b"still here", masked=True))
        connection.receives(frame(b"still here", masked=True))
        connection.sends(frame(b"me too"))
        client.receives(frame(b"me too"))
        edge.advance(1)
        both_are_told(client, connection)
        both_answer(client, connection)
        assert drained.result(WAIT) == DrainResult(tunnels_closed=1, seconds=20)

    def test_they_may_answer_in_any_order(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        connection = tunnel(client, upstream)
        edge.drains_target(upstream.target, tunnel_timeout=0)
        edge.advance(0)
        both_are_told(client, connection)
        connection.sends(close(1001))
        connection.sees_eof()
        client.receives_nothing()
        client.sends(close(1012, masked=True))
        client.sees_eof()

    def test_each_masking_key_is_another(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        clients = [client, *(edge.connects() for _ in range(3))]
        connections = [tunnel(each, upstream) for each in clients]
        edge.drains_target(upstream.target, tunnel_timeout=0)
        edge.advance(5)
        assert len({connection.takes(8)[2:6] for connection in connections}) == 4

    @pytest.mark.parametrize("size", [1, 125, 126, 60_000])
    @pytest.mark.parametrize("begun", [1, 2, 3, 4, 9])
    def test_no_frame_to_the_client_is_interrupted(
        self, edge: Edge, client: Client, upstream: Upstream, size: int, begun: int
    ) -> None:
        connection = tunnel(client, upstream)
        sent = frame(bytes(size))
        begun = min(begun, len(sent) - 1)
        connection.sends(sent[:begun])
        client.receives(sent[:begun])
        edge.drains_target(upstream.target, tunnel_timeout=0)
        edge.advance(0)
        client.receives_nothing()
        is_told(connection)
        connection.sends(sent[begun:] + frame(b"too late") + close(1001))
        client.receives(sent[begun:] + TO_CLIENT)
        connection.sees_eof()
        client.sends(close(1012, masked=True))
        client.sees_eof()

    @pytest.mark.parametrize("begun", [1, 2, 5, 9])
    def test_no_frame_to_the_upstream_is_interrupted(
        self, edge: Edge, client: Client, upstream: Upstream, begun: int
    ) -> None:
        connection = tunnel(client, upstream)
        sent = frame(b"last words", masked=True)
        client.sends(sent[:begun])
        connection.receives(sent[:begun])
        edge.drains_target(upstream.target, tunnel_timeout=0)
        edge.advance(0)
        connection.receives_nothing()
        client.receives(TO_CLIENT)
        client.sends_in_pieces(sent[begun:] + frame(b"too late", masked=True))
        connection.receives(sent[begun:])
        is_told(connection)
        both_answer(client, connection)

    def test_a_close_that_crosses_ours_is_its_answer(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        """The upstream closes behind the frame that we wait for."""
        connection = tunnel(client, upstream)
        connection.sends(frame(b"one")[:2])
        client.receives(frame(b"one")[:2])
        client.sends(frame(b"two", masked=True)[:2])
        connection.receives(frame(b"two", masked=True)[:2])
        edge.drains_target(upstream.target, tunnel_timeout=0)
        edge.advance(0)
        connection.sends(frame(b"one")[2:] + close(1000))
        client.receives(frame(b"one")[2:] + TO_CLIENT)
        client.sends(frame(b"two", masked=True)[2:] + close(1012, masked=True))
        connection.receives(frame(b"two", masked=True)[2:])
        is_told(connection)
        connection.sees_eof()
        client.sees_eof()

    def test_a_gap_inside_a_message_will_do(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        connection = tunnel(client, upstream)
        fragment = frame(b"to be continued", first=0x02)
        connection.sends(fragment)
        client.receives(fragment)
        edge.drains_target(upstream.target, tunnel_timeout=0)
        edge.advance(0)
        both_are_told(client, connection)

    def test_frames_that_came_with_the_handshake_are_followed(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        asked(client)
        early = frame(b"early", masked=True)
        client.sends(early[:3])
        connection = upstream.accepts()
        connection.receives_head()
        switch = response("101 X", "Connection: upgrade", "Upgrade: WebSocket")
        connection.sends(switch + frame(b"hello")[:3])
        client.receives_head()
        client.receives(frame(b"hello")[:3])
        connection.receives(early[:3])
        edge.drains_target(upstream.target, tunnel_timeout=0)
        edge.advance(0)
        client.receives_nothing()
        connection.receives_nothing()
        connection.sends(frame(b"hello")[3:])
        client.receives(frame(b"hello")[3:] + TO_CLIENT)
        client.sends(early[3:])
        connection.receives(early[3:])
        is_told(connection)

    def test_without_a_gap_it_is_cut_in_the_end(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        connection = tunnel(client, upstream)
        connection.sends(frame(bytes(60_000))[:1000])
        client.receives(frame(bytes(60_000))[:1000])
        drained = edge.drains_target(upstream.target, tunnel_timeout=10)
        edge.advance(10)
        is_told(connection)
        edge.advance(2)
        connection.sends(b"\0" * 10)
        client.receives(b"\0" * 10)
        edge.advance(1)
        client.sees_end()
        connection.sees_end()
        assert drained.result(WAIT).tunnels_closed == 1

    def test_a_side_that_does_not_answer_is_cut(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        connection = tunnel(client, upstream)
        edge.drains_target(upstream.target, tunnel_timeout=0)
        edge.advance(0)
        both_are_told(client, connection)
        client.sends(close(1012, masked=True))
        client.sees_eof()
        edge.advance(2)
        connection.sends(frame(b"what?"))
        connection.receives_nothing()
        edge.advance(1)
        connection.sees_end()
        assert edge.metrics()["fairlead_tunnels_open"] == 0

    @pytest.mark.parametrize("first", ["client", "upstream"])
    def test_one_that_is_being_closed_is_left_to_it(
        self, edge: Edge, client: Client, upstream: Upstream, first: str
    ) -> None:
        connection = tunnel(client, upstream)
        one, other = (client, connection) if first == "client" else (connection, client)
        says(one, other, close(1000, masked=first == "client"))
        edge.drains_target(upstream.target, tunnel_timeout=0)
        edge.advance(0)
        says(other, one, close(1000, masked=first != "client"))
        connection.closes()
        client.sees_eof()

    def test_one_that_is_being_closed_for_ever_is_cut(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        connection = tunnel(client, upstream)
        says(connection, client, close(1000))
        edge.drains_target(upstream.target, tunnel_timeout=0)
        edge.advance(0)
        says(client, connection, frame(b"not yet", masked=True))
        edge.advance(3)
        client.sees_end()
        connection.sees_end()

    @pytest.mark.parametrize("end", ["half_closes", "closes", "resets"])
    @pytest.mark.parametrize("first", ["client", "upstream"])
    def test_a_side_that_leaves_without_an_answer_does_not_disturb_the_other(
        self, edge: Edge, client: Client, upstream: Upstream, first: str, end: str
    ) -> None:
        connection = tunnel(client, upstream)
        edge.drains_target(upstream.target, tunnel_timeout=0)
        edge.advance(0)
        both_are_told(client, connection)
        one, other = (client, connection) if first == "client" else (connection, client)
        getattr(one, end)()
        other.receives_nothing()
        other.sends(close(1000, masked=first != "client"))
        other.sees_eof()
        edge.settle()
        assert edge.metrics()["fairlead_tunnels_open"] == 0

    @pytest.mark.parametrize("end", ["half_closes", "closes", "resets"])
    def test_a_frame_that_never_ends_is_the_end(
        self, edge: Edge, client: Client, upstream: Upstream, end: str
    ) -> None:
        connection = tunnel(client, upstream)
        says(connection, client, frame(b"broken")[:4])
        edge.drains_target(upstream.target, tunnel_timeout=0)
        edge.advance(0)
        is_told(connection)
        getattr(connection, end)()
        client.sees_eof()

    def test_all_that_is_on_its_way_to_a_slow_client_comes_before_the_close(
        self, edge: Edge, upstream: Upstream
    ) -> None:
        client = edge.connects(receive_buffer=4096)
        connection = tunnel(client, upstream)
        sent = frame(bytes(60_000))
        taken = connection.sends_until_blocked(sent, at_most=64 * 2**20)
        edge.drains_target(upstream.target, tunnel_timeout=0)
        edge.advance(0)
        is_told(connection)
        received = flow(connection, client, sent[taken % len(sent) :] + close(1001))
        while not received.endswith(TO_CLIENT) and (more := client.receives_some()):
            received += more
        frames = len(received) // len(sent)
        assert received == sent * frames + TO_CLIENT
        client.sends(close(1012, masked=True))
        client.sees_eof()
        connection.sees_eof()


class TestClientsThatDoNotRead:
    """Nothing is read from the upstream while its client is full, but its answer has to be."""

    def test_the_upstreams_close_frame_is_seen(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        connection = tunnel(client, upstream)
        fill(edge, connection)
        edge.drains_target(upstream.target, tunnel_timeout=0)
        edge.advance(0)
        is_told(connection)
        connection.sends(frame(b"too late") + close(1001))
        connection.sees_eof()

    def test_the_upstreams_fin_is_seen(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        connection = tunnel(client, upstream, "x")
        fill(edge, connection)
        edge.drains_target(upstream.target, tunnel_timeout=0)
        edge.advance(0)
        connection.sees_eof()
        open_one = only_tunnel(edge)
        assert not open_one.sides[1].transport.is_closing()
        connection.half_closes()
        edge.settle()
        assert open_one.sides[1].transport.is_closing()


class TestOtherProtocols:
    """RFC 9110 section 7.8: what they say is not ours to know."""

    @pytest.mark.parametrize("protocol", ["x", "websocket2", "websocket/13"])
    def test_both_sides_get_a_fin_behind_what_was_said(
        self, edge: Edge, client: Client, upstream: Upstream, protocol: str
    ) -> None:
        connection = tunnel(client, upstream, protocol)
        client.sends(b"to the upstream")
        connection.sends(b"to the client")
        drained = edge.drains_target(upstream.target, tunnel_timeout=0)
        edge.advance(0)
        assert client.receives_rest() == b"to the client"
        assert connection.receives_rest() == b"to the upstream"
        client.sends(b"too late")
        client.half_closes()
        connection.half_closes()
        assert drained.result(WAIT) == DrainResult(tunnels_closed=1)

    def test_a_side_that_goes_on_is_cut(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        connection = tunnel(client, upstream, "x")
        edge.drains_target(upstream.target, tunnel_timeout=0)
        edge.advance(0)
        client.sees_eof()
        edge.advance(2)
        client.sends(b"still talking")
        edge.advance(1)
        client.is_gone()
        connection.sees_eof()
        assert edge.metrics()["fairlead_tunnels_open"] == 0

    def test_one_that_is_half_closed_is_closed(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        connection = tunnel(client, upstream, "x")
        client.half_closes()
        connection.sees_eof()
        edge.drains_target(upstream.target, tunnel_timeout=0)
        edge.advance(0)
        client.sees_eof()
        edge.settle()
        assert edge.metrics()["fairlead_tunnels_open"] == 0

    def test_a_websocket_that_is_none_is_closed_like_them(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        """RFC 6455 section 5.1: a client's frames are masked."""
        connection = tunnel(client, upstream)
        says(client, connection, frame(b"not masked"))
        edge.drains_target(upstream.target, tunnel_timeout=0)
        edge.advance(0)
        client.sees_eof()
        connection.sees_eof()

    @pytest.mark.parametrize("first", ["client", "upstream"])
    def test_a_half_closed_websocket_is_closed_like_them(
        self, edge: Edge, client: Client, upstream: Upstream, first: str
    ) -> None:
        connection = tunnel(client, upstream)
        one, other = (client, connection) if first == "client" else (connection, client)
        one.half_closes()
        other.sees_eof()
        edge.drains_target(upstream.target, tunnel_timeout=0)
        edge.advance(0)
        one.sees_eof()


class TestWhen:
    """Clients that connect again must not all do so at once."""

    def test_they_are_closed_one_after_the_other(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        clients = [client, *(edge.connects() for _ in range(4))]
        for each in clients:
            tunnel(each, upstream)
        edge.drains_target(upstream.target, tunnel_timeout=10)
        edge.advance(9)
        told = []
        for _ in range(6):
            edge.advance(1)
            told.append(sum(each.has_received() for each in clients))
        # What has been told and does not answer is cut three seconds later: told it stays.
        assert told == [1, 2, 3, 4, 5, 5]

    def test_other_targets_keep_theirs(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        edge.routes("other.test", Upstream(edge.conversation).target)
        connection = tunnel(client, upstream)
        edge.routes("app.test", Upstream(edge.conversation).target)
        other = next(iter(edge.worker.state.table or ())).targets[0]
        assert other != upstream.target
        assert edge.drains_target(other, tunnel_timeout=0).result(WAIT) == DrainResult()
        edge.advance(100)
        says(client, connection, frame(b"still here", masked=True))

    @pytest.mark.settings(tunnel_timeout=5)
    def test_one_that_is_idle_is_cut_as_ever(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        connection = tunnel(client, upstream)
        drained = edge.drains_target(upstream.target, tunnel_timeout=20)
        edge.advance(6)
        client.sees_end()
        connection.sees_end()
        assert drained.result(WAIT) == DrainResult(seconds=6)

    def test_what_becomes_one_during_the_drain_is_closed_too(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        asked(client)
        connection = upstream.accepts()
        connection.receives_head()
        drained = edge.drains_target(upstream.target, timeout=10, tunnel_timeout=20)
        switched(client, connection)
        edge.advance(20)
        both_are_told(client, connection)
        both_answer(client, connection)
        assert drained.result(WAIT) == DrainResult(tunnels_closed=1, seconds=20)


class TestWhenTheEdgeIsDrained:
    """SIGTERM: the close ends before the drain timeout does."""

    def test_they_are_closed_in_time(self, edge: Edge, client: Client, upstream: Upstream) -> None:
        connection = tunnel(client, upstream)
        drained = edge.drains()
        edge.advance(20)
        client.receives_nothing()
        edge.advance(1)
        both_are_told(client, connection)
        both_answer(client, connection)
        client.closes()
        assert drained.result(WAIT) is True

    def test_what_becomes_one_later_is_closed_too(
        self, edge: Edge, client: Client, upstream: Upstream
    ) -> None:
        asked(client)
        connection = upstream.accepts()
        connection.receives_head()
        drained = edge.drains()
        switched(client, connection)
        edge.advance(21)
        both_are_told(client, connection)
        both_answer(client, connection)
        client.closes()
        assert drained.result(WAIT) is True

    @pytest.mark.parametrize(
        ("drain_timeout", "delay", "spread"),
        [(600, 30, 5), (30, 21, 5), (9, 0, 5), (6, 0, 2), (4, 0, 0), (1, 0, 0)],
    )
    def test_the_plan_fits_into_the_timeout(
        self, drain_timeout: float, delay: float, spread: float
    ) -> None:
        assert tunnel_close_schedule(drain_timeout) == (delay, spread)


def says(one: Endpoint, other: Endpoint, data: bytes) -> None:
    """And the other side gets it."""
    one.sends(data)
    other.receives(data)


def only_tunnel(edge: Edge) -> Tunnel:
    """The one that is open."""
    (only,) = edge.worker.state.tunnels
    assert isinstance(only, Tunnel)
    return only


def fill(edge: Edge, connection: UpstreamConnection) -> None:
    """Sends whole frames to a client that reads none, until the edge reads no more of them."""
    client_end, upstream_end = only_tunnel(edge).sides
    # The kernel would hold megabytes for it.
    sock = client_end.transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    while upstream_end.transport.is_reading():
        connection.sends(frame(bytes(4000)))
        edge.settle()

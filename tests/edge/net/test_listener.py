"""Proves the listening sockets and the count of connections that the process can hold."""

import errno
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from edge.errors import ConfigError
from edge.net.listener import listen, listen_slots, listen_unix
from edge.settings.syntax import Address

SETTING = "FAIRLEAD_HTTP_ADDR"


def bound(*addresses: Address) -> list[tuple[str, int]]:
    """Host and port of every socket that `addresses` stand for, after closing them."""
    sockets = listen(addresses, SETTING)
    names = [sock.getsockname()[:2] for sock in sockets]
    for sock in sockets:
        sock.close()
    return names


def resolve_to(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    """Makes the name edge.test stand for these IPv4 addresses."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 0)) for host in hosts]
    resolve = socket.getaddrinfo

    def getaddrinfo(host: str, *args: Any, **kwargs: Any) -> list[tuple[Any, ...]]:
        return found if host == "edge.test" else list(resolve(host, *args, **kwargs))

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of 127.0.0.2 on which somebody else listens."""
    with socket.create_server(("127.0.0.2", 0)) as sock:
        yield sock.getsockname()[1]


class TestListening:
    def test_clients_can_connect_to_every_address(self) -> None:
        sockets = listen([Address("127.0.0.1", 0), Address("127.0.0.2", 0)], SETTING)
        for sock in sockets:
            socket.create_connection(sock.getsockname(), timeout=5).close()
            sock.close()
        assert len(sockets) == 2

    def test_the_sockets_never_block_the_loop(self) -> None:
        (sock,) = listen([Address("127.0.0.1", 0)], SETTING)
        with sock, pytest.raises(BlockingIOError):
            sock.accept()

    @pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
    def test_no_host_means_all_addresses_of_both_families_on_one_port(self) -> None:
        names = dict(bound(Address("", 0)))
        assert names.keys() == {"0.0.0.0", "::"}
        assert len(set(names.values())) == 1

    def test_of_a_name_for_several_addresses_those_of_this_machine_are_taken_once(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # 192.0.2.1 (RFC 5737) is of no machine; a hosts file can name one address twice.
        resolve_to(monkeypatch, "127.0.0.1", "192.0.2.1", "127.0.0.1")
        assert [host for host, _ in bound(Address("edge.test", 0))] == ["127.0.0.1"]


class TestRefusing:
    def test_an_address_of_another_machine_is_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"192\.0\.2\.1:80: .*; or set another FAIRLEAD_HTTP"):
            bound(Address("192.0.2.1", 80))

    def test_a_name_that_nobody_knows_is_refused(self) -> None:
        with pytest.raises(ConfigError, match=r"cannot listen on no-such-host\.invalid:80: "):
            bound(Address("no-such-host.invalid", 80))

    def test_a_port_that_is_taken_is_refused_and_the_text_says_by_whom(self, taken: int) -> None:
        with pytest.raises(ConfigError, match="another program listens there"):
            bound(Address("127.0.0.2", taken))

    def test_after_a_refusal_nothing_stays_open(
        self, taken: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        resolve_to(monkeypatch, "127.0.0.1", "127.0.0.2")
        free = socket.create_server(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        with pytest.raises(ConfigError, match="another program listens there"):
            listen([Address("127.0.0.1", port), Address("edge.test", taken)], SETTING)
        for closed in (port, taken):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", closed))

    def test_a_port_that_needs_a_privilege_is_refused_with_the_ways_to_give_it(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # Simulated, because the tests may run as root.
        def forbidden(*_args: object, **_kwargs: object) -> NoReturn:
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(socket, "create_server", forbidden)
        with pytest.raises(ConfigError, match="CAP_NET_BIND_SERVICE"):
            bound(Address("127.0.0.1", 80))


class TestSlots:
    def test_each_worker_has_a_socket_of_its_own_on_the_same_port(self) -> None:
        (first,), (second,) = slots = listen_slots([Address("127.0.0.1", 0)], SETTING, 2)
        assert first.getsockname() == second.getsockname()
        for (sock,) in slots:
            sock.close()

    def test_nobody_else_listens_on_it_for_a_moment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Who connected then would be reset."""
        listening: list[socket.socket] = []
        listens = socket.socket.listen

        def noted(sock: socket.socket, backlog: int) -> None:
            listening.append(sock)
            listens(sock, backlog)

        monkeypatch.setattr(socket.socket, "listen", noted)
        found = listen_slots([Address("", 0)], SETTING, 2)
        assert listening == [sock for sockets in found for sock in sockets]
        for sock in listening:
            sock.close()

    @pytest.mark.parametrize("shared", [True, False])
    def test_a_port_that_another_edge_serves_is_refused(self, shared: bool) -> None:
        with socket.create_server(("127.0.0.2", 0), reuse_port=shared) as taken:
            address = Address("127.0.0.2", taken.getsockname()[1])
            with pytest.raises(ConfigError, match="another program listens there"):
                listen_slots([address], SETTING, 1)


def test_a_file_where_the_control_socket_should_be_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "fairlead.db"
    path.write_bytes(b"routes")
    with pytest.raises(ConfigError, match="exists and is not a socket"):
        listen_unix(path, "FAIRLEAD_CONTROL_SOCKET")
    assert path.read_bytes() == b"routes"

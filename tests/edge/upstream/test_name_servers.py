"""Proves `edge.upstream.name_servers` against a real name server."""

import asyncio
from pathlib import Path

import pytest

from edge.settings.syntax import Address
from edge.upstream import name_servers
from edge.upstream.name_servers import Answer, NameServers
from tests.harness import Conversation
from tests.name_server import NameServer

NAME = "app.internal"


@pytest.fixture
def name_server(conversation: Conversation) -> NameServer:
    return NameServer(conversation)


@pytest.fixture(autouse=True)
def resolv_conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That of the system, which is not there."""
    path = tmp_path / "resolv.conf"
    monkeypatch.setattr(name_servers, "RESOLV_CONF", path)
    return path


def ask(*addresses: Address, name: str = NAME) -> Answer:
    async def asked() -> Answer:
        return await NameServers(addresses).ask(name)

    return asyncio.run(asked())


def test_the_addresses_of_both_families_are_found_with_the_shorter_ttl(
    name_server: NameServer,
) -> None:
    name_server.knows(NAME, "10.0.0.1", "2001:db8::1", "10.0.0.2", ttl=7)
    answer = ask(name_server.address)
    # In the server's order, which is another one each time.
    assert sorted(answer.addresses["A"] or ()) == ["10.0.0.1", "10.0.0.2"]
    assert answer.addresses["AAAA"] == ("2001:db8::1",)
    assert (answer.ttl, answer.error) == (7, "")
    assert answer.found
    assert not answer.nonexistent


def test_a_family_that_a_name_does_not_have_is_no_error(name_server: NameServer) -> None:
    name_server.knows(NAME, "2001:db8::1")
    answer = ask(name_server.address)
    assert answer.addresses == {"A": (), "AAAA": ("2001:db8::1",)}
    assert answer.found


def test_a_family_about_which_the_server_is_silent_is_not_known(name_server: NameServer) -> None:
    name_server.knows(NAME, "10.0.0.1")
    name_server.is_silent_about(NAME, "AAAA")
    assert ask(name_server.address).addresses == {"A": ("10.0.0.1",), "AAAA": None}


def test_a_name_that_does_not_exist_is_told_from_one_without_addresses(
    name_server: NameServer,
) -> None:
    name_server.knows("empty.internal")
    for name, error in (
        (NAME, "it does not exist (NXDOMAIN)"),
        ("empty.internal", "it has no addresses"),
    ):
        answer = ask(name_server.address, name=name)
        assert (answer.found, answer.nonexistent, answer.error) == (False, True, error)


def test_a_server_that_fails_is_named(name_server: NameServer) -> None:
    name_server.fails(NAME)
    answer = ask(name_server.address)
    assert (answer.found, answer.nonexistent) == (False, False)
    assert "SERVFAIL" in answer.error


def test_a_server_that_is_silent_is_given_up(
    name_server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(name_servers, "LOOKUP_TIMEOUT", 0.05)
    name_server.is_silent_about(NAME)
    assert ask(name_server.address) == name_servers.NO_ANSWER


def test_the_next_server_is_asked_after_one_that_fails(
    conversation: Conversation, name_server: NameServer
) -> None:
    name_server.fails(NAME)
    second = NameServer(conversation)
    second.knows(NAME, "10.0.0.1")
    assert ask(name_server.address, second.address).found


def test_servers_come_from_resolv_conf_if_none_is_given(resolv_conf: Path) -> None:
    resolv_conf.write_text("nameserver 192.0.2.1\n")
    assert list(name_servers._configure(()).nameservers) == ["192.0.2.1"]


def test_no_server_at_all_is_an_answer() -> None:
    answer = ask()
    assert (answer.found, answer.nonexistent) == (False, False)
    assert answer.error

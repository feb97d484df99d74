"""The kernel's tables of sockets."""

import os

import pytest

from orchestrator.engine.open_ports import listening_sockets, open_ports


def row(address: str, state: str = "0A") -> str:
    """A row of /proc/net/tcp."""
    return f"   0: {address} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000     0"


@pytest.mark.parametrize(
    ("address", "meant"),
    [
        ("00000000:1F90", ("0.0.0.0", 8080)),
        ("0100007F:0BB8", ("127.0.0.1", 3000)),
        ("00000000000000000000000000000000:0050", ("::", 80)),
        ("00000000000000000000000001000000:0050", ("::1", 80)),
        ("0000000000000000FFFF00000100007F:0050", ("127.0.0.1", 80)),
    ],
)
def test_addresses_are_read_as_the_kernel_writes_them(address: str, meant: tuple[str, int]) -> None:
    assert listening_sockets([row(address)]) == [meant]


def test_connections_and_the_engines_own_name_server_do_not_count() -> None:
    assert (
        listening_sockets([row("00000000:1F90", "01"), row("0B00007F:8001"), "", "garbage"]) == []
    )


def test_processes_that_are_not_the_containers_tell_nothing() -> None:
    assert open_ports("0123456789abcdef", os.getpid()) is None
    assert open_ports("0123456789abcdef", 0) is None
    assert open_ports("0123456789abcdef", 2**30) is None

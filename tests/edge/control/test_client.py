"""Proves what a command does when the edge does not answer."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.control.client import request
from edge.errors import EdgeError

ANSWER = b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"version":1}'


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[tuple[Path, list[bytes]]]:
    """A control socket, and what it answers, one connection after the other."""
    path = tmp_path / "edge.sock"
    answers: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    asked = b""
                    while not asked.endswith(b"}"):
                        asked += connection.recv(65536)
                    connection.sendall(answers.pop(0))

        server = threading.Thread(target=serve)
        server.start()
        yield path, answers
        listener.shutdown(socket.SHUT_RDWR)
        server.join()


def test_an_edge_that_has_just_handed_over_is_asked_again(edge: tuple[Path, list[bytes]]) -> None:
    path, answers = edge
    answers += [b"", ANSWER]
    assert request(path, "POST", "/reload", {"version": 1}) == {"version": 1}


@pytest.mark.parametrize(
    ("resource", "said"),
    [("/reload", [b"", b""]), ("/upgrade", [b""]), ("/reload", [ANSWER[:-1], ANSWER[:20]])],
)
def test_but_not_for_ever(edge: tuple[Path, list[bytes]], resource: str, said: list[bytes]) -> None:
    path, answers = edge
    answers += said
    with pytest.raises(EdgeError, match="closed the connection"):
        request(path, "POST", resource, {})
    assert not answers


@pytest.mark.parametrize(
    "said", [b"HTTP/1.1 200 OK\r\n\r\nno", b"HTTP/1.1 200 OK\r\n\r\n[]", b"SSH-2.0-x\r\n", b"{}"]
)
def test_what_is_no_edge_is_an_error(edge: tuple[Path, list[bytes]], said: bytes) -> None:
    path, answers = edge
    answers.append(said)
    with pytest.raises(EdgeError, match="is not the control socket of an edge"):
        request(path, "POST", "/reload", {})


def test_a_refusal_is_the_edges_own_text(edge: tuple[Path, list[bytes]]) -> None:
    path, answers = edge
    answers.append(b'HTTP/1.1 409 Conflict\r\n\r\n{"error":"not now"}')
    with pytest.raises(EdgeError, match=r"^not now$"):
        request(path, "POST", "/reload", {})

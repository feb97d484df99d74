"""Proves what a command does when the edge does not answer."""

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from edge.control.client import MAX_ANSWER, request
from edge.errors import EdgeError

SERVED = b'{"version":1,"workers":2,"milliseconds":1.5}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(SERVED), SERVED)


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
                    with suppress(ConnectionError):  # where more is said than is read
                        connection.sendall(answers.pop(0))

        server = threading.Thread(target=serve)
        server.start()
        yield path, answers
        listener.shutdown(socket.SHUT_RDWR)
        server.join()


def test_an_edge_that_has_just_handed_over_is_asked_again(edge: tuple[Path, list[bytes]]) -> None:
    path, answers = edge
    answers += [b"", ANSWER]
    answer = request(path, "POST", "/reload", {"version": 1})
    assert answer == {"version": 1, "workers": 2, "milliseconds": 1.5}


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


@pytest.mark.parametrize(
    ("resource", "said", "lacks"),
    [
        ("/reload", b"{}", "version"),
        ("/reload", b'{"version":1,"workers":"2","milliseconds":1}', "workers"),
        ("/reload", b'{"version":1,"workers":true,"milliseconds":1}', "workers"),
        ("/adopt", b'{"version":1,"workers":2,"milliseconds":null}', "milliseconds"),
        ("/drain", b'{"target":"a:1","seconds":1}', "finished"),
        ("/drain", b'{"target":["a:1"],"seconds":1}', "target"),
        ("/undrain", b'{"back":"a:1"}', "target"),
        ("/upgrade", b'{"pid":{},"seconds":1}', "pid"),
        ("/workers", b'{"pid":1.5}', "pid"),
        ("/explain?url=a", b'{"route":1}', "route"),
        ("/explain?url=a", b'{"route":null,"targets":{}}', "targets"),
    ],
)
def test_an_answer_of_something_else_says_what_it_lacks(
    edge: tuple[Path, list[bytes]], resource: str, said: bytes, lacks: str
) -> None:
    path, answers = edge
    answers.append(b"HTTP/1.1 200 OK\r\n\r\n" + said)
    with pytest.raises(EdgeError) as caught:
        request(path, "POST", resource, {})
    assert str(caught.value) == (
        f"{path} is not the control socket of an edge: its answer to {resource} has no valid"
        f" {lacks}"
    )


@pytest.mark.parametrize("count", ["version", "workers", "milliseconds"])
def test_a_number_of_thousands_of_digits_is_no_answer(
    edge: tuple[Path, list[bytes]], count: str
) -> None:
    path, answers = edge
    told = SERVED.decode().replace(f'"{count}":', f'"{count}":{"9" * 5000}')
    answers.append(b"HTTP/1.1 200 OK\r\n\r\n" + told.encode())
    with pytest.raises(EdgeError, match="is not the control socket of an edge"):
        request(path, "POST", "/reload", {})


def test_an_answer_without_an_end_is_not_kept(edge: tuple[Path, list[bytes]]) -> None:
    path, answers = edge
    answers.append(b"HTTP/1.1 200 OK\r\n" + b"x" * (MAX_ANSWER + 2**17))
    with pytest.raises(EdgeError, match="does not end its answer"):
        request(path, "POST", "/reload", {})


def test_a_refusal_is_the_edges_own_text(edge: tuple[Path, list[bytes]]) -> None:
    path, answers = edge
    answers.append(b'HTTP/1.1 409 Conflict\r\n\r\n{"error":"not now"}')
    with pytest.raises(EdgeError, match=r"^not now$"):
        request(path, "POST", "/reload", {})

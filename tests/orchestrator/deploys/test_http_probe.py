"""One look at an app, over real sockets."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from orchestrator.deploys import http_probe
from orchestrator.deploys.http_probe import MAX_BODY, MAX_SHOWN, ProbeResult

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def seen(answer: Answer, path: str = "/") -> ProbeResult:
    """What a look finds where a server answers so."""

    async def work() -> ProbeResult:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.readuntil(b"\r\n\r\n")
                await answer(reader, writer)
                await writer.drain()
            except ConnectionError:
                pass  # it has seen enough
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, http_probe.client() as sender:
            return await http_probe.send(sender, f"127.0.0.1:{port}", path, "app.test")

    return asyncio.run(work())


def says(data: bytes) -> Answer:
    """Answers with this."""

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    return answer


def test_an_answer_is_told_with_its_status_and_body() -> None:
    found = seen(says(b"HTTP/1.1 503 Busy\r\nContent-Length: 5\r\n\r\nno db"))
    assert found == ProbeResult("503 Service Unavailable", 503, "no db")


def test_a_status_without_a_name_is_told_by_its_number() -> None:
    assert seen(says(b"HTTP/1.1 299 Odd\r\nContent-Length: 0\r\n\r\n")).text == "299"


@pytest.mark.parametrize(
    ("location", "text"),
    [
        ("/login", "302 Found to /login"),
        ("http://app.test/login", "302 Found to http://app.test/login"),
        (
            "https://other.test/",
            "302 Found to https://other.test/ (a different host than app.test)",
        ),
        ("http://[/", "302 Found to http://[/"),
    ],
)
def test_redirects_are_told_and_not_followed(location: str, text: str) -> None:
    head = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    assert seen(says(head.encode())) == ProbeResult(text, 302, "")


def test_of_a_body_without_end_no_more_than_needed_is_read() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * MAX_BODY)
            await writer.drain()

    assert seen(answer).body == "x" * MAX_SHOWN


def test_what_a_terminal_would_obey_is_not_shown() -> None:
    body = b"\x1b[31mred\r\nforged line"
    found = seen(says(b"HTTP/1.1 500 No\r\nContent-Length: %d\r\n\r\n" % len(body) + body))
    assert found.body == "[31mred forged line"


def test_a_connection_that_closes_is_told() -> None:
    assert seen(says(b"")) == ProbeResult("connection closed without a response")


def test_what_is_not_http_is_told() -> None:
    assert seen(says(b"SSH-2.0-OpenSSH\r\n\r\n")).text.startswith("not an HTTP response")


def test_nobody_is_told() -> None:
    async def work() -> ProbeResult:
        async with http_probe.client() as sender:
            return await http_probe.send(sender, "127.0.0.1:1", "/", "app.test")

    assert asyncio.run(work()) == ProbeResult("connection refused")


def test_one_that_says_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_probe, "PROBE_TIMEOUT", 0.05)

    async def answer(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    assert seen(answer) == ProbeResult("no response within 0.05 s")

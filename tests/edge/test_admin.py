"""Proves the admin server over real sockets."""

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import httpx
import pytest
import uvloop

from edge.admin import METRICS_TYPE, Admin
from edge.config import Address
from edge.errors import ConfigError
from edge.metrics import Metrics

LOOPBACK = Address("127.0.0.1", 0)


def ready() -> str | None:
    return None


def not_ready() -> str | None:
    return "no routes yet: the database fairlead.db is missing"


@contextlib.asynccontextmanager
async def serving(
    *addresses: Address,
    metrics: Metrics | None = None,
    readiness: Callable[[], str | None] = ready,
) -> AsyncIterator[tuple[Admin, httpx.AsyncClient]]:
    """An admin server that runs, and a client of its first socket."""
    admin = Admin(addresses or (LOOPBACK,), metrics or Metrics(), readiness)
    await admin.start()
    host, port = admin.addresses[0]
    async with httpx.AsyncClient(base_url=f"http://{host}:{port}", trust_env=False) as client:
        yield admin, client
    await admin.stop()


def run(conversation: Coroutine[Any, Any, None]) -> None:
    uvloop.run(asyncio.wait_for(conversation, 10))


class TestHealth:
    def test_a_process_that_answers_is_healthy(self) -> None:
        async def conversation() -> None:
            async with serving(readiness=not_ready) as (_, client):
                answer = await client.get("/healthz")
                assert (answer.status_code, answer.text) == (200, "ok")

        run(conversation())

    def test_it_is_ready_when_nothing_is_missing(self) -> None:
        async def conversation() -> None:
            async with serving() as (_, client):
                answer = await client.get("/readyz")
                assert (answer.status_code, answer.text) == (200, "ready")

        run(conversation())

    def test_it_says_why_it_is_not_ready(self) -> None:
        async def conversation() -> None:
            async with serving(readiness=not_ready) as (_, client):
                answer = await client.get("/readyz")
                assert (answer.status_code, answer.text) == (503, not_ready())

        run(conversation())


class TestMetricsPage:
    def test_a_scrape_sees_what_was_counted_until_now(self) -> None:
        async def conversation() -> None:
            metrics = Metrics()
            async with serving(metrics=metrics) as (_, client):
                metrics.route("app.test").record(200, 0.1)
                answer = await client.get("/metrics")
                assert answer.status_code == 200
                assert answer.headers["content-type"] == METRICS_TYPE
                assert (
                    'fairlead_http_requests_total{code="2xx",route="app.test"} 1.0' in answer.text
                )

        run(conversation())

    def test_the_loop_goes_on_while_a_scrape_is_rendered(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rendering, finish = threading.Event(), threading.Event()

        def slow(_metrics: Metrics) -> bytes:
            rendering.set()
            assert finish.wait(5)
            return b"slow 1\n"

        monkeypatch.setattr(Metrics, "render", slow)

        async def conversation() -> None:
            async with serving() as (_, client):
                scrape = asyncio.create_task(client.get("/metrics"))
                await asyncio.to_thread(rendering.wait, 5)
                assert (await client.get("/healthz")).text == "ok"
                assert not scrape.done()
                finish.set()
                assert (await scrape).text == "slow 1\n"

        run(conversation())

    def test_scrapes_in_parallel_are_rendered_one_after_another(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        alone = threading.Lock()

        def exclusive(_metrics: Metrics) -> bytes:
            assert alone.acquire(blocking=False)
            alone.release()
            return b"up 1\n"

        monkeypatch.setattr(Metrics, "render", exclusive)

        async def conversation() -> None:
            async with serving() as (_, client):
                answers = await asyncio.gather(*(client.get("/metrics") for _ in range(20)))
                assert [answer.status_code for answer in answers] == [200] * 20

        run(conversation())


class TestOtherRequests:
    @pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
    def test_head_is_answered_as_get_without_a_body(self, path: str) -> None:
        async def conversation() -> None:
            async with serving() as (_, client):
                answer = await client.head(path)
                assert answer.status_code == 200
                assert int(answer.headers["content-length"]) > 0
                assert answer.content == b""

        run(conversation())

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
    def test_no_other_method_is_allowed(self, method: str) -> None:
        async def conversation() -> None:
            async with serving() as (_, client):
                answer = await client.request(method, "/metrics")
                assert answer.status_code == 405
                assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD"}

        run(conversation())

    @pytest.mark.parametrize("path", ["/", "/metrics/", "/routes", "/healthz/x"])
    def test_there_is_no_other_page(self, path: str) -> None:
        async def conversation() -> None:
            async with serving() as (_, client):
                assert (await client.get(path)).status_code == 404

        run(conversation())

    def test_the_software_is_not_named(self) -> None:
        async def conversation() -> None:
            async with serving() as (_, client):
                assert "server" not in (await client.get("/healthz")).headers

        run(conversation())


class TestAddresses:
    def test_several_addresses_are_all_served(self) -> None:
        async def conversation() -> None:
            async with serving(LOOPBACK, LOOPBACK) as (admin, client):
                assert len(admin.addresses) == 2
                for host, port in admin.addresses:
                    answer = await client.get(f"http://{host}:{port}/healthz")
                    assert answer.text == "ok"

        run(conversation())

    def test_an_address_that_is_taken_is_refused_with_the_setting_to_change(self) -> None:
        async def conversation() -> None:
            with socket.create_server(("127.0.0.1", 0)) as taken:
                port = taken.getsockname()[1]
                admin = Admin([LOOPBACK, Address("127.0.0.1", port)], Metrics(), ready)
                with pytest.raises(ConfigError, match=f"127.0.0.1:{port}: .* FAIRLEAD_ADMIN_ADDR"):
                    await admin.start()
                await admin.stop()

        run(conversation())


class TestStopping:
    def test_after_a_stop_nobody_listens(self) -> None:
        async def conversation() -> None:
            async with serving() as (admin, _):
                address = admin.addresses[0]
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection(*address)

        run(conversation())

    def test_a_scrape_that_nobody_reads_does_not_hold_up_the_stop(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # More than the kernel's buffers on both sides take.
        monkeypatch.setattr(Metrics, "render", lambda _metrics: b"x" * 64 * 2**20)

        async def conversation() -> None:
            async with serving() as (admin, _):
                reader, writer = await asyncio.open_connection(*admin.addresses[0], limit=1)
                writer.write(b"GET /metrics HTTP/1.1\r\nHost: admin\r\n\r\n")
                assert await reader.read(1) == b"H"
                await admin.stop()
                writer.transport.abort()

        run(conversation())

    def test_signals_stay_with_the_worker(self) -> None:
        async def conversation() -> None:
            before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
            async with serving():
                during = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
            assert during == before

        run(conversation())

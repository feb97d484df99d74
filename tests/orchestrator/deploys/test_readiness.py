"""What is said of new containers: real ones, that are well, slow, sick, wrong or dead."""

import asyncio
from typing import Any

import pytest

from orchestrator.deploys.http_probe import ProbeResult
from orchestrator.deploys.readiness import MAX_RESULTS, HealthCheck, ProbeHistory, listening_cause
from orchestrator.deploys.readiness import wait_until_healthy as wait_for
from orchestrator.errors import StepError
from tests.orchestrator.workshop import Workshop, in_workshop

HTTPD = "mkdir /www; echo hello > /www/index.html; exec httpd -f -p {} -h /www"


def answers(head: str, body: str = "", times: str = "while :; do {}; done") -> str:
    """A script that answers every request with this."""
    logs = head.replace("\n", "\\r\\n")
    one = f"printf '{logs}\\r\\n\\r\\n{body}' | nc -l -p 8080 >> /asked"
    return times.format(one)


def check(**fields: Any) -> HealthCheck:
    """A check that has time enough on a busy machine."""
    return HealthCheck(**{"path": "/", "host": "app.test", "port": 8080, "timeout": 30.0, **fields})


def fails(host: str, script: str, kind: str, **fields: Any) -> StepError:
    """The error of a container that runs `script`."""
    found: list[StepError] = []

    async def work(shop: Workshop) -> None:
        container = await shop.runs(script, **fields.pop("spec", {}))
        with pytest.raises(StepError) as caught:
            await wait_for(shop.engine, container.id, check(**fields), lambda line: None)
        found.append(caught.value)

    in_workshop(host, work)
    assert found[0].kind == kind
    return found[0]


class TestHealthy:
    def test_container_is_reported_with_its_address(self, engine_host: str) -> None:
        async def work(shop: Workshop) -> None:
            lines: list[str] = []
            container = await shop.runs(HTTPD.format(8080))
            report = await wait_for(shop.engine, container.id, check(), lines.append)
            assert report.target == container.target
            assert report.status == 200
            assert report.attempts >= 1
            assert lines[-1].endswith("200 OK: hello")

        in_workshop(engine_host, work)

    def test_is_one_that_takes_its_time(self, engine_host: str) -> None:
        async def work(shop: Workshop) -> None:
            lines: list[str] = []
            container = await shop.runs(
                "until test -e /go; do :; done; " + HTTPD.format(8080), cpus=0.2
            )

            def hear(line: str) -> None:
                lines.append(line)
                made = shop.raw.exec_create(container.id, ["touch", "/go"])
                shop.raw.exec_start(made["Id"])

            report = await wait_for(shop.engine, container.id, check(), hear)
            assert report.attempts > 1
            assert "connection refused" in lines[0]

        in_workshop(engine_host, work)

    def test_may_be_any_status_that_is_asked_for(self, engine_host: str) -> None:
        async def work(shop: Workshop) -> None:
            container = await shop.runs(HTTPD.format(8080))
            report = await wait_for(
                shop.engine,
                container.id,
                check(path="/nothing", statuses=range(404, 405)),
                lambda line: None,
            )
            assert report.status == 404

        in_workshop(engine_host, work)

    def test_is_asked_as_its_own_host_by_us(self, engine_host: str) -> None:
        async def work(shop: Workshop) -> None:
            container = await shop.runs(answers("HTTP/1.1 204 No Content"))
            await wait_for(shop.engine, container.id, check(path="/up?now=ä"), lambda line: None)
            made = shop.raw.exec_create(container.id, ["cat", "/asked"])
            asked = shop.raw.exec_start(made["Id"]).decode().split("\r\n")
            assert asked[0] == "GET /up?now=%C3%A4 HTTP/1.1"
            assert "Host: app.test" in asked
            assert "User-Agent: fairlead-health" in asked
            assert "Connection: close" in asked

        in_workshop(engine_host, work)


class TestEarlyExit:
    def test_is_told_with_its_code_and_both_outputs(self, engine_host: str) -> None:
        error = fails(engine_host, "echo bang; echo 'stderr error' >&2; exit 42", "early_exit")
        assert str(error).startswith("container exited early with code 42; logs:\n")
        assert sorted(str(error).split("\n")[1:]) == ["bang", "stderr error"]
        assert error.detail["exit_code"] == 42
        assert error.detail["oom_killed"] is False

    def test_ends_the_wait_while_an_answer_is_waited_for(self, engine_host: str) -> None:
        script = "nc -l -p 8080 -e sh -c 'read line; kill -9 -1'; exit 3"
        error = fails(engine_host, script, "early_exit", timeout=3600.0)
        assert "container exited early with code" in str(error)

    def test_for_want_of_memory_names_the_limit(self, engine_host: str) -> None:
        error = fails(engine_host, "exec tail /dev/zero", "early_exit", spec={"memory": 2**23})
        assert "out of memory: it exceeded the limit of 8 MiB" in str(error)
        assert error.detail["oom_killed"] is True

    def test_of_a_command_that_is_not_there_says_so(self, engine_host: str) -> None:
        error = fails(engine_host, "exec /no/such/server", "early_exit")
        assert "code 127 (its command was not found)" in str(error)

    def test_is_bounded_in_what_it_shows(self, engine_host: str) -> None:
        error = fails(engine_host, "seq 1 100000; exit 1", "early_exit")
        log = str(error.detail["log"]).split("\n")
        assert log[-1] == "100000"
        assert len(log) == 200

    def test_counts_where_a_restart_hides_it(self, engine_host: str) -> None:
        async def work(shop: Workshop) -> None:
            container = await shop.runs("sleep 0.1; exit 9")
            await shop.engine.enable_restarts(container.id)
            with pytest.raises(StepError, match="exited early") as caught:
                await wait_for(shop.engine, container.id, check(), lambda line: None)
            assert caught.value.kind == "early_exit"

        in_workshop(engine_host, work)

    def test_is_also_a_removal_by_somebody_else(self, engine_host: str) -> None:
        async def work(shop: Workshop) -> None:
            container = await shop.runs("sleep 1000")

            def hear(line: str) -> None:
                shop.raw.remove_container(container.id, force=True)

            with pytest.raises(StepError, match="removed during the health check"):
                await wait_for(shop.engine, container.id, check(), hear)

        in_workshop(engine_host, work)


class TestUnhealthy:
    def test_on_another_port_says_which_and_what_to_do(self, engine_host: str) -> None:
        error = fails(engine_host, "echo on 3000; " + HTTPD.format(3000), "unhealthy", timeout=2.0)
        assert "is listening on port 3000, expected port 8080" in str(error)
        assert "EXPOSE 3000" in str(error)
        assert "PORT" in str(error)
        assert "connection refused" in str(error)
        assert str(error).endswith("last lines:\non 3000")
        assert error.detail["listening"] == ["[::]:3000"]

    def test_inside_only_says_so(self, engine_host: str) -> None:
        error = fails(engine_host, HTTPD.format("127.0.0.1:8080"), "unhealthy", timeout=2.0)
        assert "is listening on 127.0.0.1 only" in str(error)
        assert "bind to 0.0.0.0:8080" in str(error)

    def test_on_no_port_at_all_says_so(self, engine_host: str) -> None:
        error = fails(engine_host, "exec sleep 1000", "unhealthy", timeout=1.0)
        assert "is not listening on any port; expected port 8080" in str(error)

    def test_with_a_bad_status_shows_it_and_the_body(self, engine_host: str) -> None:
        script = answers("HTTP/1.1 503 Service Unavailable\\r\\nContent-Length: 5", "no db")
        error = fails(engine_host, script, "unhealthy", timeout=3.0)
        assert '503 Service Unavailable ("no db")' in str(error)

    def test_where_it_is_not_in_its_network_fails_at_once(self, engine_host: str) -> None:
        async def work(shop: Workshop) -> None:
            container = await shop.runs("exec sleep 1000")
            shop.raw.disconnect_container_from_network(container.id, shop.network)
            with pytest.raises(StepError, match="taken out of the network") as caught:
                await wait_for(shop.engine, container.id, check(), lambda line: None)
            assert caught.value.kind == "unhealthy"

        in_workshop(engine_host, work)

    def test_can_be_cancelled(self, engine_host: str) -> None:
        async def work(shop: Workshop) -> None:
            container = await shop.runs("exec sleep 1000")
            looked = asyncio.Event()
            waiting = asyncio.create_task(
                wait_for(shop.engine, container.id, check(timeout=3600), lambda line: looked.set())
            )
            await looked.wait()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

        in_workshop(engine_host, work)


class TestTranscript:
    def test_counts_what_is_the_same(self) -> None:
        history = ProbeHistory()
        for at in range(41):
            history.add(ProbeResult("connection refused"), at / 4)
        history.add(ProbeResult("503 Service Unavailable", 503, "no db"), 10.3)
        assert str(history) == (
            "connection refused 41 times from 0.0 to 10.0 s;"
            ' then 503 Service Unavailable ("no db") once at 10.3 s'
        )
        assert history.attempts == 42

    def test_of_an_app_that_flaps_is_bounded(self) -> None:
        history = ProbeHistory()
        for at in range(1000):
            history.add(ProbeResult(str(at % 7)), at)
        assert len(history.results) == MAX_RESULTS
        assert f"({1000 - MAX_RESULTS} more changes)" in str(history)
        assert str(history).startswith("0 once at 0.0 s")
        assert str(history).endswith("5 once at 999.0 s")

    def test_without_a_look_says_none(self) -> None:
        assert str(ProbeHistory()) == "none"


def test_an_app_that_listens_where_it_should_has_another_fault() -> None:
    assert listening_cause([("127.0.0.1", 8080), ("::", 8080)], 8080) == []

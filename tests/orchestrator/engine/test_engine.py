"""What the engine is asked for, and what it then really did."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import docker
import pytest

from orchestrator.engine.container import (
    CAPABILITIES,
    LABEL_APP,
    LABEL_MANAGED,
    SHM_SIZE,
)
from orchestrator.engine.engine import Engine
from orchestrator.errors import (
    EngineUnavailableError,
    NameConflictError,
    OrchestratorError,
    PortConflictError,
    StepError,
)
from orchestrator.security.redact import Redactor
from tests.orchestrator.docker_engine import EngineProcess
from tests.orchestrator.workshop import MEMORY, Workshop, context, in_workshop, until
from tests.programs import free_port

SERVES = "mkdir /www; echo hello > /www/index.html; exec httpd -f -p $PORT -h /www"


class TestBuild:
    def test_gives_the_id_of_an_image_with_our_labels(self, engine_host: str) -> None:
        async def work(shop: Workshop) -> None:
            lines: list[str] = []
            tag = await shop.build("FROM busybox:latest\nRUN echo made\n", on_line=lines.append)
            assert "made" in lines
            (image,) = await shop.engine.images()
            assert image.tags == (tag,)
            assert (image.app, image.deploy) == ("app", 7)
            assert image.size > 0
            labels = shop.raw.inspect_image(image.id)["Config"]["Labels"]  # type: ignore[no-untyped-call]
            assert labels[LABEL_MANAGED] == "true"

        in_workshop(engine_host, work)

    def test_has_limits_and_not_the_hosts_network(self, engine_host: str) -> None:
        bridges = {path.parent.name for path in Path("/sys/class/net").glob("*/bridge")}
        assert bridges

        async def work(shop: Workshop) -> None:
            lines: list[str] = []
            look = (
                "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max;"
                "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us; cut -d' ' -f1 /sys/fs/cgroup/cpu.max;"
                "ls /sys/class/net; true"
            )
            await shop.build(
                f"FROM busybox:latest\nRUN ({look}) 2>/dev/null\n", cpus=0.5, on_line=lines.append
            )
            assert str(MEMORY) in lines
            assert "50000" in lines
            assert {"lo", "eth0"} <= set(lines)
            assert not bridges.intersection(lines)

        in_workshop(engine_host, work)

    def test_may_not_ask_for_the_hosts_network_or_an_entitlement(self, engine_host: str) -> None:
        async def work(shop: Workshop) -> None:
            for option in ("--network=host", "--security=insecure"):
                with pytest.raises(StepError) as caught:
                    await shop.build(f"FROM busybox:latest\nRUN {option} true\n")
                assert caught.value.kind == "build_failed"

        in_workshop(engine_host, work)

    def test_failure_names_the_instruction_and_shows_the_last_lines(self, engine_host: str) -> None:
        async def work(shop: Workshop) -> None:
            with pytest.raises(StepError) as caught:
                await shop.build("FROM busybox:latest\nRUN echo so far; exit 3\n")
            assert caught.value.kind == "build_failed"
            assert "`RUN echo so far; exit 3`" in str(caught.value)
            assert "\n  so far\n" in str(caught.value)
            assert caught.value.detail["exit_code"] == 3

        in_workshop(engine_host, work)

    def test_failure_for_want_of_memory_says_so(self, engine_host: str) -> None:
        async def work(shop: Workshop) -> None:
            with pytest.raises(StepError, match="FAIRLEAD_BUILD_MEMORY") as caught:
                await shop.build("FROM busybox:latest\nRUN exec tail /dev/zero\n", memory=2**23)
            assert caught.value.detail["exit_code"] == 137

        in_workshop(engine_host, work)

    def test_a_dockerfile_that_cannot_be_read_is_a_failure(self, engine_host: str) -> None:
        async def work(shop: Workshop) -> None:
            with pytest.raises(StepError, match="unknown instruction: FORM") as caught:
                await shop.build("FORM busybox:latest\n")
            assert caught.value.kind == "build_failed"

        in_workshop(engine_host, work)

    def test_a_base_image_that_cannot_be_fetched_is_named(self, engine_host: str) -> None:
        async def work(shop: Workshop) -> None:
            with pytest.raises(
                StepError, match=r"FROM registry\.invalid/nobody/nothing:1"
            ) as caught:
                await shop.build("FROM registry.invalid/nobody/nothing:1\n")
            assert caught.value.kind == "base_image_missing"

        in_workshop(engine_host, work)

    def test_that_takes_too_long_is_ended(self, engine_host: str) -> None:
        async def work(shop: Workshop) -> None:
            with pytest.raises(StepError, match="FAIRLEAD_BUILD_TIMEOUT") as caught:
                await shop.build(sleeping(shop), timeout=3.0)
            assert caught.value.kind == "build_timeout"
            await no_build_runs(shop)

        in_workshop(engine_host, work)

    def test_ends_with_the_task_that_waits_for_it(self, engine_host: str) -> None:
        async def work(shop: Workshop) -> None:
            running = asyncio.Event()

            def hear(line: str) -> None:
                if line == "it runs":
                    running.set()

            building = asyncio.create_task(shop.build(sleeping(shop), on_line=hear))
            await running.wait()
            assert await build_containers(shop)
            building.cancel()
            with pytest.raises(asyncio.CancelledError):
                await building
            await no_build_runs(shop)

        in_workshop(engine_host, work)

    def test_can_be_cancelled_while_its_context_is_sent(self, engine_host: str) -> None:
        async def work(shop: Workshop) -> None:
            sending = threading.Event()
            closed = threading.Event()

            async def endless() -> AsyncGenerator[bytes, None]:
                try:
                    yield (await anext(context(sleeping(shop))))[:1024]
                    while True:
                        sending.set()
                        yield bytes(65536)
                finally:
                    closed.set()

            building = asyncio.create_task(
                shop.engine.build(
                    endless(),
                    tag=f"{shop.instance}/endless:1",
                    dockerfile="Dockerfile",
                    labels={},
                    memory=MEMORY,
                    cpus=1.0,
                    timeout=60,
                    on_line=lambda line: None,
                )
            )
            await asyncio.to_thread(sending.wait)
            building.cancel()
            with pytest.raises(asyncio.CancelledError):
                await building
            assert closed.is_set()
            await no_build_runs(shop)

        in_workshop(engine_host, work)

    def test_fault_of_the_context_is_the_callers(self, engine_host: str) -> None:
        async def leads_out() -> AsyncGenerator[bytes, None]:
            yield b"\0" * 512
            raise StepError("context_escape", "a link leads out of the tree")

        async def work(shop: Workshop) -> None:
            with pytest.raises(StepError) as caught:
                await shop.engine.build(
                    leads_out(),
                    tag=f"{shop.instance}/escape:1",
                    dockerfile="Dockerfile",
                    labels={},
                    memory=MEMORY,
                    cpus=1.0,
                    timeout=60,
                    on_line=lambda line: None,
                )
            assert caught.value.kind == "context_escape"

        in_workshop(engine_host, work)


class TestImages:
    def test_port_is_what_expose_says(self, engine_host: str) -> None:
        async def work(shop: Workshop) -> None:
            one = await shop.build("FROM busybox:latest\nEXPOSE 3000 53/udp\n")
            several = await shop.build("FROM busybox:latest\nEXPOSE 80 8080 9090\n")
            assert await shop.engine.image_port(one) == 3000
            assert await shop.engine.image_port(several) == 8080
            assert await shop.engine.image_port("busybox:latest") is None

        in_workshop(engine_host, work)

    def test_of_other_instances_are_not_seen(self, engine_host: str) -> None:
        async def work(shop: Workshop) -> None:
            await shop.build("FROM busybox:latest\n")
            other = Engine("another", Redactor(), engine_host)
            assert await other.images() == []
            await other.close()

        in_workshop(engine_host, work)

    def test_can_be_removed_twice_and_stay_while_they_are_used(self, engine_host: str) -> None:
        async def work(shop: Workshop) -> None:
            container = await shop.runs("sleep 1000")
            await shop.engine.remove_image(container.image)
            assert len(await shop.engine.images()) == 1
            await shop.engine.remove(container)
            await shop.engine.remove_image(container.image)
            await shop.engine.remove_image(container.image)
            assert await shop.engine.images() == []

        in_workshop(engine_host, work)


class TestGuards:
    """Number 4 of the security checklist, as the engine has it in the end."""

    def test_of_every_container(self, engine_host: str) -> None:
        async def work(shop: Workshop) -> None:
            container = await shop.runs("sleep 1000", cpus=0.5)
            host = shop.raw.inspect_container(container.id)["HostConfig"]
            assert host["SecurityOpt"] == ["no-new-privileges"]
            assert host["CapDrop"] == ["ALL"]
            assert [name.removeprefix("CAP_") for name in host["CapAdd"]] == list(CAPABILITIES)
            assert not host["Privileged"]
            assert not host["Binds"]
            assert host["PidsLimit"] == 512
            assert host["ShmSize"] == SHM_SIZE
            assert not host["ReadonlyRootfs"]
            assert (host["Memory"], host["MemorySwap"]) == (MEMORY, MEMORY)
            assert host["NanoCpus"] == 500_000_000
            assert host["LogConfig"] == {
                "Type": "json-file",
                "Config": {"max-size": "10m", "max-file": "3"},
            }
            assert host["NetworkMode"] == shop.network
            assert host["Init"]

        in_workshop(engine_host, work)

    def test_publish_no_port(self, engine_host: str) -> None:
        async def work(shop: Workshop) -> None:
            container = await shop.runs(SERVES)
            assert container.target == f"{container.ip}:8080"
            inspected = shop.raw.inspect_container(container.id)
            assert inspected["NetworkSettings"]["Ports"] == {"8080/tcp": None}

        in_workshop(engine_host, work)

    def test_publish_the_port_that_is_asked_for_on_this_machine_only(
        self, engine_host: str
    ) -> None:
        async def work(shop: Workshop) -> None:
            port = free_port()
            container = await shop.runs(SERVES, host_port=port)
            assert container.target == f"127.0.0.1:{port}"
            published = shop.raw.inspect_container(container.id)["NetworkSettings"]["Ports"]
            bindings = [{"HostIp": "127.0.0.1", "HostPort": str(port)}]
            assert published["8080/tcp"] == bindings

        in_workshop(engine_host, work)

    def test_the_engines_socket_is_there_only_where_it_is_asked_for(self, engine_host: str) -> None:
        script = "test -S /var/run/docker.sock && echo there || echo none"

        async def work(shop: Workshop) -> None:
            for asked, said in ((False, "none"), (True, "there")):
                container = await shop.runs(script, bind_docker_sock=asked)
                await shop.engine.wait_until_exited(container.id)
                assert await shop.engine.tail_logs(container.id) == said

        in_workshop(engine_host, work)

    def test_containers_of_others_are_neither_seen_nor_removed(self, engine_host: str) -> None:
        async def work(shop: Workshop) -> None:
            # The second has the labels of its image, as those in which the engine builds have.
            for image in ("busybox:latest", await shop.build("FROM busybox:latest\n")):
                foreign = shop.raw.create_container(
                    image, "sleep 1000", labels={LABEL_MANAGED: "true", LABEL_APP: "app"}
                )["Id"]
                try:
                    assert await shop.engine.containers() == []
                    found = await shop.engine.inspect(foreign)
                    assert found is not None
                    with pytest.raises(ValueError, match="belongs to another instance"):
                        await shop.engine.remove(found)
                    assert shop.raw.inspect_container(foreign)["Id"] == foreign
                finally:
                    shop.raw.remove_container(foreign)

        in_workshop(engine_host, work)


class TestContainers:
    def test_are_made_first_and_started_then(self, engine_host: str) -> None:
        async def work(shop: Workshop) -> None:
            await shop.has_network()
            await shop.has_network()
            spec = shop.spec(await shop.shell(SERVES))
            made = await shop.engine.create(spec)
            assert made.state == "created"
            assert not made.is_running
            assert made.target == f"{spec.address}:8080"
            started = await shop.engine.start(made.id)
            assert started.is_running
            assert (started.app, started.deploy, started.release) == ("app", spec.deploy, "r1")
            assert started.name == spec.name
            assert await shop.engine.containers() == [started]

        in_workshop(engine_host, work)

    def test_get_no_restarts_before_they_are_kept_running(self, engine_host: str) -> None:
        async def work(shop: Workshop) -> None:
            container = await shop.runs("sleep 1000")

            def policy() -> str:
                inspected = shop.raw.inspect_container(container.id)
                return str(inspected["HostConfig"]["RestartPolicy"]["Name"])

            assert policy() == "no"
            await shop.engine.enable_restarts(container.id)
            assert policy() == "unless-stopped"

        in_workshop(engine_host, work)

    def test_of_a_name_that_is_taken_are_refused(self, engine_host: str) -> None:
        async def work(shop: Workshop) -> None:
            container = await shop.runs("sleep 1000")
            with pytest.raises(NameConflictError, match=container.name):
                await shop.engine.create(shop.spec(container.image, name=container.name))

        in_workshop(engine_host, work)

    def test_of_a_port_that_is_taken_are_not_started(self, engine_host: str) -> None:
        async def work(shop: Workshop) -> None:
            port = str(free_port())
            await shop.runs(SERVES, host_port=int(port))
            made = shop.raw.create_container(
                "busybox:latest",
                "sleep 1000",
                host_config=shop.raw.create_host_config(port_bindings={80: ("127.0.0.1", port)}),
                ports=[80],
            )["Id"]
            try:
                with pytest.raises(PortConflictError, match=port):
                    await shop.engine.start(made)
            finally:
                shop.raw.remove_container(made)

        in_workshop(engine_host, work)

    def test_whose_user_is_not_there_fail_to_start(self, engine_host: str) -> None:
        async def work(shop: Workshop) -> None:
            await shop.has_network()
            image = await shop.build('FROM busybox:latest\nUSER nobody-there\nCMD ["true"]\n')
            made = await shop.engine.create(shop.spec(image))
            with pytest.raises(StepError, match="nobody-there") as caught:
                await shop.engine.start(made.id)
            assert caught.value.kind == "start_failed"

        in_workshop(engine_host, work)

    def test_without_their_image_cannot_be_made(self, engine_host: str) -> None:
        async def work(shop: Workshop) -> None:
            with pytest.raises(StepError, match=r"(?i)no such image") as caught:
                await shop.engine.create(shop.spec("nobody/nothing:1"))
            assert caught.value.kind == "start_failed"

        in_workshop(engine_host, work)

    def test_that_are_gone_are_no_error(self, engine_host: str) -> None:
        async def work(shop: Workshop) -> None:
            container = await shop.runs("sleep 1000")
            await shop.engine.remove(container)
            await shop.engine.remove(container)
            await shop.engine.stop(container.id, 1)
            await shop.engine.wait_until_exited(container.id)
            assert await shop.engine.inspect(container.id) is None
            assert await shop.engine.tail_logs(container.id) == ""
            assert await shop.engine.open_ports(container) is None

        in_workshop(engine_host, work)

    def test_may_finish_before_they_are_killed(self, engine_host: str) -> None:
        async def work(shop: Workshop) -> None:
            heeds = await shop.runs("trap 'echo bye; exit 5' TERM; echo up; while :; do :; done")
            await until(lambda: says(shop, heeds.id, "up"), "the app is up")
            await shop.engine.stop(heeds.id, 30)
            assert await shop.engine.tail_logs(heeds.id) == "up\nbye"
            ignores = await shop.runs("trap '' TERM; echo up; while :; do :; done")
            await until(lambda: says(shop, ignores.id, "up"), "the app is up")
            await shop.engine.stop(ignores.id, 1)
            ended = await shop.engine.inspect(ignores.id)
            assert ended is not None
            assert (ended.state, ended.exit_code) == ("exited", 137)

        in_workshop(engine_host, work)


class TestListening:
    def test_tells_where_the_app_really_is(self, engine_host: str) -> None:
        async def work(shop: Workshop) -> None:
            inside = await shop.runs("httpd -p 127.0.0.1:3000; exec httpd -f -p 0.0.0.0:9090")

            async def both() -> bool:
                found = await shop.engine.open_ports(inside)
                return found == [("127.0.0.1", 3000), ("0.0.0.0", 9090)]

            await until(both, "two sockets listen")

        in_workshop(engine_host, work)


class TestOutput:
    def test_tail_is_the_last_lines_of_both(self, engine_host: str) -> None:
        async def work(shop: Workshop) -> None:
            container = await shop.runs("seq 1 500; echo to-stderr >&2")
            await shop.engine.wait_until_exited(container.id)
            tail = (await shop.engine.tail_logs(container.id, lines=3)).split("\n")
            # They are two pipes: which of both the engine reads first is its own affair.
            assert len(tail) == 3
            assert {"499", "500"} <= set(tail)
            assert "to-stderr" in await shop.engine.tail_logs(container.id, lines=501)

        in_workshop(engine_host, work)

    def test_tail_is_bounded_in_bytes(self, engine_host: str) -> None:
        async def work(shop: Workshop) -> None:
            script = "head -c 300000 /dev/zero | tr '\\0' x; echo; echo; seq 1 9999"
            container = await shop.runs(script)
            await shop.engine.wait_until_exited(container.id)
            tail = await shop.engine.tail_logs(container.id, lines=20000, max_bytes=1000)
            assert 900 < len(tail) <= 1000
            assert tail.endswith("\n9998\n9999")
            assert tail.partition("\n")[0].isdecimal()
            one_line = await shop.runs("head -c 300000 /dev/zero | tr '\\0' x")
            await shop.engine.wait_until_exited(one_line.id)
            assert await shop.engine.tail_logs(one_line.id, max_bytes=1000) == "x" * 1000

        in_workshop(engine_host, work)


class TestEvents:
    def test_tell_what_happens_to_our_containers(self, engine_host: str) -> None:
        async def work(shop: Workshop) -> None:
            container = await shop.runs("sleep 1000")
            foreign = shop.raw.create_container("busybox:latest", "true")["Id"]
            async with aclosing(shop.engine.events()) as events:
                # What it remembers comes first.
                told = [await anext(events)]
                shop.raw.start(foreign)
                shop.raw.remove_container(foreign, force=True)
                await shop.engine.stop(container.id, 0)
                await shop.engine.remove(container)
                while told[-1].action != "destroy":
                    told.append(await anext(events))
            assert foreign not in {event.id for event in told}
            ours = [event for event in told if event.id == container.id]
            actions = [event.action for event in ours]
            assert (actions[:2], actions[-3:]) == (["start", "kill"], ["die", "stop", "destroy"])
            assert {(event.app, event.deploy) for event in ours} == {("app", container.deploy)}

        in_workshop(engine_host, work)


class TestEngine:
    def test_that_is_not_there_is_named_with_the_reason(self) -> None:
        async def work() -> None:
            engine = Engine("none", Redactor(), "unix:///nobody/listens.sock")
            with pytest.raises(EngineUnavailableError) as caught:
                await engine.ping()
            assert "unix:///nobody/listens.sock: no such file or directory" in str(caught.value)
            with pytest.raises(EngineUnavailableError):
                async for _ in engine.events():
                    pass
            with pytest.raises(EngineUnavailableError):
                await engine.containers()
            await engine.close()

        asyncio.run(work())

    def test_that_stops_is_missed_at_once_and_found_again(self, own_engine: EngineProcess) -> None:
        async def work() -> None:
            engine = Engine("ours", Redactor(), own_engine.host)
            await engine.ping()
            raw = docker.APIClient(own_engine.host, version="auto")
            hearing = asyncio.ensure_future(anext(engine.events()))

            async def heard() -> bool:
                assert not hearing.done(), hearing
                return int(raw.info()["NEventsListener"]) > 0

            await until(heard, "the engine has a listener")
            raw.close()
            await asyncio.to_thread(own_engine.stops)
            with pytest.raises(EngineUnavailableError):
                await hearing
            for _ in range(2):
                with pytest.raises(EngineUnavailableError, match="cannot connect"):
                    await engine.containers()
            await asyncio.to_thread(own_engine.starts)
            await engine.ping()
            assert await engine.containers() == []
            await engine.close()

        asyncio.run(work())

    def test_on_another_machine_is_refused_with_what_to_do(self) -> None:
        async def work() -> None:
            engine = Engine("none", Redactor(), "ssh://somewhere")
            with pytest.raises(EngineUnavailableError, match="must be on this machine"):
                await engine.ping()
            await engine.close()

        asyncio.run(work())

    def test_words_of_a_refusal_are_passed_on(self, engine_host: str) -> None:
        async def work(shop: Workshop) -> None:
            with pytest.raises(OrchestratorError, match=r"(?i)no such image"):
                await shop.engine.image_port("nobody/nothing:1")
            with pytest.raises(OrchestratorError, match=r"(?i)no such container"):
                await shop.engine.stats("nobody")

        in_workshop(engine_host, work)


def sleeping(shop: Workshop) -> str:
    """A Dockerfile that takes long; nothing of it can be in the engine's cache."""
    return f"FROM busybox:latest\nRUN echo it runs; echo {shop.instance} && exec sleep 1000\n"


async def build_containers(shop: Workshop) -> list[str]:
    """Those in which the engine executes `sleeping`."""
    return [
        one["Id"]
        for one in shop.raw.containers(all=True)
        if shop.instance in one["Command"] and "sleep 1000" in one["Command"]
    ]


async def no_build_runs(shop: Workshop) -> None:
    async def gone() -> bool:
        return not await build_containers(shop)

    await until(gone, "the engine's container of the build is gone")


async def says(shop: Workshop, container: str, text: str) -> bool:
    return text in await shop.engine.tail_logs(container)

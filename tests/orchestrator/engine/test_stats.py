"""The numbers of containers, computed and real."""

import pytest

from orchestrator.engine.container import Container
from orchestrator.engine.stats import StatsReader, container_stats
from tests.orchestrator.workshop import MEMORY, Workshop, in_workshop

BEFORE = {
    "cpu_stats": {
        "cpu_usage": {"total_usage": 1_000},
        "system_cpu_usage": 10_000,
        "online_cpus": 4,
    }
}
NOW = {
    "cpu_stats": {
        "cpu_usage": {"total_usage": 1_500},
        "system_cpu_usage": 14_000,
        "online_cpus": 4,
    },
    "memory_stats": {"usage": 300, "limit": 1000, "stats": {"inactive_file": 50}},
    "networks": {"eth0": {"rx_bytes": 1, "tx_bytes": 2}, "eth1": {"rx_bytes": 10, "tx_bytes": 20}},
    "pids_stats": {"current": 3},
}


class TestNumbers:
    def test_are_what_was_used_between_two_readings(self) -> None:
        assert container_stats(BEFORE, NOW) == {
            "cpu_percent": 50.0,
            "mem_percent": 25.0,
            "mem_usage_bytes": 250,
            "mem_limit_bytes": 1000,
            "net_rx_bytes": 11,
            "net_tx_bytes": 22,
            "pids": 3,
        }

    def test_know_the_cache_of_the_older_control_groups(self) -> None:
        memory = {"usage": 300, "limit": 1000, "stats": {"total_inactive_file": 100}}
        assert container_stats(BEFORE, {**NOW, "memory_stats": memory})["mem_usage_bytes"] == 200

    def test_of_a_container_that_has_just_ended_are_zero(self) -> None:
        ended = {"cpu_stats": {"cpu_usage": {"total_usage": 0}}, "memory_stats": {}}
        assert set(container_stats(BEFORE, ended).values()) == {0}


class TestReader:
    def test_tells_of_every_container_of_the_instance(self, engine_host: str) -> None:
        async def work(shop: Workshop) -> None:
            busy = await shop.runs("while :; do :; done", cpus=0.5)
            idle = await shop.runs("sleep 1000")
            ended = await shop.runs("true")
            await shop.engine.wait_until_exited(ended.id)
            reader = StatsReader(shop.engine)
            known = {one["id"]: one for one in (await reader.read())["containers"]}
            assert set(known) == {busy.id, idle.id, ended.id}
            assert known[busy.id]["cpu_percent"] > known[idle.id]["cpu_percent"]
            assert known[busy.id]["mem_limit_bytes"] == MEMORY
            assert 0 < known[busy.id]["mem_usage_bytes"] < MEMORY
            assert 0 < known[busy.id]["mem_percent"] < 100
            assert known[busy.id]["name"] == busy.name
            assert (known[idle.id]["app"], known[idle.id]["state"]) == ("app", "running")
            assert known[ended.id]["state"] == "exited"
            assert known[ended.id]["mem_limit_bytes"] == MEMORY
            again = await reader.read()
            assert len(again["containers"]) == 3

        in_workshop(engine_host, work)

    def test_lists_one_that_fails_with_its_error(
        self, engine_host: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def work(shop: Workshop) -> None:
            well = await shop.runs("sleep 1000")
            gone = await shop.runs("sleep 1000")
            listed = await shop.engine.containers()
            shop.raw.remove_container(gone.id, force=True)

            async def a_moment_ago() -> list[Container]:
                return list(listed)

            with monkeypatch.context() as patch:
                patch.setattr(shop.engine, "containers", a_moment_ago)
                known = (await StatsReader(shop.engine).read())["containers"]
            errors = {one["id"]: one.get("error") for one in known}
            assert errors[well.id] is None
            assert "No such container" in errors[gone.id]

        in_workshop(engine_host, work)

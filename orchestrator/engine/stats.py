"""Owns the stats of containers: CPU, memory, network, as `GET /api/stats` shows them.

The names are godeploy-platform's.
"""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

from orchestrator.engine.container import Container
from orchestrator.engine.engine import Engine
from orchestrator.errors import OrchestratorError

# Containers that are read at once.
MAX_CONCURRENT_READS: Final = 8
# Seconds that one may take: an engine under load answers slowly, a broken container never.
READ_TIMEOUT: Final = 5.0
# CPU is what was used between two readings: this many seconds at least,
MIN_SAMPLE_INTERVAL: Final = 0.25
# and at most as many: what was long ago says nothing about now.
MAX_SAMPLE_AGE: Final = 30.0


class StatsReader:
    """Remembers the last reading of each container that is there."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._last: dict[str, tuple[float, Mapping[str, Any]]] = {}
        self._semaphore = asyncio.Semaphore(MAX_CONCURRENT_READS)

    async def read(self) -> dict[str, Any]:
        """All containers of this instance; one that cannot be read is there with its error."""
        containers = await self._engine.containers()
        there = {container.id for container in containers}
        self._last = {name: last for name, last in self._last.items() if name in there}
        containers.sort(key=lambda container: (container.app, -container.deploy))
        return {"containers": await asyncio.gather(*map(self._one, containers))}

    async def _one(self, container: Container) -> dict[str, Any]:
        known = {
            "id": container.id,
            "name": container.name,
            "app": container.app,
            "deploy_id": container.deploy,
            "state": container.state,
            **container_stats({}, {}),
        }
        if not container.is_running:
            return {**known, "mem_limit_bytes": container.memory}
        try:
            async with self._semaphore, asyncio.timeout(READ_TIMEOUT):
                return {**known, **await self._sample(container.id)}
        except TimeoutError:
            return {**known, "error": f"no stats within {READ_TIMEOUT:g} s"}
        except (OrchestratorError, KeyError, TypeError) as error:
            return {**known, "error": str(error)}

    async def _sample(self, container: str) -> dict[str, Any]:
        then, before = self._last.get(container, (0.0, {}))
        if time.monotonic() - then > MAX_SAMPLE_AGE:
            before = await self._engine.stats(container)
            then = time.monotonic()
        await asyncio.sleep(then + MIN_SAMPLE_INTERVAL - time.monotonic())
        now = await self._engine.stats(container)
        self._last[container] = (time.monotonic(), now)
        return container_stats(before, now)


def container_stats(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """What two answers of `GET /containers/ID/stats` amount to. Pure.

    As `docker stats` has it: 100 percent of CPU is one core; memory without the file cache that
    the kernel can take back at any time.
    """
    memory = now.get("memory_stats", {})
    details = memory.get("stats", {})
    # The first is of cgroup v1, the second of v2.
    cache = details.get("total_inactive_file", details.get("inactive_file", 0))
    usage = max(0, memory.get("usage", 0) - cache)
    limit = memory.get("limit", 0)
    networks = (now.get("networks") or {}).values()
    return {
        "cpu_percent": _cpu_percent(before.get("cpu_stats", {}), now.get("cpu_stats", {})),
        "mem_percent": round(usage / limit * 100, 2) if limit else 0.0,
        "mem_usage_bytes": usage,
        "mem_limit_bytes": limit,
        "net_rx_bytes": sum(network["rx_bytes"] for network in networks),
        "net_tx_bytes": sum(network["tx_bytes"] for network in networks),
        "pids": now.get("pids_stats", {}).get("current", 0),
    }


def _cpu_percent(before: Mapping[str, Any], now: Mapping[str, Any]) -> float:
    if "system_cpu_usage" not in before or "system_cpu_usage" not in now:
        return 0.0
    used = now["cpu_usage"]["total_usage"] - before["cpu_usage"]["total_usage"]
    passed = now["system_cpu_usage"] - before["system_cpu_usage"]
    if used <= 0 or passed <= 0:
        return 0.0
    return round(float(used / passed * now.get("online_cpus", 1) * 100), 2)

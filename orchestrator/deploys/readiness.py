"""Owns the health check of a new container, and the explanation of a failure."""

import asyncio
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from orchestrator.deploys import http_probe
from orchestrator.engine.container import Container
from orchestrator.engine.engine import Engine
from orchestrator.errors import StepError

# Seconds after the first probe, if it failed. Each further pause is twice as long, up to the
# interval: an app that is up in 50 ms is not waited for 250.
INITIAL_INTERVAL: Final = 0.01
# Results that a history keeps: an app that flaps must not fill the error.
MAX_RESULTS: Final = 20


@dataclass(frozen=True, slots=True)
class HealthCheck:
    """What is requested, and for how long (seconds). `port` is the one in the container."""

    path: str
    host: str
    port: int
    statuses: Collection[int] = range(200, 400)
    interval: float = 0.25
    timeout: float = 30.0


@dataclass(frozen=True, slots=True)
class HealthResult:
    """How it became healthy."""

    attempts: int
    seconds: float
    target: str  # where it is reached
    status: int


@dataclass(slots=True)
class _RepeatedResult:
    """One result, and how often it came in a row. Times are seconds from the first probe."""

    text: str
    count: int
    first: float
    last: float
    body: str


@dataclass(slots=True)
class ProbeHistory:
    """The results of the probes, in order; equal ones in a row are counted as one."""

    results: list[_RepeatedResult] = field(default_factory=list)
    attempts: int = 0
    dropped: int = 0  # results

    def add(self, found: http_probe.ProbeResult, at: float) -> bool:
        """Add a result; whether it differs from the one before."""
        self.attempts += 1
        if self.results and self.results[-1].text == found.text:
            result = self.results[-1]
            result.count, result.last, result.body = result.count + 1, at, found.body
            return False
        self.results.append(_RepeatedResult(found.text, 1, at, at, found.body))
        if len(self.results) > MAX_RESULTS:
            del self.results[MAX_RESULTS // 2]
            self.dropped += 1
        return True

    def __str__(self) -> str:
        lines = []
        for result in self.results:
            when = f"from {result.first:.1f} to {result.last:.1f} s" if result.count > 1 else ""
            times = "once" if result.count == 1 else f"{result.count} times"
            body_text = f' ("{result.body}")' if result.body else ""
            lines.append(f"{result.text}{body_text} {times} {when or f'at {result.first:.1f} s'}")
        if self.dropped:
            lines.insert(MAX_RESULTS // 2, f"({self.dropped} more changes)")
        return "; then ".join(lines) or "none"

    def as_json(self) -> list[dict[str, object]]:
        """The same for programs."""
        return [
            {
                "result": result.text,
                "count": result.count,
                "first": round(result.first, 3),
                "last": round(result.last, 3),
                "body": result.body,
            }
            for result in self.results
        ]


async def wait_until_healthy(
    engine: Engine, container_id: str, check: HealthCheck, on_line: Callable[[str], None]
) -> HealthResult:
    """Ask until an answer is a good one. `on_line` hears of every new result.

    Raises StepError, kind "early_exit" at once when the container ends, kind "unhealthy" when the
    time is over; the text is the cause, as far as it can be found.
    """
    begun = time.monotonic()
    container = await _require_running(engine, container_id, 0.0)
    target = container.target
    if target is None:
        raise StepError("unhealthy", "the container was taken out of the network of its app")
    history = ProbeHistory()
    probing = asyncio.create_task(_probe_until_healthy(target, check, history, on_line))
    exiting = asyncio.create_task(engine.wait_until_exited(container_id))
    try:
        await asyncio.wait(
            (probing, exiting), timeout=check.timeout, return_when=asyncio.FIRST_COMPLETED
        )
        if exiting.done():
            exiting.result()
            # Whatever answered meanwhile: nobody is there any more.
            await _require_running(engine, container_id, time.monotonic() - begun)
        if probing.done():
            seconds = time.monotonic() - begun
            return HealthResult(history.attempts, round(seconds, 3), target, probing.result())
    finally:
        for task in (probing, exiting):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task
    raise await _unhealthy(engine, container_id, check, target, history)


async def _probe_until_healthy(
    target: str, check: HealthCheck, history: ProbeHistory, on_line: Callable[[str], None]
) -> int:
    """The first good status."""
    begun = time.monotonic()
    pause = INITIAL_INTERVAL
    async with http_probe.client() as sender:
        while True:
            found = await http_probe.send(sender, target, check.path, check.host)
            at = time.monotonic() - begun
            if history.add(found, at):
                body_text = f": {found.body}" if found.body else ""
                on_line(f"GET {check.path} on {target} after {at:.2f} s: {found.text}{body_text}")
            if found.status is not None and found.status in check.statuses:
                return found.status
            await asyncio.sleep(min(pause, check.interval))
            pause *= 2


async def _require_running(engine: Engine, container_id: str, seconds: float) -> Container:
    """The container, which runs. Raises StepError, kind "early_exit", if it does not."""
    container = await engine.inspect(container_id)
    if container is None:
        raise StepError("early_exit", "the container was removed during the health check")
    # A restart that somebody else's policy brought is an end too.
    if container.is_running and not container.restart_count:
        return container
    logs = await engine.tail_logs(container_id)
    lines = [
        f"container exited early with code {container.exit_code}{exit_code_hint(container)}; logs:"
    ]
    raise StepError(
        "early_exit",
        "\n".join([*lines, logs or "(no output)"]),
        {
            "exit_code": container.exit_code,
            "oom_killed": container.oom_killed,
            "exited_after_s": round(seconds, 3),
            "log": logs,
        },
    )


def exit_code_hint(container: Container) -> str:
    """What an exit code tells, as "" or " (...)"."""
    if container.oom_killed:
        limit = f"{container.memory / 2**20:g} MiB"
        return f" (out of memory: it exceeded the limit of {limit}, see FAIRLEAD_MEMORY)"
    return {
        0: " (its main process ended; a server must stay in the foreground)",
        126: " (its command cannot be executed)",
        127: " (its command was not found)",
        137: " (SIGKILL)",
        139: " (segmentation fault)",
        143: " (SIGTERM)",
    }.get(container.exit_code, "")


async def _unhealthy(
    engine: Engine,
    container_id: str,
    check: HealthCheck,
    target: str,
    history: ProbeHistory,
) -> StepError:
    container = await _require_running(engine, container_id, check.timeout)
    sockets = await engine.open_ports(container)
    logs = await engine.tail_logs(container_id)
    cause = [] if sockets is None else listening_cause(sockets, check.port)
    return StepError(
        "unhealthy",
        "\n".join(
            [
                (
                    f"the app did not become healthy within {check.timeout:g} s:"
                    f" GET {check.path} on {target} (port {check.port} of the container),"
                    f" Host {check.host or target}"
                ),
                *cause,
                f"probes: {history}",
                "last lines:",
                logs or "(no output)",
            ]
        ),
        {
            "probes": history.as_json(),
            "attempts": history.attempts,
            "port": check.port,
            "listening": None
            if sockets is None
            else [f"[{at}]:{port}" if ":" in at else f"{at}:{port}" for at, port in sockets],
            "log": logs,
        },
    )


def listening_cause(sockets: list[tuple[str, int]], expected: int) -> list[str]:
    """What is wrong with where an app listens, if anything is. Pure."""
    if not sockets:
        return [f"the app is not listening on any port; expected port {expected}"]
    addresses = [address for address, port in sockets if port == expected]
    if not addresses:
        ports = sorted({port for _, port in sockets})
        names = ", ".join(map(str, ports))
        return [
            (
                f"the app is listening on port {names}, expected port {expected}: make it listen on"
                f" the port in the environment variable PORT, or set EXPOSE {ports[0]} in the"
                " Dockerfile"
            )
        ]
    if all(address == "::1" or address.startswith("127.") for address in addresses):
        return [
            (
                f"the app is listening on {addresses[0]} only, which cannot be reached from outside"
                f" the container: bind to 0.0.0.0:{expected}"
            )
        ]
    return []

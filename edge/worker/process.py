"""Owns a worker process: what it is told and asked by its supervisor, and how it ends.

All it is given is the number of the channel's file descriptor. When the supervisor dies, it
drains and ends: nobody could reach it any more. Where it can not, the kernel sees to that.
"""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import uvloop

from edge import compiled
from edge.control import lifeline
from edge.control.channel import CONFIG_EXIT, Channel, Message
from edge.control.handover import adopt
from edge.errors import ConfigError
from edge.routing.snapshot_memory import SnapshotMemory
from edge.rules.rate_limit import map_descriptor
from edge.settings.settings import load
from edge.telemetry import standard_error
from edge.upstream.health import TargetState, Verdict
from edge.upstream.known_names import KnownName, as_json, from_json
from edge.wire.codec import CHOICE
from edge.worker.worker import Worker, WorseTableError

logger = logging.getLogger(__name__)

# Seconds between two heartbeats. Each carries what has been counted since the last one: that is
# all that is lost of the counters when the process is killed.
HEARTBEAT_INTERVAL: Final = 1.0

# Bytes that may wait for a supervisor that does not read; then what can be said later is not sent.
# What a loop has just written waits there too, until its next turn.
MAX_UNSENT: Final = 64 * 2**10

# Seconds for which another thread may keep the interpreter from the loop (the default is 5 ms):
# loading a large route table must not be felt.
SWITCH_INTERVAL: Final = 0.0005

# Objects more than before that could be in a cycle, until the collector looks at the young ones.
# What lives and dies with a request is in none: with 1,000 in flight, Python's own 700 had it look
# at them again and again in each turn of the loop, for a tenth of all CPU.
YOUNG_OBJECTS: Final = 20_000

# What `ps` and `top` call this process: all of an edge may have the same command line.
_NAME: Final = Path("/proc/self/comm")


class WorkerProcess:
    """A worker and its channel."""

    def __init__(self) -> None:
        self._channel = Channel(self._on_notify, self._on_request)
        self._hello: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._stop = asyncio.Event()
        # By target and kind, of which the last one says all that counts.
        self._unsent_verdicts: dict[tuple[str, str], Verdict] = {}
        self._worker: Worker

    async def run(self, sock: socket.socket) -> int:
        """Serve until told to drain; the exit code."""
        await self._channel.open(sock)
        listening = asyncio.create_task(self._channel.listen())
        listening.add_done_callback(lambda _: self._stop.set())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop.set)
        events: list[asyncio.Future[Any]] = [self._hello, listening]
        await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
        if not self._hello.done():
            return 0
        hello = self._hello.result()
        logging.basicConfig(
            format=f"%(asctime)s %(levelname)s worker {hello['slot']}: %(message)s",
            level=logging.INFO,
            stream=sys.stderr,
        )
        for part, choice in (("head codec", CHOICE), ("conversation", compiled.chosen())):
            if choice.failure and hello["leader"]:
                logger.warning(
                    "the compiled %s does not load, so the pure one runs, which costs more CPU for"
                    " each request: %s",
                    part,
                    choice.failure,
                )
        try:
            await self._start(hello)
        except ConfigError as error:
            logger.error("%s", error)
            return CONFIG_EXIT
        except WorseTableError as error:
            logger.error("this edge must not take over: %s", error)
            self._channel.notify("unfit", {"reason": str(error)})
            await self._worker.stop()
            await self._channel.finish()
            return CONFIG_EXIT
        # What exists now exists for good; the collector need not look at it again and again.
        gc.freeze()
        heartbeats = asyncio.create_task(self._heartbeat())
        await self._stop.wait()
        if not await self._worker.drain():
            logger.warning("drain timeout: requests and tunnels still in flight are cut off")
        heartbeats.cancel()
        self._report_counts("heartbeat")
        await self._worker.stop()
        self._channel.close()
        return 0

    async def _start(self, hello: Message) -> None:
        rates = map_descriptor(hello["rates"])
        memory = SnapshotMemory(hello["tables"])
        self._worker = worker = Worker(load(hello["settings"], {}), shared=rates, memory=memory)
        worker.state.leader = hello["leader"]
        worker.state.health.probing = False
        worker.state.health.on_verdict = self._report_verdict
        for verdict in hello["verdicts"]:
            worker.state.health.apply(Verdict.from_json(verdict))
        worker.state.resolver.take_on(from_json(hello["names"]))
        worker.state.resolver.tell = self._report_names
        await worker.start([adopt(fd) for fd in hello["listeners"]], hello["predecessor"])
        for address in hello["drained"]:
            await worker.drains.drain(address, 0)
        worker.state.health.probing = worker.state.leader
        self._report_counts(
            "ready",
            codec=CHOICE.name,
            conversation=compiled.chosen().name,
            why_pure=CHOICE.why or compiled.chosen().why,
        )

    async def _heartbeat(self) -> None:
        while True:
            lifeline.limit(lifeline.HANG_LIMIT)
            await asyncio.sleep(HEARTBEAT_INTERVAL)
            self.beat()

    def beat(self) -> None:
        """Tell the supervisor all that has changed, if it reads what it was told before."""
        if self._channel.unsent <= MAX_UNSENT:
            self._report_counts("heartbeat")
            self._send_verdicts()
            self._worker.state.resolver.report()

    def _report_counts(self, kind: str, **more: str) -> None:
        worker = self._worker
        worker.count_resources()
        worker.state.metrics.log_dropped = standard_error.dropped()
        self._channel.notify(
            kind,
            {
                "version": worker.routes.version,
                "why_not_ready": worker.why_not_ready(),
                "problem": worker.routes.problem,
                "drained": worker.drains.addresses(),
                "counts": worker.state.metrics.changes(),
                **more,
            },
        )

    def _report_names(self, names: Sequence[KnownName]) -> bool:
        """What cannot be said now is said with a heartbeat."""
        if self._channel.unsent > MAX_UNSENT:
            return False
        self._channel.notify("names", {"names": as_json(names)})
        return True

    def _report_verdict(self, verdict: Verdict) -> None:
        self._unsent_verdicts[verdict.address, verdict.kind] = verdict
        if self._channel.unsent <= MAX_UNSENT:
            self._send_verdicts()

    def _send_verdicts(self) -> None:
        for verdict in self._unsent_verdicts.values():
            self._channel.notify("verdict", {"verdict": verdict.as_json()})
        self._unsent_verdicts.clear()

    def _on_notify(self, message: Message) -> None:
        match message["kind"]:
            case "hello":
                self._hello.set_result(message)
            case "drain":
                self._stop.set()
            case "reopen":
                if self._worker.state.access_log is not None:
                    self._worker.state.access_log.reopen()
            case "verdict":
                self._worker.state.health.apply(Verdict.from_json(message["verdict"]))
            case "names":
                self._worker.state.resolver.take_on(from_json(message["names"]))
            case "undrain_target":
                self._worker.drains.undrain(message["target"])
                self._report_counts("heartbeat")
            case unknown:
                raise ValueError(f"unknown notification {unknown}")

    async def _on_request(self, message: Message) -> Message:
        worker = self._worker
        match message["kind"]:
            case "reload":
                version = await worker.routes.reload(message["force"])
                self._report_counts("heartbeat")
                return {"version": version, "problem": worker.routes.error}
            case "adopt":
                found = await worker.routes.adopt()
                self._report_counts("heartbeat")
                return {"found": found, "version": worker.routes.version}
            case "drain_target":
                result = await worker.drains.drain(
                    message["target"], message["timeout"], message["tunnel_timeout"]
                )
                self._report_counts("heartbeat")
                return asdict(result)
            case "counts":
                # Notified and not answered: responses overtake, and the newer numbers must win.
                self._report_counts("heartbeat")
                return {}
            case "missing":
                table = worker.state.table
                known = [] if table is None else message["keys"]
                return {"missing": [key for key in known if key not in (table or ())]}
            case "verdicts":
                return {"verdicts": [each.as_json() for each in worker.state.health.verdicts()]}
            case "targets":
                return {"targets": [_described(state) for state in worker.state.health.states()]}
            case unknown:
                raise ValueError(f"unknown request {unknown}")


def _described(state: TargetState) -> Message:
    """As `/routes` shows it."""
    found = state._asdict()
    if not state.addresses and not state.name_error:
        # No name, or one that nobody has asked for.
        del found["addresses"], found["name_error"]
    return {"target": found.pop("address"), **found}


async def _run(descriptor: int) -> int:
    return await WorkerProcess().run(socket.socket(fileno=descriptor))


def main(descriptor: int) -> int:
    """Run the worker at this end of the channel; the exit code."""
    with contextlib.suppress(OSError):
        _NAME.write_text("fairlead-worker")
    # Once more: an interpreter with file capabilities has lost it at its exec.
    lifeline.resume_with_parent()
    standard_error.install()
    sys.setswitchinterval(SWITCH_INTERVAL)
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_run(descriptor))

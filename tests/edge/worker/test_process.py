"""Proves what a worker says to a supervisor that has stopped to read: nothing that piles up."""

import asyncio
import socket
from pathlib import Path

import orjson

from edge.upstream.health import Verdict
from edge.worker.process import MAX_UNSENT, WorkerProcess
from edge.worker.worker import Worker
from tests.harness import settings_for

PATIENCE = 60.0
BEATS = 2000
ROUTES = 50


def test_what_a_supervisor_does_not_read_does_not_pile_up(tmp_path: Path) -> None:
    async def conversation() -> None:
        process = WorkerProcess()
        ours, theirs = socket.socketpair()
        await process._channel.open(theirs)
        process._worker = worker = Worker(settings_for(db=tmp_path / "fairlead.db"))
        largest = 0
        for beat in range(BEATS):
            for number in range(ROUTES):
                worker.state.metrics.route(f"r{number}.test").record(200, 0.1)
            verdict = Verdict(f"127.0.0.1:{beat % 3}", beat % 2 == 0, f"{beat}", "checks")
            process._report_verdict(verdict)
            process.beat()
            await asyncio.sleep(0)
            largest = max(largest, process._channel.unsent)
        # One heartbeat more than that may have been begun.
        assert MAX_UNSENT < largest < 2 * MAX_UNSENT

        reader, writer = await asyncio.open_connection(sock=ours)
        verdicts: dict[str, str] = {}
        counted = 0
        while counted < BEATS or len(verdicts) < 3 or min(map(int, verdicts.values())) < BEATS - 3:
            message = orjson.loads(await reader.readline())
            if message["kind"] == "verdict":
                verdicts[message["verdict"]["address"]] = message["verdict"]["reason"]
            else:
                counts = message["counts"]["routes"]
                counted = int(sum(counts["r0.test"][6:16])) if counts else counted
            # As once a second.
            process.beat()
        assert counted == BEATS
        assert sorted(map(int, verdicts.values())) == [BEATS - 3, BEATS - 2, BEATS - 1]
        process._channel.close()
        writer.close()
        worker.routes.close()
        worker.state.authenticator.close()
        worker.state.health.close()

    asyncio.run(asyncio.wait_for(conversation(), PATIENCE))
